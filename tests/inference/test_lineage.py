"""The record of a run by place, against what the engine keeps by lineage, and against the program itself."""

import jax
import numpy as np
import pytest
from reference.runs import GRAMMAR, MAX_TOKENS, NUM_GATES, TOKENS, markup_run

import sentax as sx
from sentax.inference.evidence import log_mean_exp
from sentax.inference.lineage import lineage_of


@pytest.fixture(scope="module")
def smc():
    return markup_run().smc


@pytest.fixture(scope="module")
def lineage(smc):
    return smc.lineage


def test_columns_are_the_steps(lineage):
    assert [column.scan for column in lineage.columns] == [0] * (MAX_TOKENS + 1) + [1] * (NUM_GATES + 1) + [2]
    assert [column.step for column in lineage.columns] == [*range(MAX_TOKENS + 1), *range(NUM_GATES + 1), 0]
    assert sum(column.resampled for column in lineage.columns) >= 3


def test_weights_along_lineages_are_the_engine_s_increments(smc, lineage):
    """From the last step back, each particle's line: what its weight gained is what the engine recorded."""
    population = smc.population
    columns = {(column.scan, column.step): column for column in lineage.columns}
    for scan, length in enumerate((MAX_TOKENS, NUM_GATES)):
        for n in range(smc.num_particles):
            place = n
            for step in reversed(range(1, length + 1)):
                column, before = columns[scan, step], columns[scan, step - 1]
                parent = column.parents[place]
                base = before.log_evidence if column.resampled else before.log_weights[parent]
                increment = float(population.increments[scan][n][step - 1])
                if np.isfinite(base):
                    assert column.log_weights[place] == pytest.approx(base + increment, abs=1e-5)
                place = parent
            assert place == population.start[scan][n]


def test_weights_at_the_end_are_the_results(smc, lineage):
    np.testing.assert_array_equal(lineage.columns[-1].log_weights, smc.log_weights)
    assert lineage.columns[-1].log_evidence == pytest.approx(smc.log_evidence)
    assert lineage.columns[-1].ess == pytest.approx(smc.ess, rel=1e-5)


def test_ess_before_each_step_is_the_engine_s(smc, lineage):
    for column, after in zip(lineage.columns, lineage.columns[1:-1]):
        if after.scan == column.scan:
            assert column.ess == pytest.approx(float(smc.population.ess[column.scan][column.step]), rel=1e-4)


def test_texts_grow_into_the_results(smc, lineage):
    """The survivors' texts at the last step, through the second scan's lineages, are those of the results."""
    second = np.asarray(smc.population.start[1])
    last = lineage.columns[MAX_TOKENS].text["text"]
    for n in np.flatnonzero(smc.log_weights > -np.inf):
        assert last[second[n]] == smc.texts("text")[n]


def test_texts_are_their_parents_and_a_token(lineage):
    tokens = {token.decode("utf-8", "backslashreplace") for token in TOKENS}
    for before, column in zip(lineage.columns, lineage.columns[1 : MAX_TOKENS + 1]):
        for n, (text, parent) in enumerate(zip(column.text["text"], column.parents)):
            old = before.text["text"][parent]
            if np.isneginf(before.log_weights[parent]):
                assert text == old
            elif text.startswith(old):
                assert text[len(old) :] in tokens
            else:  # a character that had been cut in two
                assert (old.removesuffix("\\xc3"), n) == (text.removesuffix("é"), n)


def test_deaths_are_blamed_on_what_killed(lineage):
    """A text dies of its constraint where it ends outside the grammar, or no text of that begins with it."""
    seen = set()
    for c, column in enumerate(lineage.columns):
        died = lineage.died(c)
        for n in np.flatnonzero(died):
            fate = lineage.fates(c)[n]
            seen.add((column.scan, column.step > 0, fate))
        if 0 < c <= MAX_TOKENS:
            before = lineage.columns[c - 1]
            for n, text in enumerate(column.text["text"]):
                if not np.isneginf(before.log_weights[column.parents[n]]):
                    ended = text == before.text["text"][column.parents[n]]
                    assert died[n] == (not _is_possible(text, ended)), text
    assert seen == {
        (0, True, "died of factor 'text/where'"),
        (1, False, "died of factor 'text/end'"),
        (1, False, "died of factor 'between'"),
        (1, True, "died of factor 'once'"),
        (2, False, "died of factor 'some'"),
    }


def test_those_who_are_not_chosen_are_resampled_away(lineage):
    for c, (column, after) in enumerate(zip(lineage.columns, lineage.columns[1:])):
        for n, fate in enumerate(lineage.fates(c)):
            if fate == "resampled away":
                assert n not in after.parents
                assert after.resampled
                assert np.isfinite(column.log_weights[n])
            elif fate.startswith("goes on"):
                copies = int(np.sum(after.parents == n))
                assert fate == ("goes on" if copies == 1 else f"goes on as {copies} copies")


def test_a_sampler_without_records_says_so(smc):
    with pytest.raises(ValueError, match="keeps no record"):
        lineage_of(smc.population._replace(records=()), [])


def test_dead_stay_dead_with_their_text(lineage):
    for c, column in enumerate(lineage.columns[1:], 1):
        for n in np.flatnonzero(np.isneginf(column.log_weights) & ~lineage.died(c)):
            assert lineage.deaths[c][n] < c
            assert lineage.label(lineage.deaths[c][n]) in lineage.fates(c)[n]


def test_early_stop_records_the_steps_that_were_run():
    """Steps that nobody needed are no columns; the records of the rest repeat the last weights."""
    lm = sx.TableLM.uniform([b"a"])

    def model(context, where):
        sx.generate("text", context, max_tokens=40, where=where)

    smc = sx.SMC(sx.Prior(model), num_particles=4)
    smc.run(jax.random.key(0), lm.prompt(), sx.regex("a{0,2}"))
    (steps,) = smc.diagnostics.steps
    assert steps <= 3
    assert len(smc.lineage.columns) == steps + 2
    (record,) = smc.population.records
    np.testing.assert_array_equal(
        record.log_weights[:, steps:], np.repeat(record.log_weights[:, [steps]], 41 - steps, 1)
    )
    assert log_mean_exp(np.asarray(record.log_weights)[:, -1]) == pytest.approx(smc.log_evidence)


def _is_possible(text: str, ended: bool) -> bool:
    """Whether a text of the grammar begins like this, or, if it has ended, is this; by a scanner of its own."""
    assert GRAMMAR == "(<script>|</script>|é|[$]x[$])*"
    data = text.replace("\\xc3", "\udcc3").replace("\\xa9", "\udca9").encode("utf-8", "surrogateescape")
    while data:
        word = next((w for w in (b"<script>", b"</script>", "é".encode(), b"$x$") if data.startswith(w)), None)
        if word is None:
            return data == b"\xc3" and not ended
        data = data[len(word) :]
    return True
