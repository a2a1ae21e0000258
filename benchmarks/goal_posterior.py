"""How far are 256 particles from the exact posterior over goals, at every step, and what does it cost?

Six simulated agents in a house with keys and doors and six among three blocks, under a Markov chain's prior
over the texts of their goals; rationality is inferred along with the goal. For each agent R independent runs
are made of each method, and compared with enumeration (every goal, a thousand nodes of rationality) after
each action:

* `locally constrained`: independent draws;
* `arithmetic`: `ArithmeticSampling`, the same kernel on a lattice;
* `arithmetic, strata`: and rationality in 64 strata.

    python benchmarks/goal_posterior.py [--runs 64] [--particles 256] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import json
import pathlib
import time

import jax
import numpy as np

import sentax as sx
from sentax.domains.goal_inference.bayesian import (
    BlocksWorld,
    GoalProgram,
    Gridworld,
    Scene,
    act,
    beliefs,
    enumerate_goals,
    reachable,
)

HOUSE = Gridworld("""
    #########
    #1..#..2#
    #...R...#
    #r..#.b.#
    ##.###B##
    #@....#3#
    #########""")
BLOCKS = BlocksWorld(["b1", "b2", "b3"])
START = BLOCKS.state([("on", "b1", "b2"), ("on-table", "b2"), ("on-table", "b3"), ("clear", "b1")])
WORDS = [" (on", " (has", " b1", " b2", " b3", " gem1", " gem2", " gem3", " red-key", " blue-key", ")", "))"]
STARTS = ["blocks:", "house:"]
METHODS = {
    "locally constrained": (sx.LocallyConstrained, 1),
    "arithmetic": (sx.ArithmeticSampling, 1),
    "arithmetic, strata": (sx.ArithmeticSampling, 64),
}


def language_model() -> sx.TableLM:
    """A chain over the words of goals, each of which is cut in one way only."""
    tokens = [*WORDS, *STARTS, ""]
    place = {token: i for i, token in enumerate(tokens)}
    probs = 0.2 * np.random.default_rng(0).dirichlet(np.full(len(tokens), 0.5), size=len(tokens)) + 1e-4
    follows = {
        "blocks:": {" (on": 0.8},
        "house:": {" (has": 0.8},
        " (on": {" b1": 0.4, " b2": 0.3, " b3": 0.1},
        " (has": {" gem1": 0.35, " gem2": 0.25, " gem3": 0.1, " red-key": 0.06, " blue-key": 0.04},
        ")": {"))": 0.5, " (on": 0.3},
        "))": {"": 0.8},
    }
    follows |= {block: {" b1": 0.1, " b2": 0.15, " b3": 0.2, ")": 0.35} for block in WORDS[2:5]}
    follows |= {thing: {")": 0.8} for thing in WORDS[5:10]}
    for token, row in follows.items():
        for after, p in row.items():
            probs[place[token], place[after]] += p
    bytes_of = [token.encode() for token in tokens]
    return sx.TableLM(np.log(probs), None, bytes_of, end_of_text=len(tokens) - 1)


def ids(lm: sx.TableLM, text: str) -> list[int]:
    """The one way to cut a goal into words."""
    found = []
    while text:
        word = "))" if text == "))" else next(w for w in WORDS[:-1] if text.startswith(w))
        found.append(lm.vocabulary.tokens.index(word.encode()))
        text = text[len(word) :]
    return found


def agents():
    """World, prompt and scene of each agent, whose true rationality is 2."""
    rng = np.random.default_rng(0)
    gems = reachable(HOUSE, HOUSE.goals, HOUSE.start)
    towers = BLOCKS.goals(2, predicates=["on"])
    wanted = [(HOUSE, HOUSE.start, "house:", gems, goal) for goal in gems[:3] * 2]
    wanted += [
        (BLOCKS, START, "blocks:", towers, goal)
        for goal in (" (on b3 b1)))", " (on b2 b3)))", " (on b2 b3) (on b1 b2)))") * 2
    ]
    for world, start, prompt, goals, goal in wanted:
        satisfied, costs = world.satisfied([goal])[0], world.costs([goal])[0]
        seen = act(rng, world.transitions, costs, start, beta=2.0, satisfied=satisfied, num_steps=15)
        yield prompt, Scene.of(world, goals, seen)


def distances(smc: sx.SMC, runs: int, lm: sx.TableLM, prompt: str, scene: Scene, seed: int) -> np.ndarray:
    """Total variation from enumeration, `[T + 1, R]`."""
    texts = scene.language.texts
    exact = enumerate_goals(lm.score([ids(lm, text) for text in texts], prompt, end=True), scene)
    rows = []
    for belief in beliefs(smc, jax.random.key(seed), lm.prompt(prompt), scene):
        numbers = np.array([texts.index(text) for text in belief.texts]).reshape(runs, -1)
        weights = belief.weights.reshape(runs, -1)
        weights = weights / weights.sum(1, keepdims=True)
        found = np.stack([np.bincount(n, w, len(texts)) for n, w in zip(numbers, weights)])
        rows.append(0.5 * abs(found - exact.goals[belief.step]).sum(1))
    return np.array(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=64)
    parser.add_argument("--particles", type=int, default=256)
    parser.add_argument("--out", type=pathlib.Path)
    options = parser.parse_args()
    lm = language_model()
    scenes = list(agents())
    report = {"particles": options.particles, "runs": options.runs, "agents": len(scenes), "methods": {}}
    for name, (kernel, strata) in METHODS.items():
        program = GoalProgram(max_tokens=10, num_strata=strata)
        smc = sx.SMC(kernel(program), num_particles=options.particles, num_runs=options.runs)
        distances(smc, options.runs, lm, *scenes[0], 0)  # compile
        started = time.perf_counter()
        every = [distances(smc, options.runs, lm, *scene, i + 1) for i, scene in enumerate(scenes)]
        seconds = time.perf_counter() - started
        figures = {"seconds_per_run": round(seconds / options.runs / len(scenes), 5)}
        for world in ("house:", "blocks:"):
            rows = [d for d, (prompt, _) in zip(every, scenes) if prompt == world]
            steps, worst = np.concatenate(rows), np.concatenate([d.max(0) for d in rows])
            figures[world.strip(":")] = {
                "steps": len(steps),
                "mean": round(float(steps.mean()), 4),
                "largest_step_mean": round(float(steps.mean(1).max()), 4),
                "q99": round(float(np.quantile(steps, 0.99)), 4),
                "share_of_runs_within_0.05_at_every_step": round(float((worst < 0.05).mean()), 4),
                "largest": round(float(worst.max()), 4),
            }
        report["methods"][name] = figures
        print(name, json.dumps(figures, indent=2), flush=True)
    if options.out:
        options.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
