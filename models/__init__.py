"""Language models: Flax decoders for Hugging Face checkpoints, `transformers` models by callback, n-grams."""

from sentax.models.chat import ChatTemplate
from sentax.models.config import DecoderConfig, LayerSpec
from sentax.models.contexts import Contexts, TransformerContext
from sentax.models.decoder import KV, Decoder
from sentax.models.errors import ModelError
from sentax.models.host_lm import HostContext, HostLM
from sentax.models.loading import load
from sentax.models.lora import Adapter, switch, with_adapter
from sentax.models.methods import LanguageModelMethods, TransformedContext, TransformedLM
from sentax.models.ngram import NGramContext, NGramLM, byte_vocabulary
from sentax.models.products import CombinedContext, CombinedLM, mixture, product, ratio
from sentax.models.rotary import DynamicRope, LinearRope, Llama3Rope, LongRope, Rope, YarnRope
from sentax.models.scoring import TokenScores, sample, score
from sentax.models.sharding import make_mesh
from sentax.models.smoothing import KneserNey, WittenBell
from sentax.models.table import TableContext, TableLM
from sentax.models.tokenizer import Tokenizer
from sentax.models.transformer import TransformerLM
from sentax.models.transforms import MinP, Temperature, TopK, TopP
from sentax.models.vocabulary import Vocabulary
from sentax.models.weights import load_params, save_params

__all__ = [
    "KV",
    "Adapter",
    "ChatTemplate",
    "CombinedContext",
    "CombinedLM",
    "Contexts",
    "Decoder",
    "DecoderConfig",
    "DynamicRope",
    "HostContext",
    "HostLM",
    "KneserNey",
    "LanguageModelMethods",
    "LayerSpec",
    "LinearRope",
    "Llama3Rope",
    "LongRope",
    "MinP",
    "ModelError",
    "NGramContext",
    "NGramLM",
    "Rope",
    "TableContext",
    "TableLM",
    "Temperature",
    "TokenScores",
    "Tokenizer",
    "TopK",
    "TopP",
    "TransformedContext",
    "TransformedLM",
    "TransformerContext",
    "TransformerLM",
    "Vocabulary",
    "WittenBell",
    "YarnRope",
    "byte_vocabulary",
    "load",
    "load_params",
    "make_mesh",
    "mixture",
    "product",
    "ratio",
    "sample",
    "save_params",
    "score",
    "switch",
    "with_adapter",
]
