"""The state of an unfinished run on disk, exact, and the certainty that it is that run's.

A checkpoint holds the arrays that the rest of a run depends on and the texts that its Python constraints have
met; the program, its arguments and weights are only fingerprinted: whoever resumes brings them again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jaxlib
import numpy as np
from jax import random

from sentax.inference.errors import UnsupportedProgram
from sentax.inference.fingerprint import fingerprint
from sentax.inference.stages import Place, Stages, State
from sentax.ppl.constraints.host import HostConstraint, _tries
from sentax.ppl.constraints.trie import Trie

FORMAT = 1
_ADDRESS = re.compile(r"0x[0-9a-f]+")

Inputs = tuple[Any, tuple, dict[str, Any]]
"""A run's own key, and the model's arguments."""


class CheckpointError(ValueError):
    """A file that is no checkpoint, or is another run's; the message says in what they differ."""


class Identity:
    """What makes a run this one and no other: its program, arguments and key.

    :param rng_key: the key that `run` was given.
    """

    def __init__(self, model: Callable[..., Any], rng_key: Any, args: tuple, kwargs: dict[str, Any]) -> None:
        self.model, self.rng_key, self.inputs = model, rng_key, (args, kwargs)
        self.hosts = [leaf for leaf in jax.tree.leaves((args, kwargs), is_leaf=_is_host) if _is_host(leaf)]
        self.strangers: set[str] = set()
        self._digests: dict[Any, str] = {}

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Notices Python constraints that the program asks and that are not among its arguments."""
        known = {id(host.keeper.trie) for host in self.hosts}
        others = [trie for trie in list(_tries.values()) if id(trie) not in known]
        calls = [trie._call for trie in others]
        yield
        self.strangers |= {repr(t.engine) for t, before in zip(others, calls, strict=True) if t._call != before}

    @property
    def arguments(self) -> str:
        """A digest of the model's code and of its arguments, to the last bit."""
        if "arguments" not in self._digests:
            digest = hashlib.blake2b(digest_size=16)
            digest.update(fingerprint(self.model, *self.inputs).digest.encode())
            for leaf in jax.tree.leaves(self.inputs, is_leaf=_is_host):
                if isinstance(leaf, (jax.Array, np.ndarray, np.generic)):
                    digest.update(_bytes(leaf))
            self._digests["arguments"] = digest.hexdigest()
        return self._digests["arguments"]

    def program(self, stages: Stages, inputs: Inputs, place: Place, state: Any) -> str:
        """A digest of the traced program of a scan's steps: sampler, kernel, model, and what it closes over."""
        key = ("program", place.stage)
        if key not in self._digests:
            traced = stages.program(*inputs, place, state)
            digest = hashlib.blake2b(_ADDRESS.sub("", str(traced.closed.jaxpr)).encode(), digest_size=16)
            for const in traced.closed.consts:
                digest.update(_bytes(const))
            self._digests[key] = digest.hexdigest()
        return self._digests[key]


@dataclasses.dataclass(frozen=True)
class Saved:
    """A checkpoint read back, not yet verified."""

    meta: dict[str, Any]
    leaves: list[np.ndarray]
    origins: list[tuple[np.ndarray, np.ndarray, bytes]]

    @property
    def rng_key(self) -> Any:
        """The key that `run` was given."""
        return random.wrap_key_data(jax.numpy.asarray(self.meta["key"], np.uint32), impl=self.meta["key_impl"])


def save(
    path: str | os.PathLike[str],
    identity: Identity,
    stages: Stages,
    inputs: Inputs,
    place: Place,
    state: State,
    step: int,
) -> None:
    """Writes a checkpoint; a crash at any time leaves the old file or the new one, whole.

    :raises UnsupportedProgram: see :meth:`Stream.save`.
    """
    if identity.strangers:
        raise UnsupportedProgram(
            f"the model closes over {', '.join(sorted(identity.strangers))}: what a Python constraint has met "
            "is part of the run's state; make it an argument of the model, so that it can be saved"
        )
    leaves = [random.key_data(x) if _is_key(x) else x for x in jax.tree.leaves(state)]
    leaves = [np.asarray(leaf) for leaf in jax.device_get(leaves)]
    meta = {
        "format": FORMAT,
        "versions": _versions(),
        "arguments": identity.arguments,
        "program": identity.program(stages, inputs, place, state),
        "key": random.key_data(identity.rng_key).tolist(),
        "key_impl": str(random.key_impl(identity.rng_key)),
        "stage": place.stage,
        "step": step,
        "leaves": [[leaf.dtype.name, leaf.shape] for leaf in leaves],
        "hosts": len(identity.hosts),
    }
    # As bytes: NumPy's format has no bfloat16.
    arrays = {f"leaf{i}": np.frombuffer(leaf.tobytes(), np.uint8) for i, leaf in enumerate(leaves)}
    for i, host in enumerate(identity.hosts):
        with host.keeper.trie.lock:
            origin = dict(host.keeper.trie.origin)
        arrays[f"nodes{i}"] = np.fromiter(origin, np.int32, len(origin))
        arrays[f"sizes{i}"] = np.fromiter(map(len, origin.values()), np.int32, len(origin))
        arrays[f"keys{i}"] = np.frombuffer(b"".join(origin.values()), np.uint8)
    buffer = io.BytesIO()
    contents: dict[str, Any] = {"meta": np.frombuffer(json.dumps(meta).encode(), np.uint8)} | arrays
    np.savez(buffer, **contents)
    _write(Path(path), buffer.getbuffer())


