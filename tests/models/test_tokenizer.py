"""Bytes of tokens, and vocabularies: exact on byte-level and SentencePiece tokenizers, errors elsewhere."""

import json

import jax
import numpy as np
import pytest
from reference.checkpoints import TEXTS, TOKENIZERS, byte_level_tokenizer, sentencepiece_tokenizer
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import decoders, models, pre_tokenizers

from sentax.models import ModelError, Tokenizer, Vocabulary

HARD = [
    *TEXTS,
    "",
    " ",
    "  two  spaces ",
    "\n\n a",
    "é\u0301 \u00a0 \u200d \U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\x00\x7f\u0080 <0x41> <|end|> </s> <s>",
]


@pytest.fixture(scope="module", params=TOKENIZERS)
def tokenizer(request):
    return Tokenizer(TOKENIZERS[request.param]().to_str())


@pytest.mark.parametrize("text", HARD)
def test_fragments_are_exact(tokenizer, text):
    """The bytes of a text's tokens are the text, whatever it looks like."""
    assert b"".join(tokenizer.bytes[i] for i in tokenizer.encode(text)).decode() == text


@pytest.mark.parametrize("make", TOKENIZERS.values(), ids=TOKENIZERS)
@pytest.mark.parametrize("text", TEXTS)
def test_prompts_are_the_tokenizers_own(make, text):
    fast = make()
    assert Tokenizer(fast.to_str()).encode_prompt(text) == fast.encode(text).ids


def test_every_byte_level_token():
    fast = byte_level_tokenizer()
    tokenizer = Tokenizer(fast.to_str())
    alphabet = dict(zip(sorted(pre_tokenizers.ByteLevel.alphabet()), range(256)))
    assert len(alphabet) == 256
    single = {tokenizer.bytes[fast.token_to_id(char)] for char in alphabet}
    assert single == {bytes([byte]) for byte in range(256)}
    assert tokenizer.bytes[fast.token_to_id("Ġhello")] == b" hello"
    # Added tokens stand for their own text; decode() reads this one's é as the byte 0xE9.
    assert tokenizer.bytes[fast.token_to_id("café")] == "café".encode()
    assert tokenizer.bytes[fast.token_to_id("  ")] == b"  "
    assert tokenizer.bytes[fast.token_to_id("<tool>")] == b"<tool>"
    assert tokenizer.special == {"<|end|>": 0, "<|user|>": 1}
    assert not set(tokenizer.special.values()) & set(tokenizer.bytes)
    assert tokenizer.prefix == (0,)


def test_every_sentencepiece_token():
    fast = sentencepiece_tokenizer()
    tokenizer = Tokenizer(fast.to_str())
    assert tokenizer.bytes[fast.token_to_id("<0x41>")] == b"A"
    assert tokenizer.bytes[fast.token_to_id("<0xFF>")] == b"\xff"
    assert tokenizer.bytes[fast.token_to_id("\u2581hello")] == b" hello"
    spaces = [i for i, token in tokenizer.bytes.items() if token == b" "]
    assert len(spaces) == 2  # <0x20> and the space piece: bytes to id is not unique
    assert tokenizer.special == {"<unk>": 0, "<s>": 1, "</s>": 2}
    # Prompts get the space that the model was trained with, fragments do not.
    prompt, fragment = tokenizer.encode_prompt("hello"), tokenizer.encode("hello")
    assert b"".join(tokenizer.bytes.get(i, b"") for i in prompt) == b" hello"
    assert b"".join(tokenizer.bytes[i] for i in fragment) == b"hello"


def test_added_token_inside_the_vocabulary():
    """Gemma lists runs of U+2581 as added tokens: they mean spaces."""
    fast = sentencepiece_tokenizer()
    spec = json.loads(fast.to_str())
    spec["model"]["vocab"]["\u2581\u2581"] = index = len(spec["model"]["vocab"])
    spec["added_tokens"].append(
        {**spec["added_tokens"][0], "id": index, "content": "\u2581\u2581", "special": False}
    )
    assert Tokenizer(json.dumps(spec)).bytes[index] == b"  "


