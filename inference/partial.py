"""Partial evaluation: what does not depend on a function's argument is computed once, outside its loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.extend import core as jcore
from jax.interpreters import partial_eval as pe


class Hoisted(NamedTuple):
    """What is left of a function after :func:`hoist`.

    :param varies: whether its value depends on its arguments.
    :param calls_host: whether what is left calls back to Python.
    """

    fn: Callable[..., Any]
    varies: bool
    calls_host: bool


def hoist(fn: Callable[..., Any], *examples: Any) -> Hoisted:
    """`fn` with everything computed now that does not depend on its arguments, and nothing that is unused.

    A factor met in re-execution drags the whole step along: the language model's forward pass above
    all. Its unused part is removed here, not left to the compiler, and its part that does not
    depend on the candidate (a score of the text so far, say) leaves the rejection loop.

    :param fn: a traceable function of arrays.
    :param examples: for each argument an array, or its shape and dtype.
    """
    closed, out_shape = jax.make_jaxpr(fn, return_shape=True)(*examples)
    jaxpr, used_inputs = pe.dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars))
    dependent = set(jaxpr.invars)
    now, later = [], []
    for equation in jaxpr.eqns:
        if equation.effects or any(isinstance(v, jcore.Var) and v in dependent for v in equation.invars):
            dependent.update(v for v in equation.outvars)
            later.append(equation)
        else:
            now.append(equation)

    known: dict[Any, Any] = dict(zip(jaxpr.constvars, closed.consts, strict=True))
    _evaluate(now, known)
    treedef = jax.tree.structure(out_shape)

    def rest(*arguments: Any) -> Any:
        leaves = [x for x, used in zip(jax.tree.leaves(arguments), used_inputs, strict=True) if used]
        values = dict(known)
        values.update(zip(jaxpr.invars, leaves, strict=True))
        _evaluate(later, values)
        return jax.tree.unflatten(treedef, [_read(v, values) for v in jaxpr.outvars])

    varies = any(isinstance(v, jcore.Var) and v in dependent for v in jaxpr.outvars)
    return Hoisted(rest, varies, _calls_host(later))


def forwarded(closed: jcore.ClosedJaxpr, num_carry: int) -> list[bool]:
    """Which of the first `num_carry` inputs come out unchanged at the same place: constants of the loop."""
    jaxpr = closed.jaxpr
    pairs = zip(jaxpr.invars[:num_carry], jaxpr.outvars[:num_carry], strict=True)
    return [inner is outer for inner, outer in pairs]


def _calls_host(equations: Any) -> bool:
    for equation in equations:
        if "callback" in equation.primitive.name:
            return True
        if any(_calls_host(inner.eqns) for inner in jcore.jaxprs_in_params(equation.params)):
            return True
    return False


def _read(var: Any, values: dict[Any, Any]) -> Any:
    return var.val if isinstance(var, jcore.Literal) else values[var]


def _evaluate(equations: list[Any], values: dict[Any, Any]) -> None:
    for equation in equations:
        inputs = [_read(v, values) for v in equation.invars]
        params = equation.primitive.get_bind_params(equation.params)
        subfuns: tuple[Any, ...] = ()
        if isinstance(params, tuple):  # how some versions of JAX split them
            subfuns, params = params
        outputs = equation.primitive.bind(*subfuns, *inputs, **params)
        if not equation.primitive.multiple_results:
            outputs = [outputs]
        values.update(zip(equation.outvars, outputs, strict=True))
