"""What all domains share: the registry, the law about right answers, expected scores, a program."""

import pickle
import re

import jax
import numpy as np
import pytest

import sentax as sx
import sentax.domains
from sentax.domains.base import check_answers, expected_score, find_file, find_folder


@pytest.mark.parametrize("name", sentax.domains.DOMAINS)
def test_right_answers_of_the_sample(name):
    domain = sentax.domains.get(name)
    assert domain.name == name
    instances = domain.sample()
    assert len({instance.id for instance in instances}) == len(instances) >= 20
    if all(domain.gold(instance) is None for instance in instances):
        pytest.skip(f"{name} has no right answers; its own tests check known ones")
    check_answers(domain, instances[::4])


@pytest.mark.parametrize("name", sentax.domains.DOMAINS)
def test_domains_travel_to_other_processes(name):
    domain = sentax.domains.get(name)
    instance = domain.sample()[0]
    copy, same = pickle.loads(pickle.dumps((domain, instance)))
    assert same == instance
    if (answer := domain.gold(instance)) is not None:
        assert copy.score(same, answer) == 1


def test_unknown_domain():
    with pytest.raises(ValueError, match="no domain 'chess'; there are: goal_inference"):
        sentax.domains.get("chess")


def test_the_law_can_be_broken():
    domain = sentax.domains.get("goal_inference")
    tasks = domain.sample()[:1]

    class Wrong(type(domain)):
        def gold(self, instance):
            return " (on b1 b2)))"

    with pytest.raises(AssertionError, match="refuses right answer"):
        check_answers(Wrong(), tasks)

    class Silent(type(domain)):
        def gold(self, instance):
            return None

    with pytest.raises(ValueError, match="none of these"):
        check_answers(Silent(), tasks)


def test_expected_score():
    domain = sentax.domains.get("goal_inference")
    task = domain.sample()[1]
    posterior = {domain.gold(task): 0.25, " (on b1 b2)))": 0.5, "nonsense": 0.25}
    assert expected_score(domain, task, posterior) == 0.25


def test_folders(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "b.json").write_text("{}")
    assert find_folder(tmp_path, "set") == tmp_path / "set"
    assert find_folder(tmp_path / "set", "set") == tmp_path / "set"
    assert find_file(tmp_path / "set", "a.json", "b.json").name == "b.json"
    with pytest.raises(FileNotFoundError, match=r"none of: a\.json"):
        find_file(tmp_path, "a.json")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        find_folder(tmp_path / "missing", "set")


def test_program_against_enumeration():
    """The posterior of a program with both constraints, against all texts that six tokens can write.

    The tokens are drawn uniformly, so right texts of the same length are equally likely, and every particle
    of a bootstrap filter without resampling has weight 0 or 1: the evidence is a mean of N = 4096 coins.
    """
    domain = sentax.domains.get("goal_inference")
    task = domain.sample()[1]
    tokens = [b" (on b1 b2)", b" (clear", b" b3)", b" (on b2 b1)", b"))", b" (arm-empty)"]
    lm = sx.TableLM.uniform(tokens)
    # A uniform chain over seven tokens, end-of-text among them; texts of at most three tokens.
    right = {}
    size, longest = len(tokens) + 1, 3
    cheap = re.compile(r"( ?\((on b[123] b[123]|clear b[123]|arm-empty)\))+ ?\)\)")
    final = {"on b1 b2", "on b3 b1", "clear b3", "arm-empty", "on-table b2"}

    def extend(text, length):
        if cheap.fullmatch(text) and all(f in final for f in re.findall(r"\(([^()]*)\)", text)):
            ended = size ** -(length + 1) if length < longest else size**-length
            right[text] = right.get(text, 0) + ended
        if length < longest:
            for token in tokens:
                extend(text + token.decode(), length + 1)

    extend("", 0)
    assert len(right) == 7

    def model(context, where):
        return sx.generate("answer", context, max_tokens=longest, where=where)

    N = 4096
    smc = sx.SMC(sx.Prior(model), num_particles=N, ess_threshold=0.0)
    smc.run(jax.random.key(0), lm.prompt(), domain.cheap(task) & domain.dear(task))
    evidence = sum(right.values())
    z = (np.exp(smc.log_evidence) - evidence) / np.sqrt(evidence * (1 - evidence) / N)
    assert abs(z) < 4.75  # false alarm 2e-6
    posterior = smc.posterior("answer")
    assert set(posterior) <= set(right)
    alive = N * np.exp(smc.log_evidence)
    for text, weight in right.items():
        p = weight / evidence
        assert abs(posterior.get(text, 0) - p) < 4.75 * np.sqrt(p * (1 - p) / alive)


@pytest.mark.slow
@pytest.mark.parametrize("name", sentax.domains.DOMAINS)
def test_example_programs_run(name):
    """The program in each package's docstring, on the embedded model."""
    import importlib
    import textwrap

    text = importlib.import_module(f"sentax.domains.{name}").__doc__
    code = textwrap.dedent(text.split(".. code-block:: python\n", 1)[1])
    names = {}
    exec(code, names)
    assert names["posterior"]
    assert 0 <= names["accuracy"] <= 1
    assert abs(sum(names["posterior"].values()) - 1) < 1e-6
