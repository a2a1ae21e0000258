"""A model over many devices: which part of each weight a device holds.

A mesh has an axis ``"particles"``, over which the particles of a run are spread, or an axis ``"tensor"``,
over which every weight is, or both. Programs stay what they are: XLA partitions them by where their
inputs are (Xu et al. 2021, GSPMD), so that one device and many run the same code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from sentax.models.config import DecoderConfig

PARTICLES, TENSOR = "particles", "tensor"

# Megatron's cut (Shoeybi et al. 2019): the output features of one projection are the input features of the
# next, so that a residual branch needs a single sum over devices, at its end. Weights are [out, in].
_BY_INPUT = ("o_proj", "down_proj")
_BY_HEAD = ("q_proj", "k_proj", "v_proj")
_BY_OUTPUT = ("gate_proj", "up_proj", "embed_tokens", "lm_head")


def make_mesh(*, particles: int = 1, tensor: int = 1, devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh for :func:`sentax.load`.

    A model too large for a device needs the tensor axis, at the price of two sums over its devices a layer;
    the particle axis costs nothing but a copy of the weights on each device along it, and at a resampling
    the caches that change places.

    :param particles: so many groups of devices, each with its share of the particles.
    :param tensor: so many devices in a group, each with its share of every weight.
    :param devices: as many as their product; the first of all there are, unless given.
    :raises ValueError: if there are too few.

        >>> dict(make_mesh().shape)
        {'particles': 1, 'tensor': 1}
    """
    devices = list(jax.devices() if devices is None else devices)
    if particles < 1 or tensor < 1:
        raise ValueError(f"a mesh of {particles} x {tensor} devices; both must be at least 1")
    if particles * tensor > len(devices):
        raise ValueError(
            f"a mesh of particles={particles} x tensor={tensor} needs {particles * tensor} devices; "
            f"there are {len(devices)}"
        )
    grid = np.asarray(devices[: particles * tensor]).reshape(particles, tensor)
    # Auto: with explicit axes JAX refuses a lookup in an embedding whose rows are spread.
    return Mesh(grid, (PARTICLES, TENSOR), axis_types=(AxisType.Auto, AxisType.Auto))


def weight_sharding(
    mesh: Mesh, config: DecoderConfig
) -> Callable[[Sequence[str | int], tuple[int, ...]], NamedSharding]:
    """Where each parameter of a decoder goes: for :func:`~sentax.models.weights.load_params`.

    Projections into heads and into the feed-forward layer are cut by their output, those back by
    their input, the embedding and the head by the vocabulary. Every device of the tensor axis holds the
    whole of what cannot be cut evenly (by whole heads, for the projections into heads) and of norms.

    :param mesh: with an axis ``"tensor"``, or without one: then every device holds everything.
    :param config: the decoder's shape.
    :return: from a parameter's path and shape to its sharding.
    :raises ValueError: if the mesh has explicit axes, or other axes than ``"particles"`` and ``"tensor"``.

        >>> config = DecoderConfig(64, hidden_size=32, intermediate_size=48, num_layers=1, num_heads=4)
        >>> place = weight_sharding(make_mesh(), config)
        >>> tuple(place(("layers", 0, "self_attn", "q_proj", "weight"), (32, 32)).spec)
        ('tensor', None)
        >>> tuple(place(("norm", "weight"), (32,)).spec)
        ()
    """
    if unknown := set(mesh.axis_names) - {PARTICLES, TENSOR}:
        raise ValueError(
            f"the mesh has an axis {sorted(unknown)[0]!r}; the axes are {PARTICLES!r} and {TENSOR!r}"
        )
    if any(kind != AxisType.Auto for kind in mesh.axis_types):
        raise ValueError("the axes of the mesh are not AxisType.Auto: make it with sentax.make_mesh(...)")
    devices = dict(mesh.shape).get(TENSOR, 0)

    def place(path: Sequence[str | int], shape: tuple[int, ...]) -> NamedSharding:
        module = path[-2] if len(path) > 1 else ""
        heads = config.num_heads if module == "q_proj" else config.num_kv_heads
        even = (
            devices and not (heads if module in _BY_HEAD else shape[-1 if module in _BY_INPUT else 0]) % devices
        )
        spec: tuple[str | None, ...] = ()
        if even and module in _BY_HEAD + _BY_OUTPUT:
            spec = (TENSOR, *(None for _ in shape[1:]))
        elif even and module in _BY_INPUT and len(shape) == 2:  # its bias is added once, after the sum
            spec = (None, TENSOR)
        return NamedSharding(mesh, PartitionSpec(*spec))

    return place


__all__ = ["make_mesh", "weight_sharding"]
