"""Which layers have a sliding window, out of a config.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sentax.models.families.fields import Fields


def read_windows(
    fields: Fields, values: Mapping[str, Any], window: int | None, pattern: list[bool]
) -> list[int | None]:
    """The sliding window of every layer.

    :param window: its size; None where there is none.
    :param pattern: which layers have one, unless the file's ``layer_types`` says.
    """
    types = fields.take("layer_types", default=None)
    if types is not None:
        known = {"sliding_attention": True, "full_attention": False}
        if len(types) < values["num_layers"] or any(kind not in known for kind in types):
            fields.fault("layer_types", f"{values['num_layers']} of 'full_attention', 'sliding_attention'")
            return [None] * values["num_layers"]
        pattern = [known[kind] for kind in types]
    if window is None and any(pattern):
        fields.faults.append("layer_types asks for sliding_attention, but there is no sliding_window")
    return [window if slides else None for slides in pattern[: values["num_layers"]]]
