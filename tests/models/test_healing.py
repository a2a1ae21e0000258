"""Token healing: the end of a prompt need not be the end of a token."""

import jax.numpy as jnp
import numpy as np
import pytest

from sentax.models import load


@pytest.fixture(scope="module")
def lm(language_model):
    return load(language_model[1])


def test_first_token_is_restricted_not_changed(lm):
    text = "She said hello to the old sail"
    ids = [0, *lm.vocabulary.encode(text)]
    taken = lm.vocabulary.tokens[ids[-1]]
    context = lm.prompt(text)
    assert int(context.seam) == len(taken)
    assert int(context.held) == ids[-1]
    plain = lm.prompt(ids[:-1])
    matches = np.array([token.startswith(taken) for token in lm.vocabulary.tokens])
    np.testing.assert_array_equal(context.logits, jnp.where(matches, plain.logits, -jnp.inf))
    assert not np.isfinite(context.logits[lm.vocabulary.end_of_text])

    # After the first token the text is an ordinary one.
    token = int(jnp.argmax(context.logits))
    after = context.extend(token)
    assert (int(after.seam), int(after.held)) == (0, -1)
    np.testing.assert_allclose(after.logits, plain.extend(token).logits, atol=1e-5)
    np.testing.assert_allclose(context.extend(ids[-1]).logits, lm.prompt(text, heal=False).logits, atol=1e-4)


def test_fixed_text_after_a_healed_prompt_continues_the_prompt(lm):
    text = "She said hello to the old sail"
    healed, naive = lm.prompt(text), lm.prompt(text, heal=False)
    assert int(healed.seam) > 0 == int(naive.seam)
    a, b = (context.append_text("or, hello") for context in (healed, naive))
    np.testing.assert_allclose(a.logits, b.logits, atol=1e-4)
    assert (int(a.position), int(a.seam), int(a.held)) == (int(b.position), 0, -1)
    inactive = healed.append_text("or, hello", False)
    np.testing.assert_array_equal(inactive.logits, healed.logits)
    assert int(inactive.seam) == int(healed.seam)


@pytest.mark.parametrize(
    "prompt",
    [
        "",  # only the token for the beginning of a text
        "She said<|user|>",  # a special token
        [0, 100, 101],  # ids
        [{"role": "user", "content": "hello"}],
        "\U0001f680",  # no longer token begins with its last byte
    ],
)
def test_not_healed(lm, prompt):
    context = lm.prompt(prompt)
    assert (int(context.seam), int(context.held)) == (0, -1)
    assert int(np.isfinite(context.logits).sum()) == lm.vocabulary.drawable().sum()
