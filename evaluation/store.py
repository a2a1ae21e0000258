"""Results on disk: one file a cell, and beside them what they are results of."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sentax.evaluation.cell import Record
from sentax.evaluation.settings import ConstraintChoice, MethodSettings, Settings

MANIFEST = "manifest.json"
_FORMAT = 1
_LONGEST = 150  # characters of a file's name: file systems end at 255 bytes


class Mismatch(ValueError):
    """A folder holds results of another evaluation."""


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a folder's results are results of.

    :param domain: the domain's name.
    :param instances: by id, a digest of the prompt, empty where making it failed.
    """

    domain: str
    settings: Settings
    method: MethodSettings
    replicates: int
    instances: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        method = dataclasses.asdict(self.method)
        return {
            "format": _FORMAT,
            "domain": self.domain,
            "settings": self.settings.as_dict(),
            "method": method,
            "replicates": self.replicates,
            "instances": dict(self.instances),
        }

    @classmethod
    def read(cls, file: Path) -> Manifest:
        """:raises ValueError: if the file is no manifest."""
        plain = _read(file)
        if plain.get("format") != _FORMAT:
            raise ValueError(f"{file} has format {plain.get('format')!r}; this sentax reads {_FORMAT}")
        try:
            settings = plain["settings"]
            return cls(
                plain["domain"],
                Settings(**(settings | {"constraint": ConstraintChoice(settings["constraint"])})),
                MethodSettings(**plain["method"]),
                plain["replicates"],
                plain["instances"],
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"{file} is no manifest of an evaluation: {error}") from None

    def joined(self, other: Manifest) -> Manifest:
        """With the instances and replicates of both, which may grow; nothing else may differ.

        :raises Mismatch: saying what differs, where `self` is on disk.
        """
        differences = [*_differences(self.settings.as_dict(), other.settings.as_dict())]
        differences += _differences(dataclasses.asdict(self.method), dataclasses.asdict(other.method))
        common = [id for id in other.instances if id in self.instances]
        changed = [id for id in common if "" != self.instances[id] != other.instances[id] != ""]
        if changed:
            differences.append(
                f"the prompts of {len(changed)} of {len(common)} instances ({_some(changed)}): the data or the "
                "domain has changed"
            )
        if differences:
            raise Mismatch("; ".join(differences))
        instances = dict(self.instances) | dict(other.instances)
        return dataclasses.replace(self, replicates=max(self.replicates, other.replicates), instances=instances)


class Store:
    """The folder of a domain and a method: `OUT/DOMAIN/METHOD/INSTANCE-rREPLICATE.json`.

    Files appear whole or not at all, so that a process may be killed at any time. Methods have a folder and a
    manifest each: several machines may evaluate different ones into one `OUT`.

    :param out: the evaluation's folder.
    """

    def __init__(self, out: str | Path, domain: str, method: str) -> None:
        self.folder = Path(out) / safe_name(domain) / safe_name(method)

    def joined(self, manifest: Manifest) -> Manifest:
        """What the folder's manifest will be, with these instances and replicates too; writes nothing.

        :raises Mismatch: if what is in it, or beside it, belongs to another evaluation; with what differs.
        """
        for sibling in sorted(self.folder.parent.glob(f"*/{MANIFEST}")):
            known = Manifest.read(sibling)
            if differences := _differences(known.settings.as_dict(), manifest.settings.as_dict()):
                raise Mismatch(_refusal(sibling.parent, "; ".join(differences)))
        file = self.folder / MANIFEST
        if file.exists():
            try:
                return Manifest.read(file).joined(manifest)
            except Mismatch as error:
                raise Mismatch(_refusal(self.folder, str(error))) from None
        if any(self.folder.glob("*.json")):
            raise Mismatch(f"{self.folder} holds results, and no {MANIFEST} says of what: give another folder")
        return manifest

    def open(self, manifest: Manifest) -> None:
        """Makes the folder, with its manifest, and removes what a process left that was killed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for left_over in self.folder.glob(".*.part"):
            left_over.unlink(missing_ok=True)
        write_atomically(self.folder / MANIFEST, json.dumps(manifest.as_dict(), indent=1))

    def path(self, instance: str, replicate: int) -> Path:
        return self.folder / f"{safe_name(instance)}-r{replicate}.json"

    def save(self, record: Record) -> None:
        """Writes a cell's file."""
        file = self.path(record.instance, record.replicate)
        write_atomically(file, json.dumps(record.as_dict(), indent=1, allow_nan=False))

    def load(self, instance: str, replicate: int) -> Record | None:
        """A cell that is done, None if it is not.

        :raises ValueError: if its file is not what it should be.
        """
        file = self.path(instance, replicate)
        if not file.exists():
            return None
        try:
            record = Record.from_dict(_read(file))
        except (KeyError, TypeError) as error:
            raise ValueError(f"{file} is no result ({error}): delete it, and the cell is run again") from None
        if (record.instance, record.replicate) != (instance, replicate):
            raise ValueError(
                f"{file} is the result of instance {record.instance!r}, replicate {record.replicate}: delete it"
            )
        return record


def write_atomically(file: Path, text: str) -> None:
    """A file that is there whole, on the disk, or as it was before."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        with open(temporary, "wb") as handle:
            handle.write(text.encode())
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)
    if os.name == "posix":  # the folder's entry, too
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def safe_name(name: str) -> str:
    """A name as part of a file's, different for different names.

    >>> safe_name("Github_easy/o 12"), safe_name(".."), len(safe_name("x" * 1000))
    ('Github_easy%2Fo%2012', '%2E.', 167)
    """
    quoted = quote(name, safe="")
    if quoted.startswith("."):
        quoted = f"%2E{quoted[1:]}"
    if len(quoted) <= _LONGEST:
        return quoted
    return f"{quoted[:_LONGEST]}-{hashlib.blake2b(name.encode(), digest_size=8).hexdigest()}"


def digest(prompt: Any) -> str:
    """Of a prompt, a text or messages."""
    return hashlib.blake2b(json.dumps(prompt).encode(), digest_size=8).hexdigest()


def _read(file: Path) -> dict[str, Any]:
    try:
        plain = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not JSON ({error}): delete it") from None
    if not isinstance(plain, dict):
        raise ValueError(f"{file} holds no JSON object: delete it")
    return plain


def _differences(there: dict[str, Any], now: dict[str, Any]) -> list[str]:
    return [
        f"{name} is {_shown(name, there[name])} there and {_shown(name, value)} now"
        for name, value in now.items()
        if there[name] != value
    ]


def _shown(name: str, value: Any) -> str:
    if value is None:
        return {"model": "the embedded model", "data": "what ships"}.get(name, "not set")
    return repr(value)


def _some(ids: list[str]) -> str:
    return ", ".join(map(repr, ids[:3])) + (", ..." if len(ids) > 3 else "")


def _refusal(folder: Path, differences: str) -> str:
    return f"{folder} holds results of other settings: {differences}. Give the same ones, or another folder"


__all__ = ["MANIFEST", "Manifest", "Mismatch", "Store", "digest", "safe_name", "write_atomically"]
