"""A run looked at, stopped and resumed is the run that was left alone, to the last bit."""

import os
import pathlib
import signal
import subprocess
import sys
import textwrap

import jax
import numpy as np
import numpyro
import pytest
from jax import random
from reference.programs import LM, PROGRAMS

import sentax as sx
from sentax.inference.checkpoint import CheckpointError
from sentax.inference.smc import SMC

HERE = pathlib.Path(__file__).parent


def assert_same(ours, theirs):
    """Two samplers have the same results, in structure and to the last bit."""
    ours, theirs = (jax.tree.flatten(jax.device_get(s.population)) for s in (ours, theirs))
    assert ours[1] == theirs[1]
    for mine, other in zip(ours[0], theirs[0], strict=True):
        np.testing.assert_array_equal(mine, other)


@pytest.fixture(scope="module")
def two_texts():
    """A program of two scans with a latent between them, what `run` makes of it, and a sampler to stream."""
    program = PROGRAMS["two_texts"]()
    left_alone = SMC(sx.Prior(program.model), num_particles=24, ess_threshold=1.0)
    left_alone.run(random.key(1), *program.args)
    return program, left_alone, SMC(sx.Prior(program.model), num_particles=24, ess_threshold=1.0)


def test_stream(two_texts):
    program, left_alone, smc = two_texts
    snapshots = list(smc.stream(random.key(1), *program.args))
    assert_same(smc, left_alone)
    assert smc.get_samples()["one"].tolist() == left_alone.get_samples()["one"].tolist()
    assert [(s.scan, s.step) for s in snapshots] == [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert not snapshots[-1].running
    with pytest.raises(KeyError, match="no text 'two' so far; there are: one"):
        snapshots[0].texts("two")
    last = snapshots[-1]
    assert last.texts("two") == left_alone.texts("two")
    # Each final text goes on from that of the particle that was its ancestor before the last step.
    earlier = snapshots[2].texts("two")
    parents = left_alone.ancestors[1][1]
    assert all(
        text.startswith(earlier[parent]) for text, parent in zip(last.texts("two"), parents, strict=True)
    )
    assert "shout" not in snapshots[0].samples and last.samples["shout"].shape == (24,)
    resampled = tuple(s.resampling_steps for s in snapshots if s.step == 2)
    assert resampled == left_alone.diagnostics.resampling_steps
    assert sum(s.tokens for s in snapshots if s.step == 2) == left_alone.diagnostics.tokens
    # Between scans nothing but the weights so far is known; here they are the record's.
    np.testing.assert_allclose(
        snapshots[0].log_weights, np.asarray(left_alone.population.records[0].log_weights)[:, 1], rtol=1e-6
    )
    assert 0 < last.ess <= 24


@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_resume_anywhere(two_texts, tmp_path, stop_after):
    """Stopped inside the first scan, at its end, and inside the second."""
    program, left_alone, smc = two_texts
    path = tmp_path / "run.sentax"
    stream = smc.stream(random.key(1), *program.args)
    for _ in range(stop_after):
        next(stream)
    stream.save(path)
    assert os.listdir(tmp_path) == ["run.sentax"]
    smc.resume(path, *program.args)
    assert_same(smc, left_alone)


def test_run_with_a_checkpoint(two_texts, tmp_path):
    """The same call, once or again after a stop, ends with the same results."""
    program, left_alone, smc = two_texts
    path = tmp_path / "run.sentax"
    smc.run(random.key(1), *program.args, checkpoint=path, every=1)
    assert_same(smc, left_alone)
    assert path.exists()
    smc.run(random.key(1), *program.args, checkpoint=path, every=1)
    assert_same(smc, left_alone)
    with pytest.raises(CheckpointError, match="another key"):
        smc.run(random.key(2), *program.args, checkpoint=path)


def test_another_runs_checkpoint_is_refused(two_texts, tmp_path):
    program, _, smc = two_texts
    path = tmp_path / "run.sentax"
    stream = smc.stream(random.key(1), *program.args)
    with pytest.raises(RuntimeError, match="has not begun"):
        stream.save(path)
    next(stream)
    stream.save(path)
    context, first, _ = program.args
    with pytest.raises(CheckpointError, match="other arguments"):
        smc.resume(path, context, first, sx.regex("a.*|"))
    more = SMC(sx.Prior(program.model), num_particles=7)
    with pytest.raises(CheckpointError, match="another program or sampler"):
        more.resume(path, *program.args)
    elsewhere = SMC(sx.Prior(lambda *args: program.model(*args)), num_particles=6)
    with pytest.raises(CheckpointError, match="another model"):
        elsewhere.resume(path, *program.args)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        smc.resume(path, *program.args)


def test_a_crash_while_writing_leaves_the_old_file(two_texts, tmp_path, monkeypatch):
    program, left_alone, smc = two_texts
    path = tmp_path / "run.sentax"
    stream = smc.stream(random.key(1), *program.args)
    next(stream)
    stream.save(path)
    next(stream)

    def crash(_):
        raise OSError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", crash)
        with pytest.raises(OSError, match="disk full"):
            stream.save(path)
    assert os.listdir(tmp_path) == ["run.sentax"]
    smc.resume(path, *program.args)
    assert_same(smc, left_alone)


def predicate_run(num_particles=32):
    """A program whose constraint lives in Python: what it has met is part of the run's state."""
    program = PROGRAMS["python"]()
    return program, SMC(sx.Prior(program.model), num_particles=num_particles, ess_threshold=1.0)


CHILD = """
    import os, signal, sys
    sys.path[:0] = sys.argv[2:]
    from jax import random
    from test_streaming import predicate_run
    program, smc = predicate_run()
    stream = smc.stream(random.key(7), *program.args)
    for snapshot in stream:
        stream.save(sys.argv[1])
        if snapshot.step == 2:
            os.kill(os.getpid(), signal.SIGKILL)
"""


def test_killed_and_resumed_in_another_process(tmp_path):
    path = tmp_path / "run.sentax"
    child = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CHILD), str(path), str(HERE), str(HERE.parent)],
        capture_output=True,
        timeout=300,
        cwd=tmp_path,  # not where a folder is called as the installed package
    )
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()
    program, smc = predicate_run()
    smc.resume(path, *program.args)
    _, left_alone = predicate_run()
    left_alone.run(random.key(7), *program.args)
    assert_same(smc, left_alone)


