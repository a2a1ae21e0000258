"""Tokenizers of every kind with an exact byte map, trained on the spot on a few sentences."""

import io

from reference.checkpoints import TEXTS, byte_level_tokenizer, sentencepiece_tokenizer

SPACE = "\u2581"

# How OpenAI's tiktoken cuts texts, as Llama 3 and Qwen 2 write it.
TIKTOKEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def tiktoken_style():
    """Whole pieces first (``ignore_merges``), Unicode normal form C, a token that swallows spaces."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(TIKTOKEN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    tokenizer.add_special_tokens([AddedToken("<|im_end|>", rstrip=True)])
    tokenizer.add_tokens([AddedToken("<tool>", lstrip=True, rstrip=True), AddedToken("\u00fc\u0308ber")])
    return tokenizer


def sentencepiece_model(**settings):
    """A unigram model trained by `sentencepiece` itself."""
    import sentencepiece

    file = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS[:2] * 5),
        model_writer=file,
        **{
            "vocab_size": 330,
            "byte_fallback": True,
            "model_type": "unigram",
            "hard_vocab_limit": False,
            "control_symbols": ["<ctl>"],
            "user_defined_symbols": ["<tool>", SPACE + SPACE],
            "normalization_rule_name": "identity",
            "remove_extra_whitespaces": False,
            "minloglevel": 2,
            **settings,
        },
    )
    return sentencepiece.SentencePieceProcessor(model_proto=file.getvalue())


def sentencepiece_unigram(processor=None):
    """The same as a fast tokenizer, the way `transformers` converts it (T5, Gemma, XGLM)."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

    processor = sentencepiece_model() if processor is None else processor
    pieces = [(processor.id_to_piece(i), processor.get_score(i)) for i in range(processor.get_piece_size())]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=processor.unk_id(), byte_fallback=True))
    # NFKC is what changes texts in practice; the tests ask that fragments be spared it.
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first")])
    special = [i for i in range(len(pieces)) if processor.is_control(i) or processor.is_unknown(i)]
    tokenizer.add_special_tokens([AddedToken(pieces[i][0], normalized=False) for i in special])
    tokenizer.add_tokens([AddedToken("<tool>", normalized=False)])
    return tokenizer


def wordpiece():
    """BERT's: lower case, no accents, punctuation by itself."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    trainer = trainers.WordPieceTrainer(
        vocab_size=120, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"], show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS[:2] * 3, trainer)
    tokenizer.add_tokens(["<tool>"])
    tokenizer.post_processor = processors.BertProcessing(
        ("[SEP]", tokenizer.token_to_id("[SEP]")), ("[CLS]", tokenizer.token_to_id("[CLS]"))
    )
    return tokenizer


LOSSLESS = {
    "byte-level": byte_level_tokenizer,
    "tiktoken": tiktoken_style,
    "sentencepiece bpe": sentencepiece_tokenizer,
    "sentencepiece unigram": sentencepiece_unigram,
}
"""Those that can write every text."""
