"""The page on how to write a domain runs as it stands."""

import itertools
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "how_to" / "domain.md"


@pytest.fixture(scope="module")
def names():
    """What the page's Python defines, run from top to bottom as one module."""
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 5
    names = {"__name__": "sums"}
    exec(compile("\n".join(blocks), str(PAGE), "exec"), names)
    return names


def test_the_page_runs(names):
    assert names["posterior"]


def test_its_law_can_fail(names):
    Sums, Target, check_answers = (names[name] for name in ("Sums", "Target", "check_answers"))
    for answer, complaint in (("1+1", "dear constraint refuses"), ("4", "cheap constraint refuses")):
        with pytest.raises(AssertionError, match=complaint):
            check_answers(Sums(), [Target(id="4", number=4, answer=answer)])


def test_its_loader(names, tmp_path):
    (tmp_path / "targets.csv").write_text("id,number\na,5\n")
    [target] = names["Sums"]().load(tmp_path)
    assert (target.id, target.number, names["Sums"]().gold(target)) == ("a", 5, None)


def test_its_score(names):
    """For all short texts over digits and signs, against Python's own addition."""
    domain, target = names["Sums"](), names["Target"](id="4", number=4)
    for length in range(6):
        for letters in itertools.product("0123+ ", repeat=length):
            text = "".join(letters)
            expected = bool(re.fullmatch(r"[1-9](\+[1-9])+", text)) and eval(text) == 4
            assert domain.score(target, text) == expected, text
