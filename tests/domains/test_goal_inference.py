"""Goals, plans and their equivalence, against enumeration of all states and against kept libraries."""

import itertools
import json
import random
import sqlite3

import networkx
import pytest
from reference.blocksworld import DOMAIN_PDDL

from sentax.domains.goal_inference import (
    GoalInference,
    PDDLError,
    PlanCheck,
    PlanError,
    Problem,
    complete,
    equivalent,
    find_plan,
    read_goal,
    read_problem,
    simulate,
    write_goal,
)
from sentax.domains.goal_inference.strips import actions

DOMAIN = GoalInference()
ALL = GoalInference(explicit=False, unique=False)
SAMPLE = DOMAIN.sample()


def states_of(blocks):
    """Every state that can be reached, by the four actions from one of them."""
    start = frozenset({("arm-empty",)} | {(p, b) for b in blocks for p in ("on-table", "clear")})
    seen, queue = {start}, [start]
    for state in queue:
        for action in actions(state):
            after = action.apply(state)
            if after not in seen:
                seen.add(after)
                queue.append(after)
    return seen


def facts_of(blocks):
    facts = [("arm-empty",)]
    for block in blocks:
        facts += [(p, block) for p in ("clear", "on-table", "holding")]
        facts += [("on", block, other) for other in blocks]
    return facts


def test_number_of_states():
    """Blocks in towers: 1, 3, 13, 73, 501 (sets of lists, OEIS A000262), and one held over the others'."""
    lists = {0: 1, 1: 1, 2: 3, 3: 13, 4: 73}
    for n in (1, 2, 3, 4):
        assert len(states_of([f"b{i}" for i in range(n)])) == lists[n] + n * lists[n - 1]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_completion_against_all_states(size):
    """The facts common to all states in which a goal holds; for every goal of up to three facts."""
    blocks = [f"b{i}" for i in range(1, size + 1)]
    states = states_of(blocks)
    for length in range(4):
        for goal in itertools.combinations(facts_of(blocks), length):
            having = [state for state in states if state.issuperset(goal)]
            assert complete(goal, blocks) == (frozenset.intersection(*having) if having else None), goal


def test_completion_of_longer_goals():
    """Parts of states of four blocks, where towers leave less open."""
    rng = random.Random(0)
    blocks = ["b1", "b2", "b3", "b4"]
    states = sorted(states_of(blocks), key=sorted)
    for _ in range(400):
        state = sorted(rng.choice(states))
        goal = rng.sample(state, rng.randint(0, len(state)))
        if rng.random() < 0.3:
            goal.append(rng.choice(facts_of(blocks)))
        having = [s for s in states if s.issuperset(goal)]
        assert complete(goal, blocks) == (frozenset.intersection(*having) if having else None), goal


def scene_graph(problem, goal, placeholder):
    """Planetarium's graph: blocks and facts as nodes, edges by the place of a block in a fact."""
    graph = networkx.MultiDiGraph()
    graph.add_nodes_from((block, {"label": "block"}) for block in problem.objects)
    scenes = (("goal", complete(goal, problem.objects)), ("init", () if placeholder else problem.init))
    for scene, facts in scenes:
        for number, fact in enumerate(sorted(facts)):
            graph.add_node((scene, number), label=f"{scene} {fact[0]}")
            for place, block in enumerate(fact[1:]):
                graph.add_edge((scene, number), block, place=place)
    return graph


def isomorphic(problem, one, other, placeholder):
    return networkx.is_isomorphic(
        scene_graph(problem, one, placeholder),
        scene_graph(problem, other, placeholder),
        node_match=lambda a, b: a["label"] == b["label"],
        edge_match=lambda a, b: [e["place"] for e in a.values()] == [e["place"] for e in b.values()],
    )


