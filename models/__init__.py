"""Language models: a Flax decoder for Hugging Face checkpoints, and a table to enumerate."""

from sentax.models.chat import ChatTemplate
from sentax.models.config import DecoderConfig, LinearRope, Llama3Rope
from sentax.models.decoder import KV, Decoder
from sentax.models.errors import ModelError
from sentax.models.loading import load
from sentax.models.table import TableContext, TableLM
from sentax.models.tokenizer import Tokenizer
from sentax.models.transformer import TransformerContext, TransformerLM
from sentax.models.vocabulary import Vocabulary
from sentax.models.weights import load_params, save_params

__all__ = [
    "KV",
    "ChatTemplate",
    "Decoder",
    "DecoderConfig",
    "LinearRope",
    "Llama3Rope",
    "ModelError",
    "TableContext",
    "TableLM",
    "Tokenizer",
    "TransformerContext",
    "TransformerLM",
    "Vocabulary",
    "load",
    "load_params",
    "save_params",
]
