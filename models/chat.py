"""Chat templates: messages to token ids."""

from __future__ import annotations

import datetime
import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from sentax.models.tokenizer import Tokenizer

_FILLER = "\ue000"
"""Stands for a message's text where only the template's own tokens are wanted: a private character."""


class ChatTemplate:
    """A model's Jinja template with the tokenizer it was written for.

    The template is rendered in a sandbox, then encoded with special tokens recognised and nothing
    added. So that a message cannot end its own turn or speak for another, it is refused if it holds a
    special token, as the tokenizer reads it (after Unicode normalisation, say), or one of the other markers
    that the template writes (an assistant's own may be there: they were its answer), or if pieces of
    messages become one where they meet each other or the template's text.

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
        messages = list(messages)
        own = self._own_tokens(messages)
        for message in messages:
            guarded = set(self.tokenizer.special.values())
            if message.get("role") != "assistant":
                guarded |= set(own or ())
            for text in _strings(message):
                if found := self._holds(text, guarded):
                    raise ValueError(f"a message holds the special token {found!r}")
        rendered = self._render(messages)
        if own is not None:
            counts = Counter(self._markers(rendered))
            for index in counts.keys() & (set(own) | set(self.tokenizer.special.values())):
                if counts[index] > own.get(index, 0) + self._held_by_assistant(messages, index):
                    name = self._name(index)
                    raise ValueError(f"the special token {name!r} forms where a message meets other text")
        return rendered

    def _own_tokens(self, messages: list[Mapping[str, Any]]) -> Counter[int] | None:
        """How often the template itself writes each added token in such a conversation.

        None if it will not be rendered with other texts in the messages' place.
        """
        try:
            return Counter(self._markers(self._render([_filled(message) for message in messages])))
        except ValueError:
            return None

    def _markers(self, text: str) -> list[int]:
        """The added tokens in a text, special or not, as the tokenizer reads it."""
        added = set(self.tokenizer.added.values())
        return [index for index in self.tokenizer.encode_prompt(text, prefix=False) if index in added]

    def _holds(self, text: str, guarded: Collection[int]) -> str | None:
        """The first token of some that a text names or that its tokens hold."""
        held = [
            name for name, index in self.tokenizer.added.items() if index in guarded and name and name in text
        ]
        return next(iter([*held, *(self._name(i) for i in self._markers(text) if i in guarded)]), None)

    def _held_by_assistant(self, messages: list[Mapping[str, Any]], index: int) -> int:
        answers = [message for message in messages if message.get("role") == "assistant"]
        return sum(self._markers(text).count(index) for answer in answers for text in _strings(answer))

    def _name(self, index: int) -> str:
        return next(name for name, i in self.tokenizer.added.items() if i == index)

    def _render(self, messages: list[Mapping[str, Any]]) -> str:
        try:
            import jinja2
            from jinja2.sandbox import ImmutableSandboxedEnvironment
        except ImportError:
            raise ImportError("chat templates need Jinja: pip install 'sentax[chat]'") from None

        def refuse(reason: str) -> None:
            raise jinja2.TemplateError(reason)

        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.filters["tojson"] = lambda value, **options: json.dumps(
            value, ensure_ascii=False, **options
        )
        try:
            return environment.from_string(self.source).render(
                messages=messages,
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

    def encode_turn(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        """Token ids of what stands between an answer of the model and its next one.

        :param messages: the turns in between.
        :raises ValueError: if the template rewrites the answers before.
        """
        answer = "An answer of 31415 words."
        before = [{"role": "user", "content": "A question."}, {"role": "assistant", "content": answer}]
        rendered = self.render([*before, *messages])
        if rendered.count(answer) != 1:
            raise ValueError(
                "the chat template rewrites earlier answers: render the whole chat as a new prompt"
            )
        return self.tokenizer.encode_prompt(rendered.split(answer)[1], prefix=False)


def _strings(value: Any) -> Iterator[str]:
    """Every string in a message, names of fields included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _strings(key)
            yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)


def _filled(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message of the same shape that says nothing."""

    def fill(value: Any) -> Any:
        if isinstance(value, str):
            return value and _FILLER
        if isinstance(value, Mapping):
            return {key: item if key == "type" else fill(item) for key, item in value.items()}
        return list(map(fill, value)) if isinstance(value, list | tuple) else value

    return {**message, "content": fill(message.get("content"))}