def test_equivalence_against_networkx():
    rng = random.Random(1)
    blocks = ("b1", "b2", "b3", "b4")
    states = sorted(states_of(blocks), key=sorted)
    verdicts = {(p, v): 0 for p in (True, False) for v in (True, False)}
    for _ in range(250):
        init, end = rng.choice(states), sorted(rng.choice(states))
        goal = rng.sample(end, rng.randint(1, len(end)))
        renaming = dict(zip(blocks, rng.sample(blocks, 4)))
        if rng.random() < 0.5:
            i, j = rng.sample(blocks, 2)
            renaming = dict(zip(blocks, blocks)) | {i: j, j: i}
        other = [(p, *(renaming[b] for b in bs)) for p, *bs in goal]
        if rng.random() < 0.3:
            another = sorted(rng.choice(states))
            other = rng.sample(another, min(len(another), len(goal)))
        problem = Problem("p", blocks, init, tuple(goal))
        for placeholder in (True, False):
            verdict = equivalent(problem, other, placeholder=placeholder)
            assert verdict is isomorphic(problem, goal, other, placeholder)
            verdicts[placeholder, verdict] += 1
    assert min(verdicts.values()) > 25, verdicts


def assert_gold_is_right(tasks, rng):
    for task in tasks:
        goal = list(task.problem.goal)
        assert ALL.score(task, ALL.gold(task)) == 1
        rng.shuffle(goal)
        assert ALL.score(task, write_goal(goal)) == 1
        assert ALL.score(task, write_goal(goal + goal)) == 1
        # Implied facts may be left out or added.
        whole = sorted(complete(goal, task.problem.objects))
        assert ALL.score(task, write_goal(whole)) == 1
        # Another fact of another state is another goal, unless it was implied or renames blocks.
        for fact in rng.sample(facts_of(task.problem.objects), 6):
            for changed in ([*goal, fact], [fact, *goal[1:]]):
                closed = complete(changed, task.problem.objects)
                expected = closed == frozenset(whole)
                if closed is not None and not expected and len(task.problem.objects) <= 4:
                    expected = isomorphic(task.problem, goal, changed, task.placeholder)
                elif closed is not None and not expected and len(closed) == len(whole):
                    continue  # perhaps a renaming; judged above on small problems
                assert ALL.score(task, write_goal(changed)) == expected, (task.id, changed)


def assert_checks_agree(tasks):
    for task in tasks:
        check, gold = PlanCheck(task), ALL.gold(task)
        assert check.complete_ok(gold)
        assert all(check.prefix_ok(gold[:end]) for end in range(len(gold)))
        assert set(task.problem.goal) <= check.final
        false = next(f for f in facts_of(task.problem.objects) if f not in check.final)
        wrong = write_goal([*task.problem.goal, false])
        assert not check.prefix_ok(wrong)
        assert not check.complete_ok(wrong)
        assert check.prefix_ok(wrong.rstrip(")"))  # a fact is judged when it is closed


def test_gold_goals_of_the_sample():
    assert_gold_is_right(SAMPLE, random.Random(2))
    assert_checks_agree(SAMPLE)


def test_gold_goals_of_planetarium(data):
    tasks = ALL.load(data)
    assert len(tasks) == 240
    assert_gold_is_right(tasks, random.Random(3))
    assert_checks_agree(tasks)


def accepts(grammar, text):
    dfa, state = grammar.to_dfa(), 0
    for byte in text.encode():
        state = dfa.delta[state, dfa.classes[byte]]
    return bool(dfa.accepting[state])


def test_the_grammar():
    task = SAMPLE[0]
    grammar = DOMAIN.cheap(task)
    assert accepts(grammar, DOMAIN.gold(task))
    for text in (" (on b1 b2)))", "(arm-empty) ))", " (on b1 b1) (on b1 b1)))"):
        assert accepts(grammar, text)
        read_goal(text, task.problem.objects)
    wrong = ("", "))", " (on b1 b2))", " (on b1 b9)))", " (on b1)))", "  (arm-empty)))", " (and (arm-empty))))")
    assert not any(accepts(grammar, text) for text in wrong)


