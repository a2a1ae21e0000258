"""Rotary parameters out of a config.json, in both spellings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sentax.models.families.fields import Fields
from sentax.models.rotary import Rope, read_scaling


def read_rope(fields: Fields, values: Mapping[str, Any], *, theta: float = 10_000.0) -> Rope:
    """One rotary embedding for all layers, from either spelling of its parameters.

    :param fields: the file.
    :param values: the decoder's settings so far; `max_positions` stands in where a scaling needs it.
    :param theta: the base where the file names none.
    """
    # The precedence of transformers 5: the legacy `rope_scaling` wins where a file has both.
    legacy, modern = fields.take("rope_scaling", default=None), fields.take("rope_parameters", default=None)
    name = "rope_scaling" if legacy else "rope_parameters"
    theta = fields.take("rope_theta", default=theta)
    fraction = fields.take("partial_rotary_factor", default=None)
    return make_rope(
        fields, name, dict(legacy or modern or {}), values, theta, 1.0 if fraction is None else fraction
    )


def make_rope(
    fields: Fields,
    name: str,
    parameters: dict[str, Any],
    values: Mapping[str, Any],
    theta: float,
    fraction: float = 1.0,
    *,
    partial: bool = False,
) -> Rope:
    """A rotary embedding from a dictionary of parameters and what stands beside it.

    :param name: the dictionary's, for messages.
    :param theta: the base where the dictionary names none.
    :param fraction: the turning share of a head where the dictionary names none.
    :param partial: whether the family knows a share other than all.
    """
    theta = parameters.get("rope_theta") or theta
    fraction = parameters.get("partial_rotary_factor") or fraction
    scaling, known = read_scaling(parameters, values["max_positions"])
    known |= {"rope_theta", "rope_type", "type", "partial_rotary_factor"}
    for key in parameters:
        if key not in known:
            fields.faults.append(
                f"{name}.{key} is {parameters[key]!r}; no such field for this rope_type: pass "
                f"ignore_fields=['{name}.{key}'] if no output depends on it"
            )
    if type(theta) not in (int, float) or theta <= 0:
        fields.faults.append(f"rope_theta is {theta!r}; supported: a positive number")
        return Rope()
    if type(fraction) not in (int, float) or not 0 < fraction <= 1:
        fields.faults.append(f"partial_rotary_factor is {fraction!r}; supported: a share of at most 1")
        return Rope()
    if fraction != 1.0 and not partial:
        fields.faults.append(f"partial_rotary_factor is {fraction!r}; supported: 1.0")
    return Rope(float(theta), scaling, float(fraction))
