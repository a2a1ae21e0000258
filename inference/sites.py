"""What a trace of a program leaves about its sites, beside the arrays."""

from __future__ import annotations


class SiteNumbers:
    """Numbers for site names, handed out while tracing, so that a death can be told by its factor's name.

    :param methods: by token site, how it is drawn; `unmasked`: by token site, why it has no mask.
    :param units: the names that steps gave to :func:`sentax.unit`.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.methods: dict[str, str] = {}
        self.unmasked: dict[str, str] = {}
        self.units: set[str] = set()

    def __call__(self, name: str) -> int:
        if name not in self.names:
            self.names.append(name)
        return self.names.index(name)