def test_the_grammar_on_planetarium(data):
    grammars = {}
    for task in ALL.load(data):
        objects = task.problem.objects
        if objects not in grammars:
            grammars[objects] = ALL.cheap(task)
        assert accepts(grammars[objects], ALL.gold(task)), task


def test_only_the_papers_problems_are_loaded_by_default(data):
    tasks = DOMAIN.load(data)
    assert 0 < len(tasks) < 60
    assert all(task.description.startswith("Your goal is to have the following") for task in tasks)
    assert not any(task.placeholder for task in tasks)


def test_plans_are_shortest():
    """A* against breadth-first search over all states."""
    rng = random.Random(4)
    blocks = ["b1", "b2", "b3", "b4"]
    states = sorted(states_of(blocks), key=sorted)
    for _ in range(25):
        init, end = rng.choice(states), sorted(rng.choice(states))
        goal = rng.sample(end, rng.randint(1, 4))
        distance, front, seen = 0, {init}, {init}
        while not any(state.issuperset(goal) for state in front):
            front = {a.apply(s) for s in front for a in actions(s)} - seen
            seen |= front
            distance += 1
        plan = find_plan(init, goal)
        assert len(plan) == distance
        assert simulate(init, plan).issuperset(goal)


@pytest.mark.slow
def test_plans_of_planetarium(data):
    """A plan is found for every problem, never longer than the one that comes with it."""
    for task in ALL.load(data):
        plan = find_plan(task.problem.init, task.problem.goal)
        assert simulate(task.problem.init, plan).issuperset(task.problem.goal)
        assert len(plan) <= len(task.plan)


def test_simulation_against_unified_planning():
    """Every action in every state along random walks, by a library's simulator."""
    shortcuts = pytest.importorskip("unified_planning.shortcuts")
    from unified_planning.io import PDDLReader

    shortcuts.get_environment().credits_stream = None
    text = SAMPLE[0].beginning + SAMPLE_GOAL
    problem = PDDLReader().parse_problem_string(DOMAIN_PDDL, text)
    blocks = [o.name for o in problem.all_objects]
    rng = random.Random(5)
    ours = read_problem(text).init
    with shortcuts.SequentialSimulator(problem) as simulator:
        state = simulator.get_initial_state()
        for _ in range(12):
            theirs = {}
            for action, arguments in simulator.get_applicable_actions(state):
                theirs[(action.name, *(str(a) for a in arguments))] = action, arguments
            assert set(theirs) == {action.name for action in actions(ours)}
            chosen = rng.choice(actions(ours))
            ours = chosen.apply(ours)
            state = simulator.apply(state, *theirs[chosen.name])
            for fact in facts_of(blocks):
                if len(set(fact)) == len(fact):
                    fluent = problem.fluent(fact[0])(*(problem.object(b) for b in fact[1:]))
                    assert state.get_value(fluent).bool_constant_value() is (fact in ours), fact


SAMPLE_GOAL = DOMAIN.gold(SAMPLE[0]) + "\n)"


def test_plans_that_cannot_be_carried_out():
    init = SAMPLE[0].problem.init
    with pytest.raises(PlanError, match=r"step 1: \(pickup b3\) needs"):
        simulate(init, ["(pickup b3)"])
    with pytest.raises(PlanError, match="not an action"):
        simulate(init, ["(fly b3)"])
    with pytest.raises(PlanError, match="no plan leads to"):
        find_plan(init, [("on", "b1", "b2"), ("on", "b2", "b1")])
    with pytest.raises(PlanError, match="no plan among 3 states"):
        find_plan(init, SAMPLE[0].problem.goal, max_states=3)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ")",
        "))",
        " (on b1 b2))",
        " (on b1 b2)))) (clear b1)",
        " (on b1)))",
        " (on b1 b9)))",
        " (not (on b1 b2))))",
        " (above b1 b2)))",
        " on b1 b2))",
        " (or (on b1 b2))))",
        "(" * 5000,
        ")" * 5000,
        " ()))",
    ],
)
def test_texts_that_are_no_goals(text):
    with pytest.raises(PDDLError):
        read_goal(text, ("b1", "b2", "b3"))
    assert DOMAIN.score(SAMPLE[0], text) == 0


