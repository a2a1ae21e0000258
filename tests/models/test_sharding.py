"""Many devices give what one gives: a mesh of eight virtual ones, and two processes."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType, Mesh, PartitionSpec

from sentax.models import DecoderConfig
from sentax.models.sharding import make_mesh, weight_sharding

SCRIPT = Path(__file__).with_name("sharded_run.py")


def start(*arguments):
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
    )


def finish(process):
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err[-3000:]
    return json.loads(out.splitlines()[-1])


@pytest.fixture(scope="module")
def eight_devices(language_model):
    return finish(start(language_model[1], 8, 4, 2))


def assert_same_run(run, expected):
    for site, values in expected["samples"].items():
        if np.issubdtype(np.asarray(values).dtype, np.integer):
            np.testing.assert_array_equal(run["samples"][site], values)
        else:
            np.testing.assert_allclose(run["samples"][site], values, atol=1e-4)
    np.testing.assert_allclose(run["log_weights"], expected["log_weights"], atol=1e-4)
    assert run["resampled"] == expected["resampled"]


@pytest.mark.parametrize("program", ["devices", "host"])
def test_eight_devices_equal_one(eight_devices, program):
    spread, alone = (eight_devices[where][program] for where in ("spread", "alone"))
    assert_same_run(spread, alone)
    # The comparison means something: texts differ, and particles were exchanged between devices.
    assert len({tuple(text) for text in alone["samples"]["text"]}) > 1
    assert program == "host" or alone["resampled"] > 0


def test_work_is_spread(eight_devices):
    (rows, columns), (all_rows, all_columns) = eight_devices["shard"]
    assert (2 * rows, columns) == (all_rows, all_columns)
    # What a device needs beside its arguments: two of the eight particles, half of each cache.
    runs = (eight_devices[where]["devices"] for where in ("spread", "alone"))
    spread, alone = (run["bytes"] for run in runs)
    assert spread < 0.6 * alone


def test_batches_on_a_mesh(eight_devices):
    np.testing.assert_allclose(
        eight_devices["spread"]["contexts"], eight_devices["alone"]["contexts"], atol=1e-6
    )


def test_particles_must_fit_the_mesh(eight_devices):
    assert "num_particles=10 is not a multiple of the 4 devices" in eight_devices["uneven"]


def test_two_processes_equal_one(eight_devices, language_model):
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        address = f"localhost:{probe.getsockname()[1]}"
    # Weights are spread over both processes: neither holds a whole one.
    processes = [start(language_model[1], 1, 1, 2, number, address) for number in range(2)]
    for process in processes:
        assert_same_run(finish(process)["spread"]["devices"], eight_devices["alone"]["devices"])


def test_bad_meshes():
    config = DecoderConfig(64, hidden_size=32, intermediate_size=48, num_layers=1, num_heads=4)
    count = len(jax.devices()) + 1
    with pytest.raises(ValueError, match=rf"particles={count} x tensor=1 needs {count} devices"):
        make_mesh(particles=count)
    with pytest.raises(ValueError, match="both must be at least 1"):
        make_mesh(tensor=0)
    device = np.asarray(jax.devices()[:1])
    with pytest.raises(ValueError, match="has an axis 'data'"):
        weight_sharding(Mesh(device, ("data",), axis_types=(AxisType.Auto,)), config)
    with pytest.raises(ValueError, match=r"not AxisType.Auto: make it with sentax.make_mesh"):
        weight_sharding(Mesh(device, ("tensor",), axis_types=(AxisType.Explicit,)), config)


@pytest.mark.parametrize(
    ("path", "shape", "spec"),
    [
        (("q_proj", "weight"), (24, 32), ("tensor", None)),  # 6 heads over 3 devices
        (("q_proj", "bias"), (24,), ("tensor",)),
        (("k_proj", "weight"), (12, 32), ()),  # 2 key-value heads: not in three parts, though 12 rows are
        (("o_proj", "weight"), (32, 24), (None, "tensor")),
        (("o_proj", "bias"), (32,), ()),
        (("up_proj", "weight"), (48, 32), ("tensor", None)),
        (("down_proj", "weight"), (32, 48), (None, "tensor")),
        (("embed_tokens", "weight"), (64, 32), ()),  # 64 rows
        (("lm_head", "weight"), (66, 32), ("tensor", None)),
        (("input_layernorm", "weight"), (33,), ()),
    ],
)
def test_cuts(path, shape, spec):
    config = DecoderConfig(
        64, hidden_size=32, intermediate_size=48, num_layers=1, num_heads=6, num_kv_heads=2, head_dim=4
    )
    for axes, sizes, expected in [
        (("particles", "tensor"), (2, 3), spec),
        (("tensor",), (3,), spec),
        (("particles",), (2,), ()),
    ]:
        mesh = AbstractMesh(sizes, axes, axis_types=(AxisType.Auto,) * len(axes))
        assert weight_sharding(mesh, config)(("layers", 0, *path), shape).spec == PartitionSpec(*expected)
