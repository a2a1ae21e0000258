"""Domains and models by name: what another process needs to make them again."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from typing import Any

import sentax.domains
from sentax.domains.base import Domain
from sentax.models.loading import load
from sentax.ppl.language_model import LanguageModel


def make_domain(spec: str) -> Domain[Any]:
    """A domain by its name, or `module:Class`, or `file.py:Class`; a class is called without arguments.

    :raises ValueError: if there is none.

    >>> make_domain("goal_inference").name, make_domain("sentax.domains.goal_inference:GoalInference").name
    ('goal_inference', 'goal_inference')
    """
    if ":" not in spec:
        return sentax.domains.get(spec)
    made = _make(spec)
    if not isinstance(made, Domain):
        raise ValueError(f"{spec!r} gives a {type(made).__name__}, not a sentax.domains.Domain")
    if not isinstance(getattr(made, "name", None), str) or not made.name:
        raise ValueError(f"{spec!r} has no name: set the class attribute `name`")
    if not isinstance(getattr(made, "max_tokens", None), int):
        raise ValueError(f"{spec!r} has no longest answer: set the class attribute `max_tokens`")
    return made


def make_model(spec: str | None) -> Any:
    """A language model: the embedded one for None, a directory or an id of the hub, or `module:function`.

    The function, of a module or of `file.py`, is called without arguments: it says what :func:`sentax.load`
    alone does not, such as a dtype or a temperature.

    :raises ValueError: if there is none.
    :raises ModelError: see :func:`sentax.load`.
    """
    if spec is None or not is_code(spec):
        return load(spec)
    made = _make(spec)
    if not isinstance(made, LanguageModel):
        raise ValueError(f"{spec!r} gives a {type(made).__name__}, not a language model")
    return made


def is_code(spec: str) -> bool:
    """Whether a model is made by a function: `module:function` or `file.py:function`, and no directory."""
    return ":" in spec and not Path(spec).is_dir()


def everywhere(spec: str | None) -> str | None:
    """The same spec for a process with another working directory: paths are made absolute.

    >>> everywhere("text_to_sql")
    'text_to_sql'
    """
    if spec is None:
        return None
    place, colon, name = spec.rpartition(":")
    if colon and place.endswith(".py"):
        return f"{Path(place).expanduser().resolve()}:{name}"
    return str(Path(spec).expanduser().resolve()) if Path(spec).expanduser().is_dir() else spec


def _make(spec: str) -> Any:
    place, _, name = spec.rpartition(":")
    module = _from_file(Path(place), spec) if place.endswith(".py") else _imported(place, spec)
    made = module
    for part in name.split("."):
        if not hasattr(made, part):
            raise ValueError(f"{spec!r}: {place} has no {name!r}")
        made = getattr(made, part)
    if not callable(made):
        raise ValueError(f"{spec!r}: {name} is a {type(made).__name__}, not a class or a function")
    if missing := _required(made):
        raise ValueError(
            f"{spec!r} wants {', '.join(missing)}: write a function without arguments that gives it"
        )
    return made()


def _required(made: Any) -> list[str]:
    """Parameters without a default."""
    try:
        parameters = inspect.signature(made).parameters.values()
    except ValueError:  # of some built-in types
        return []
    variadic = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
    return [p.name for p in parameters if p.default is p.empty and p.kind not in variadic]


def _imported(name: str, spec: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # Not one that the module itself imports: that error is its own.
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise ValueError(f"{spec!r}: no module {error.name!r}; give a path: FILE.py:NAME") from None
        raise


def _from_file(file: Path, spec: str) -> Any:
    """The module of a file, executed once a process, under a name by which pickle finds its classes again."""
    file = file.expanduser().resolve()
    if not file.is_file():
        raise ValueError(f"{spec!r}: no file {str(file)!r}")
    name = f"{file.stem}_{hashlib.blake2b(str(file).encode(), digest_size=4).hexdigest()}"
    if name in sys.modules:
        return sys.modules[name]
    found = importlib.util.spec_from_file_location(name, file)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    try:
        found.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


__all__ = ["everywhere", "is_code", "make_domain", "make_model"]