def test_python_constraints_must_be_arguments(tmp_path):
    where = sx.predicate(lambda data: len(data) < 3)

    def model(context):
        sx.generate("text", context, max_tokens=2, where=where)

    stream = SMC(sx.Prior(model), num_particles=2).stream(random.key(0), LM.prompt())
    next(stream)
    with pytest.raises(sx.UnsupportedProgram, match="make it an argument of the model"):
        stream.save(tmp_path / "run.sentax")


def test_what_was_drawn_before_a_scan_goes_with_its_particle():
    """A latent that the texts agree with must still agree with them after resampling within the scan."""
    lm = sx.TableLM.uniform([b"a", b"b"])

    def model(context):
        z = numpyro.sample("z", numpyro.distributions.Normal())

        def step(context, _):
            token = numpyro.sample("token", sx.TokenDistribution(context.logits))
            numpyro.deterministic("seen", z)
            numpyro.factor("score", 2.0 * z)
            return context.extend(token), token

        numpyro.contrib.control_flow.scan(step, context, None, length=4)

    smc = SMC(sx.Prior(model), num_particles=16, ess_threshold=1.0)
    moved = 0
    for snapshot in smc.stream(random.key(0), lm.prompt()):
        z, seen = np.asarray(snapshot.samples["z"]), np.asarray(snapshot.samples["seen"])
        np.testing.assert_array_equal(z, seen[:, 0])
        moved += len(set(z.tolist())) < 16
    assert moved >= 2
    np.testing.assert_array_equal(z, smc.get_weighted_samples()[0]["z"])


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_streams(name, tmp_path):
    program = PROGRAMS[name]()
    smc, left_alone = (
        SMC(sx.AWRS(program.model), num_particles=4, ess_threshold=1.0, num_runs=2) for _ in "ab"
    )
    left_alone.run(random.key(3), *program.args)
    smc.run(random.key(3), *program.args, checkpoint=tmp_path / "run", every=2)
    assert_same(smc, left_alone)
    smc.resume(tmp_path / "run", *program.args)
    assert_same(smc, left_alone)


@pytest.mark.slow
def test_shared_arrays_do_not_travel(tmp_path):
    """What all particles share is not part of a checkpoint: weights are recomputed from the arguments."""
    big = jax.numpy.zeros(1 << 20)

    def model(context, weights):
        def step(carry, _):
            context, weights = carry
            token = numpyro.sample("text", sx.TokenDistribution(context.logits + weights[0]))
            return (context.extend(token), weights), token

        for name in ("one", "two"):
            with numpyro.handlers.scope(prefix=name):
                (context, weights), _ = numpyro.contrib.control_flow.scan(
                    step, (context, weights), None, length=2
                )

    stream = SMC(sx.Prior(model), num_particles=3).stream(random.key(0), LM.prompt(), big)
    *_, last = [next(stream) for _ in range(3)]
    assert last.scan == 1
    stream.save(tmp_path / "run")
    assert (tmp_path / "run").stat().st_size < 1 << 17
