"""Chat templates: messages to token ids."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from typing import Any

from sentax.models.tokenizer import Tokenizer


class ChatTemplate:
    """A model's Jinja template with the tokenizer it was written for.

    The template is rendered in a sandbox, then encoded with special tokens recognised and nothing
    added. A message that names a special token is refused: it could end its own turn.

    :param source: the Jinja template.
    :param tokenizer: encodes the rendered text.
    :param names: special tokens the template may use, such as ``bos_token``.
    """

    def __init__(self, source: str, tokenizer: Tokenizer, names: Mapping[str, str]):
        self.source, self.tokenizer, self.names = source, tokenizer, dict(names)

    def render(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """The text of a conversation, up to where the model answers.

        :param messages: mappings with ``role`` and ``content``.
        :raises ValueError: if a message holds the text of a special token, or the template refuses.
        :raises ImportError: without Jinja (``pip install sentax[chat]``).
        """
        try:
            import jinja2
            from jinja2.sandbox import ImmutableSandboxedEnvironment
        except ImportError:
            raise ImportError("chat templates need Jinja: pip install 'sentax[chat]'") from None
        for message in messages:
            for special in self.tokenizer.special:
                if special and special in json.dumps(message.get("content"), ensure_ascii=False):
                    raise ValueError(f"a message holds the special token {special!r}")

        def refuse(reason: str) -> None:
            raise jinja2.TemplateError(reason)

        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.filters["tojson"] = lambda value, **options: json.dumps(
            value, ensure_ascii=False, **options
        )
        try:
            return environment.from_string(self.source).render(
                messages=list(messages),
                add_generation_prompt=True,
                raise_exception=refuse,
                strftime_now=lambda pattern: datetime.datetime.now().strftime(pattern),
                **self.names,
            )
        except jinja2.TemplateError as error:
            raise ValueError(f"the chat template refuses these messages: {error}") from None

    def encode(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        """Token ids of :meth:`render`."""
        return self.tokenizer.encode_prompt(self.render(messages), prefix=False)