def test_unigram_with_byte_fallback():
    pieces = [
        ("<unk>", 0.0),
        *((f"<0x{byte:02X}>", -10.0) for byte in range(256)),
        ("\u2581a", -1.0),
        ("\u2581", -2.0),
    ]
    fast = FastTokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    fast.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer = Tokenizer(fast.to_str())
    assert tokenizer.special == {"<unk>": 0}
    assert tokenizer.bytes[257] == b" a"
    assert b"".join(tokenizer.bytes[i] for i in tokenizer.encode("a \U0001f600")) == "a \U0001f600".encode()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (models.WordPiece({"[UNK]": 0, "a": 1, "##b": 2}, unk_token="[UNK]"), "marks parts of words"),
        (
            models.Unigram([("<unk>", 0.0), ("a", -1.0)], unk_id=0, byte_fallback=False),
            "neither byte-level nor",
        ),
        (models.BPE({"a": 0, "b": 1}, []), "neither byte-level nor"),
        (models.BPE({"a": 0, "b</w>": 1}, [], end_of_word_suffix="</w>"), "marks parts of words"),
    ],
)
def test_tokenizers_without_exact_bytes(model, message):
    with pytest.raises(ModelError, match=message):
        Tokenizer(FastTokenizer(model).to_str())


def test_not_a_tokenizer():
    with pytest.raises(ModelError, match="not a fast tokenizer"):
        Tokenizer("{}")


def test_beginning_of_text_by_setting():
    fast = FastTokenizer(models.BPE({"<s>": 0, "a": 1}, []))
    fast.pre_tokenizer, fast.decoder = pre_tokenizers.ByteLevel(add_prefix_space=True), decoders.ByteLevel()
    fast.add_special_tokens(["<s>"])
    assert Tokenizer(fast.to_str()).prefix == ()
    tokenizer = Tokenizer(fast.to_str(), bos_token="<s>")
    assert tokenizer.encode_prompt("a") == [0, 1]
    assert tokenizer.encode_prompt("", prefix=False) == []


def test_vocabulary(tokenizer):
    size = max(tokenizer.bytes) + 10
    ends = sorted(tokenizer.special.values())[-2:]
    vocabulary = Vocabulary.from_tokenizer(tokenizer, size, ends)
    assert (vocabulary.size, vocabulary.end_of_text, vocabulary.ends) == (size, ends[0], tuple(ends))
    assert vocabulary.table.shape == (size, max(map(len, tokenizer.bytes.values())))
    for index, row in enumerate(np.asarray(vocabulary.table)):
        assert bytes(row[row < 256].astype(np.uint8)) == tokenizer.bytes.get(index, b"")
        assert (row[len(tokenizer.bytes.get(index, b"")) :] == 256).all()
    assert (np.flatnonzero(vocabulary.drawable()) == sorted([*tokenizer.bytes, ends[0]])).all()
    for text in TEXTS:
        ids = vocabulary.encode(text)
        assert vocabulary.decode([*ids, ends[0], *ids]).decode() == text
    emoji = vocabulary.encode("\U0001f680")
    assert (
        vocabulary.decode(np.array(emoji[:-1])) == "\U0001f680".encode()[: len(vocabulary.decode(emoji[:-1]))]
    )
    starting = [token.startswith(b"he") for token in vocabulary.tokens]
    assert vocabulary.starting_with(b"he").tolist() == starting
    assert not vocabulary.starting_with(b"x" * 500).any()


def test_vocabulary_errors(tokenizer):
    with pytest.raises(ModelError, match=r"has token \d+, but the model has only 10 embedding rows"):
        Vocabulary.from_tokenizer(tokenizer, 10, [0])
    with pytest.raises(ModelError, match="no token ends a text"):
        Vocabulary.from_tokenizer(tokenizer, 1000, [1000])
    with pytest.raises(ValueError, match="end_of_text is 7"):
        Vocabulary([b"a"], end_of_text=7)
    with pytest.raises(ValueError, match="no tokenizer"):
        Vocabulary([b"a"], end_of_text=0).encode("a")


def test_vocabulary_is_a_pytree_keyed_by_content():
    traces = []

    @jax.jit
    def first(vocabulary, index):
        traces.append(vocabulary.size)
        return vocabulary.table[index]

    a, b = Vocabulary([b"a", b"bc", b""], 2), Vocabulary([b"a", b"bc", b"xyz"], [2])
    c = Vocabulary([b"a", b"bd", b""], 2)
    assert first(a, 1).tolist() == first(b, 1).tolist() == [98, 99]
    assert first(c, 1).tolist() == [98, 100]
    assert traces == [3, 3]
    assert len(jax.tree.leaves(a)) == 1
    assert jax.tree.structure(a) == jax.tree.structure(b) != jax.tree.structure(c)
