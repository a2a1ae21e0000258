"""The one exception of a model that cannot be loaded or used as asked."""


class ModelError(ValueError):
    """A checkpoint, tokenizer or model name that does not do; the message names the cause."""
