"""What can go wrong in a run, by name."""

from __future__ import annotations


class NoSurvivingParticles(RuntimeError):
    """Every particle died: no sample can be given; the evidence estimate is 0."""


class UnsupportedProgram(NotImplementedError):
    """A program the engine cannot run; the message says what to do instead."""


class InvalidWeight(FloatingPointError):
    """A factor of the program was NaN or `+inf`."""


__all__ = ["InvalidWeight", "NoSurvivingParticles", "UnsupportedProgram"]
