"""The texts that the embedded model is trained on, all generated here: no download, no copy of a data set.

One file a family of kinds; :mod:`~sentax.models.data.forms` puts values into documents, and
:mod:`~sentax.models.data.packing` turns documents into tokens. Every generator takes a `random.Random` and is
a pure function of its state.
"""

from sentax.models.data.forms import KINDS, PROSE, SHARES, document, documents, few_shot

__all__ = ["KINDS", "PROSE", "SHARES", "document", "documents", "few_shot"]