def load(path: str | os.PathLike[str]) -> Saved:
    """Reads a checkpoint.

    :raises CheckpointError: if the file is none.
    """
    try:
        with open(path, "rb") as stored, np.load(stored, allow_pickle=False) as file:
            meta = json.loads(file["meta"].tobytes())
            if meta["format"] != FORMAT:
                raise CheckpointError(
                    f"{path}: checkpoint format {meta['format']}, this version reads {FORMAT}"
                )
            leaves = [
                np.frombuffer(file[f"leaf{i}"].tobytes(), jax.numpy.dtype(dtype)).reshape(shape)
                for i, (dtype, shape) in enumerate(meta["leaves"])
            ]
            origins = [
                (file[f"nodes{i}"], file[f"sizes{i}"], file[f"keys{i}"].tobytes()) for i in range(meta["hosts"])
            ]
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} is not a checkpoint of a sentax run") from error
    return Saved(meta, leaves, origins)


def restore(
    path: str | os.PathLike[str], saved: Saved, identity: Identity, stages: Stages, inputs: Inputs
) -> tuple[Place, State, int]:
    """The state that a run goes on from.

    :raises CheckpointError: if it is not the state of this run: another key, other arguments, another
        program or sampler, another version of JAX or kind of device (where the last bits would differ).
    """
    meta = saved.meta
    if meta["versions"] != _versions():
        theirs, ours = (", ".join(f"{k} {v}" for k, v in x.items()) for x in (meta["versions"], _versions()))
        raise CheckpointError(
            f"{path} was written with {theirs}; this is {ours}: the run would not be the same"
        )
    if meta["key"] != random.key_data(identity.rng_key).tolist():
        raise CheckpointError(f"{path} is of a run with another key: delete it, or give another path")
    if meta["arguments"] != identity.arguments:
        raise CheckpointError(f"{path} is of a run of another model, or with other arguments")
    try:
        place, shapes = stages.find(*inputs, meta["stage"])
        program = identity.program(stages, inputs, place, shapes)
    except IndexError:
        program = ""
    if meta["program"] != program:
        raise CheckpointError(
            f"{path} is of another program or sampler: its kernel, options or number of particles are others, "
            "or what the model closes over is"
        )
    for host, origin in zip(identity.hosts, saved.origins, strict=True):
        _remember(host.keeper.trie, *origin)
    expected, treedef = jax.tree.flatten(shapes)
    leaves = [
        random.wrap_key_data(jax.numpy.asarray(leaf), impl=random.key_impl(inputs[0]))
        if _is_key(shape)
        else jax.numpy.asarray(leaf)
        for leaf, shape in zip(saved.leaves, expected, strict=True)
    ]
    return place, jax.tree.unflatten(treedef, leaves), meta["step"]


def _remember(trie: Trie, nodes: np.ndarray, sizes: np.ndarray, keys: bytes) -> None:
    """Gives a Python constraint the texts that it had met under their numbers."""
    ends = np.cumsum(sizes)
    origin = {int(n): keys[end - size : end] for n, size, end in zip(nodes, sizes, ends, strict=True)}
    with trie.lock:
        if any(trie.origin.get(node, key) != key for node, key in origin.items()) or (
            origin and trie.next_node <= max(origin) and trie.origin.keys() - origin.keys()
        ):
            raise CheckpointError(
                f"{trie.engine!r} has met other texts since: make the constraint anew, for this run alone"
            )
        trie.origin.update(origin)
        trie.next_node = max([trie.next_node, *(node + 1 for node in origin)])


def _write(path: Path, data: Any) -> None:
    """A file that is there is replaced at once, by a complete one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _versions() -> dict[str, str]:
    device = jax.devices()[0]
    return {"jax": jax.__version__, "jaxlib": jaxlib.__version__, "device": device.device_kind}


def _is_host(node: Any) -> bool:
    return isinstance(node, HostConstraint)


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _bytes(leaf: Any) -> bytes:
    return np.ascontiguousarray(random.key_data(leaf) if _is_key(leaf) else leaf).tobytes()


__all__ = ["CheckpointError", "Identity", "load", "restore", "save"]
