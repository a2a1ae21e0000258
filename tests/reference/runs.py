"""One finished run with everything in it that pictures and diagnostics must show, made once in a process."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.contrib.control_flow import scan

import sentax as sx

# Markup that a page must not obey, a dollar sign that a picture must not typeset, a character cut in two.
TOKENS = [b"<script>", b"</script>", b"\xc3", b"\xa9", b"$x$", b""]
GRAMMAR = "(<script>|</script>|é|[$]x[$])*"
MAX_TOKENS, NUM_GATES = 5, 3


def markup(context: Any, where: Any) -> None:
    """A constrained text, a factor between scans, a scan without a text, a constraint at the end."""
    text = sx.generate("text", context, max_tokens=MAX_TOKENS, where=where)
    numpyro.factor("between", jnp.where(text.length > 4, -jnp.inf, 0.3 * text.length))

    def step(opened: Any, _: None) -> Any:
        gate = numpyro.sample("gate", dist.Bernoulli(0.6))
        numpyro.factor("once", jnp.where((gate == 1) & (opened > 0), -jnp.inf, 0.2 * gate))
        return opened + gate, gate

    opened, _ = scan(step, jnp.int32(0), None, length=NUM_GATES)
    sx.constrain("some", opened + text.length > 0)


class Run(NamedTuple):
    """The sampler with its results, and what it reported while it ran: (scan, step, length, ESS, evidence)."""

    smc: Any
    reports: list[tuple[float, ...]]


@functools.cache
def markup_run(num_particles: int = 40) -> Run:
    logits = np.random.default_rng(3).normal(size=(6, 6)).astype(np.float32)
    lm = sx.TableLM(logits, logits[0], TOKENS, end_of_text=5)
    smc = sx.SMC(
        sx.Prior(markup),
        num_particles=num_particles,
        ess_threshold=0.7,
        resampling=sx.multinomial,
        progress_bar=True,
    )
    reports: list[tuple[float, ...]] = []
    assert smc.progress is not None
    smc.progress.step = lambda *report: reports.append(tuple(float(np.asarray(r)) for r in report))  # type: ignore[method-assign]
    smc.run(jax.random.key(5), lm.prompt(), sx.regex(GRAMMAR))
    jax.effects_barrier()
    return Run(smc, reports)
