"""Bytes of tokens, and vocabularies: exact on byte-level and SentencePiece tokenizers, errors elsewhere."""

import json

import jax
import numpy as np
import pytest
from reference.checkpoints import TEXTS, TOKENIZERS, byte_level_tokenizer, sentencepiece_tokenizer
from reference.tokenizers import LOSSLESS, sentencepiece_model, sentencepiece_unigram, tiktoken_style, wordpiece
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
    "e\u0301 \ufb01 \uff1c \u212b A\u030a",  # not in a normal form
    " <tool>  <tool>\t<|im_end|> \u00fc\u0308ber <ctl>",
    "\u2581 a\u2581b",  # SentencePiece's own space
]


@pytest.fixture(scope="module", params=LOSSLESS)
def tokenizer(request):
    return Tokenizer(LOSSLESS[request.param]().to_str())


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


def test_every_tiktoken_token():
    fast = tiktoken_style()
    tokenizer = Tokenizer(fast.to_str())
    alphabet = dict(zip(sorted(pre_tokenizers.ByteLevel.alphabet()), range(256)))
    assert {tokenizer.bytes[fast.token_to_id(char)] for char in alphabet} == {bytes([b]) for b in range(256)}
    assert tokenizer.special == {"<|im_end|>": fast.token_to_id("<|im_end|>")}
    assert tokenizer.bytes[fast.token_to_id("\u00fc\u0308ber")] == "\u00fc\u0308ber".encode()
    # A prompt is read as the model was trained: normalised, spaces around a token swallowed.
    spelled = lambda ids: b"".join(tokenizer.bytes[i] for i in ids).decode()
    assert spelled(tokenizer.encode_prompt("e\u0301 <tool> x")) == "\u00e9<tool>x"
    assert spelled(tokenizer.encode("e\u0301 <tool> x")) == "e\u0301 <tool> x"


def test_every_token_of_sentencepiece_itself():
    """The bytes that the library that trained the model gives each piece; a token for every kind of piece."""
    model = sentencepiece_model()
    tokenizer = Tokenizer(sentencepiece_unigram(model).to_str())
    kinds = set()
    for i in range(model.get_piece_size()):
        piece = model.id_to_piece(i)
        if model.is_control(i) or model.is_unknown(i):
            kinds.add("special")
            assert tokenizer.special[piece] == i and i not in tokenizer.bytes
        elif model.is_byte(i):
            kinds.add("byte")
            assert tokenizer.bytes[i] == bytes([int(piece[3:5], 16)])
        else:
            kinds.add("text")
            assert tokenizer.bytes[i] == piece.replace("\u2581", " ").encode()
    assert kinds == {"special", "byte", "text"}
    assert tokenizer.bytes[model.piece_to_id("\u2581\u2581")] == b"  "
    for text in TEXTS[:2]:
        assert tokenizer.encode_prompt(text) == model.encode(text)


def test_duplicates():
    """Pieces listed twice, a byte and its piece, an added token with the content of a piece: each id counts."""
    pieces = [("<unk>", 0.0), ("a", -1.0), ("a", -2.0), ("<0x61>", -3.0), ("\u2581", -1.0), ("<0x20>", -5.0)]
    fast = FastTokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    fast.pre_tokenizer = pre_tokenizers.Metaspace()
    spec = json.loads(fast.to_str())
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    spec["added_tokens"] = [{"id": 6, "content": "b", **flags}]
    tokenizer = Tokenizer(json.dumps(spec))
    assert tokenizer.bytes == {1: b"a", 2: b"a", 3: b"a", 4: b" ", 5: b" ", 6: b"b"}
    vocabulary = Vocabulary.from_tokenizer(tokenizer, 8, [0])
    assert vocabulary.drawable().tolist() == [True] * 7 + [False]
    assert np.flatnonzero(vocabulary.starting_with(b"a")).tolist() == [1, 2, 3]
    assert vocabulary.completions(1) is None  # no longer one


def test_wordpiece():
    """A space in front of every word; what it cannot write is an error, not another text."""
    fast = wordpiece()
    tokenizer = Tokenizer(fast.to_str())
    spell = lambda ids: b"".join(tokenizer.bytes[i] for i in ids).decode()
    assert set(tokenizer.special) == {"[PAD]", "[UNK]", "[CLS]", "[SEP]"}
    assert tokenizer.prefix == (fast.token_to_id("[CLS]"),)
    for piece, index in fast.get_vocab().items():
        if index not in tokenizer.special.values():
            text = piece[2:] if piece.startswith("##") else " " + piece
            assert tokenizer.bytes[index] == text.encode()
    # Its own decoder says the same, but for the first space.
    prompt = "She SAID hello, to the\u0301 old sailor"
    ids = tokenizer.encode_prompt(prompt, prefix=False)
    assert spell(ids) == " " + fast.decode(ids) == " she said hello , to the old sailor"
    assert tokenizer.encode(" she said hello , to the old sailor") == ids
    for text in ("", " hello", "hello", "llo , the <tool>", "r said hello", "o"):
        assert spell(tokenizer.encode(text)) == text
    assert tokenizer.encode(" hello") != tokenizer.encode("hello")  # the beginning of a word, and its inside
    for text in (" hello,", "a  b", "hello ", " Hello", " th\u00e9", "\n", " \U0001f680"):
        with pytest.raises(ValueError, match="cannot write"):
            tokenizer.encode(text)
    vocabulary = Vocabulary.from_tokenizer(tokenizer, 140, [fast.token_to_id("[SEP]")])
    assert vocabulary.drawable().sum() == len(tokenizer.bytes) + 1


def test_wordpiece_without_an_exact_map():
    spec = json.loads(wordpiece().to_str())
    spec["decoder"]["prefix"] = "@@"
    with pytest.raises(ModelError, match="marks the inside of words by '##', its decoder by '@@'"):
        Tokenizer(json.dumps(spec))


def test_saved(tokenizer):
    again = Tokenizer.from_json(tokenizer.to_json())
    assert (again.bytes, again.special, again.prefix) == (tokenizer.bytes, tokenizer.special, tokenizer.prefix)
    for text in HARD:
        assert again.encode(text) == tokenizer.encode(text)
        assert again.encode_prompt(text) == tokenizer.encode_prompt(text)


def test_parts_of_characters(tokenizer):
    """Any bytes can be put together: every byte is a token, alone and in the middle of a character."""
    single = {token: i for i, token in sorted(tokenizer.bytes.items(), reverse=True) if len(token) == 1}
    assert len(single) == 256
    vocabulary = Vocabulary.from_tokenizer(
        tokenizer, max(tokenizer.bytes) + 1, [min(tokenizer.special.values())]
    )
    data = "\U0001f680\u00e9".encode()[1:-1] + b"\xff\x00 "
    assert vocabulary.decode([single[bytes([byte])] for byte in data]) == data


def test_text_that_no_tokens_spell():
    fast = FastTokenizer(models.BPE({"<unk>": 0, "a": 1}, [], unk_token="<unk>", byte_fallback=True))
    tokenizer = Tokenizer(fast.to_str())
    assert tokenizer.encode("aa") == [1, 1]
    with pytest.raises(ValueError, match="cannot write 'ab': its tokens spell b'a'"):
        tokenizer.encode("ab")


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
    assert vocabulary.encode(TEXTS[0].encode()) == vocabulary.encode(TEXTS[0])
    with pytest.raises(ValueError, match="not UTF-8"):
        vocabulary.encode(b"\xff")
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
        Vocabulary([b"a", b"bc", b""], end_of_text=2).encode("a")


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
