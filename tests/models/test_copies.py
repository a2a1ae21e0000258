"""What a compiled run copies: caches in the steps that resample, and nothing of their size in the others."""

import re

import jax
import pytest

import sentax as sx
from sentax.models import load

N, T = 4, 32


@pytest.fixture(scope="module")
def program(language_model):
    """The compiled run, and the shape of one layer's suffix in its text."""
    lm = load(language_model[1])
    context = lm.prompt([0, 70, 71])
    smc = sx.SMC(sx.Prior(lambda c: sx.generate("text", c, max_tokens=T)), num_particles=N)
    smc.run(jax.random.key(0), context)
    config = lm.config
    return smc._executable.latest.as_text(), f"f32[{N},{config.num_kv_heads},{T},{config.head_dim}]"


def computations(text):
    """Name to instructions, as pairs of shape and operation."""
    found = {}
    for block in re.split(r"\n(?=%|ENTRY)", text):
        if head := re.match(r"(?:ENTRY )?%([\w.-]+) ", block):
            # A tuple's shape begins with a bracket: only single arrays are of interest.
            found[head[1]] = re.findall(r"= (\w+\[[\d,]*\])(?:\{[^}]*\})? ([\w-]+)\(", block)
    return found


def test_steps_without_resampling_copy_no_cache(program):
    text, shape = program
    found = computations(text)
    conditionals = re.findall(
        r"= \((.*?)\) conditional\(.*branch_computations=\{%([\w.-]+), %([\w.-]+)\}", text
    )
    (branches,) = [(keep, take) for shapes, keep, take in conditionals if shape in shapes]
    keep, take = ([operation for s, operation in found[name] if s == shape] for name in branches)
    assert set(keep) <= {"parameter", "get-tuple-element"}
    assert set(take) - {"parameter", "get-tuple-element"}  # the shape is the right one

    # The loop around them writes one slot in place.
    bodies = [name for name in re.findall(r"body=%([\w.-]+)", text) if any(s == shape for s, _ in found[name])]
    assert bodies
    for name in bodies:
        assert "copy" not in [operation for s, operation in found[name] if s == shape]


def test_prompts_are_no_part_of_what_moves(program, language_model):
    """Only suffixes pass through the conditional of a resampling: prompts and weights have no particle axis."""
    text, shape = program
    (moved,) = [s for s in re.findall(r"= \((.*?)\) conditional\(", text) if shape in s]
    assert moved.count(shape) == 2 * load(language_model[1]).config.num_layers
    assert f"[{N},2,64,8]" not in text  # the prompt's bucket
    assert "[2,64,8]" in text