def test_goals_are_read_and_written():
    assert read_goal("(HANDEMPTY)\n (ontable b1) ))", ["b1"]) == (("arm-empty",), ("on-table", "b1"))
    goal = SAMPLE[0].problem.goal
    assert read_goal(write_goal(goal), SAMPLE[0].problem.objects) == goal
    assert DOMAIN.score(SAMPLE[0], " (on b1 b1)))") == 0  # no state has it


ROW = {
    "id": 7,
    "domain": "blocksworld",
    "init": "stack",
    "goal": "tower",
    "num_objects": 2,
    "init_is_abstract": 0,
    "goal_is_abstract": 0,
    "is_placeholder": 0,
    "natural_language": "Your arm is empty. b2 is on b1.\nYour goal is to have b1 on b2.",
    "problem_pddl": "(define (problem p)\r\n (:domain blocksworld)\r\n (:objects b1 b2)\r\n "
    "(:init (arm-empty) (on-table b1) (on b2 b1) (clear b2))\r\n (:goal (and (on b1 b2))))",
}


def rows():
    abstract = ROW | {"id": 8, "goal_is_abstract": 1, "is_placeholder": 1}
    return [ROW, ROW | {"id": 9}, abstract, ROW | {"id": 10, "domain": "gripper"}]


def write_jsonl(folder):
    (folder / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows()))


def write_database(folder):
    connection = sqlite3.connect(folder / "dataset.db")
    connection.execute(f"CREATE TABLE problems ({', '.join(ROW)})")
    marks = ", ".join("?" * len(ROW))
    connection.executemany(f"INSERT INTO problems VALUES ({marks})", [tuple(row.values()) for row in rows()])
    connection.commit()
    connection.close()


def write_parquet(folder):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    (folder / "data").mkdir()
    parquet.write_table(pyarrow.Table.from_pylist(rows()), folder / "data" / "train-00000-of-00001.parquet")


@pytest.mark.parametrize("write", [write_jsonl, write_database, write_parquet])
def test_planetariums_layouts(tmp_path, write):
    (tmp_path / "planetarium").mkdir()
    write(tmp_path / "planetarium")
    (task,) = DOMAIN.load(tmp_path)
    assert task.id == "7" and task.plan is None and not task.placeholder
    prompt = DOMAIN.prompt(task)
    assert prompt.endswith("(:goal (and")
    assert "\nYour goal is to have b1 on b2.\n(define" in prompt
    assert "\r" not in prompt
    assert [task.id for task in ALL.load(tmp_path)] == ["7", "9", "8"]
    assert [task.placeholder for task in ALL.load(tmp_path)] == [False, False, True]
    assert GoalInference(max_objects=1).load(tmp_path) == []
    assert DOMAIN.chat(task)[0]["role"] == "system"
    assert GoalInference(instruction="").prompt(task).startswith("Your goal")


def test_files_in_another_layout(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no"):
        DOMAIN.load(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"id": 1}')
    with pytest.raises(ValueError, match="problem 0 has no natural_language and no problem_pddl"):
        DOMAIN.load(tmp_path)


def test_a_plan_that_misses_the_goal(tmp_path):
    (tmp_path / "rows.jsonl").write_text(json.dumps(ROW | {"plan": ["(unstack b2 b1)"]}))
    (task,) = DOMAIN.load(tmp_path)
    with pytest.raises(PlanError, match="task 7: its plan does not reach"):
        PlanCheck(task)
