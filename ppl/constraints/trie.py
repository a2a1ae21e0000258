"""The memory of a constraint on the host: a trie of the texts met, and what is known of each."""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from sentax.ppl.constraints.engine import Engine, Session

ROOT, DEAD = 0, 1
SKIP, MOVE, PREFIX, COMPLETE = range(4)
"""What is asked of a text: nothing at all, nothing but its node, or one of the two verdicts."""

NUM_NODES = 1 << 29
"""Nodes a trie can name in its life: an answer is a node and two bits in one int32."""

_MAX_NODES = 1 << 20
_MAX_ANSWERS = 1 << 20
_MAX_SESSIONS = 1024
_REMEMBERED_CALLS = 1024
_NODE = 4  # bytes of a node in a key


class PredicateError(RuntimeError):
    """A check on the host failed; the message holds the text.

    A predicate raised, returned something other than a bool, ran out of time or took its process down.

    :param text: the text on which it happened.
    """

    def __init__(self, message: str, text: bytes) -> None:
        super().__init__(message)
        self.text = text

    def __reduce__(self) -> tuple:
        return type(self), (self.args[0], self.text)


class HostStats(NamedTuple):
    """What a constraint on the host has cost so far.

    :param calls: questions that its engine was asked; for a predicate, calls of the Python functions.
    :param memo_hits: questions answered without a call.
    :param nodes: texts remembered.
    :param masks: masks that its engine made.
    :param timeouts: texts refused because a check ran out of time.
    """

    calls: int
    memo_hits: int
    nodes: int
    masks: int = 0
    timeouts: int = 0


class Lane(NamedTuple):
    """One question of many.

    :param patience: over a group of lanes in order, the worth of positive verdicts after which no more
        is asked; 0 where every lane is asked, negative where none is. The group's first lane decides.
    :param worth: what a positive verdict on this lane counts; negative: no more is asked from here on.
    :param action: one of :data:`SKIP`, :data:`MOVE`, :data:`PREFIX`, :data:`COMPLETE`.
    :param size: bytes of the piece.
    :param node: the text that the piece follows.
    """

    patience: int
    worth: int
    action: int
    size: int
    node: int


class _Question(NamedTuple):
    """What only the engine can answer: a verdict on the text of a key's node and piece."""

    key: bytes
    action: int


class Trie:
    """The texts that an engine has met, as integers, and the answers that it gave.

    A node is an integer, so it travels through compiled programs as a particle's state; particles that a
    resampling has copied share it. Node 1 stands for every text that can no longer be completed. An
    answer is `4 * node + 2 * asked + verdict` (see :meth:`ask`).

    Sessions of recent texts are kept (1,024, or as many as the last two calls used); another is made
    again from its nearest ancestor that has one. So a check costs what the engine's step costs, whatever
    the text's length.

    Memory is bounded: 1,048,576 answers, of which the oldest half is forgotten (and asked again if it
    must be), and as many nodes. Beyond that, nodes are forgotten that are in the older half, were in no
    question of the last 1,024 calls, and lead to none that stays. A program that has held a text for
    longer than that and comes back to it gets an error. A node's number is never used again.

    One thread asks at a time: callers hold :attr:`lock`.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.lock = threading.RLock()
        self.questions = 0
        self.calls = 0
        self.masks = 0
        # By action, the answers known; a key is the node's four bytes and the piece.
        self.answers: tuple[dict[bytes, int], ...] = ({}, {}, {}, {})
        # By node, the key that led to it.
        self.origin: dict[int, bytes] = {}
        self.next_node = DEAD + 1
        self._sweep_at = _MAX_NODES
        # The call in which a session was last used decides with its place what may be dropped.
        self._root: Session = None
        self._rooted = False
        self._sessions: OrderedDict[int, tuple[Session, int]] = OrderedDict()
        self._call = 0
        # Masks by vocabulary, node and seam; see `host_masks`.
        self.rows: OrderedDict[tuple[int, int, int], np.ndarray] = OrderedDict()
        self._seen: deque[set[int]] = deque(maxlen=_REMEMBERED_CALLS)

    def answer(self, node: int, piece: bytes, action: int) -> tuple[int, bool]:
        """The node of a text followed by a piece, and the verdict that the action asks for."""
        code = self.ask([Lane(0, 0, action, len(piece), node)], _key(node, piece), 0, 0, 1)[0]
        return code >> 2, bool(code & 1)

    def ask(
        self, lanes: Sequence[Sequence[int]], data: bytes, offset: int, width: int, group: int
    ) -> list[int]:
        """The answers to many questions.

        :param lanes: the questions, as :class:`Lane` or lists of the same five numbers.
        :param data: the node and the piece of lane `i` lie at `offset + i * width`.
        :param group: how many lanes in a row are asked in order.
        :return: for each lane `4 * node + 2 * asked + verdict`. A lane that came after its group had enough
            is not asked: it has its old node and no verdict.
        """
        self._call += 1
        self._seen.append({lane[4] for lane in lanes})
        if len(self.origin) > self._sweep_at:
            self._sweep()
        if self.engine.in_parallel:
            return self._ask_in_rounds(lanes, data, offset, width, group)
        answers = self.answers
        out = []
        asked = left = in_group = 0
        start = offset - width
        for patience, worth, action, size, node in lanes:
            start += width
            if not in_group:
                in_group, left = group, max(patience, 0) if patience else -1
            in_group -= 1
            if worth < 0 and left > 0:
                left = 0
            if action == SKIP:
                out.append(node << 2 | 2)
            elif left == 0 and action != MOVE:
                out.append(node << 2)
            else:
                key = data[start : start + _NODE + size]
                code = answers[action].get(key)
                if code is None:
                    code = self._answer(key, action)
                out.append(code)
                if action != MOVE:
                    asked += 1
                    if code & 1 and left > 0:
                        left = max(0, left - worth)
        self.questions += asked
        return out

    def _answer(self, key: bytes, action: int) -> int:
        found = self._known(key, action)
        if isinstance(found, int):
            return found
        session, piece = self.session(_node(found.key)), found.key[_NODE:]
        if action == PREFIX:
            verdict = self.engine.prefix(session, piece)
        else:
            verdict = self.engine.complete(session, piece)
        self.calls += 1
        return self._record(key, found, verdict)

    def _known(self, key: bytes, action: int) -> int | _Question:
        """The answer to a question that was not met in this form, if it follows from others."""
        node = _node(key)
        own = key
        if len(key) == _NODE and node > DEAD:
            # The text itself: the same question as the one that led to it.
            own = self._origin(node)
            node = _node(own)
        code = self.answers[action].get(own)
        if code is None and (node == DEAD or self._is_dead(node) or self._refused(own)):
            code = DEAD << 2 | 2
        if code is None and action == MOVE:
            code = self._grow(own) << 2 | 3
        if code is None:
            return _Question(own, action)
        self.answers[action][key] = code
        return code

    def _is_dead(self, node: int) -> bool:
        return node > DEAD and self._refused(self._origin(node))

    def _refused(self, key: bytes) -> bool:
        return self.answers[PREFIX].get(key, 1) & 1 == 0

    def _record(self, key: bytes, question: _Question, verdict: bool) -> int:
        own, action = question
        if action == PREFIX and not verdict:
            # Most texts that a sampler tries are refused: they share one node.
            code = DEAD << 2 | 2
        else:
            code = self._grow(own) << 2 | 2 | verdict
        known = self.answers[action]
        if len(known) >= _MAX_ANSWERS:
            for old in list(known)[: _MAX_ANSWERS // 2]:
                del known[old]
        known[own] = known[key] = code
        return code

    def _grow(self, key: bytes) -> int:
        """The node of a key, made if there is none."""
        if len(key) == _NODE:
            return _node(key)
        for known in self.answers:
            code = known.get(key)
            if code is not None and code >> 2 != DEAD:
                return code >> 2
        node = self.next_node
        if node >= NUM_NODES:
            raise RuntimeError(
                f"{self.engine!r} has met {NUM_NODES:,} texts, the most that it can number: make it anew"
            )
        self.next_node += 1
        self.origin[node] = key
        return node

    def _origin(self, node: int) -> bytes:
        try:
            return self.origin[node]
        except KeyError:
            raise RuntimeError(
                f"{self.engine!r} has forgotten a text that a program still holds: it remembers {_MAX_NODES:,} "
                f"texts, and those of the last {_REMEMBERED_CALLS:,} calls. Start again from `init`"
            ) from None

    def _ask_in_rounds(
        self, lanes: Sequence[Sequence[int]], data: bytes, offset: int, width: int, group: int
    ) -> list[int]:
        """As :meth:`ask`, where the engine answers many questions at once.

        In each round every ordered group asks its next question, and the others ask all of theirs.
        """
        out = [lane[4] << 2 for lane in lanes]
        wanted: dict[_Question, list[bytes]] = {}
        fresh: dict[tuple[bytes, int], int] = {}

        def course(members: range) -> Iterator[None]:
            """A group's questions; it yields where it must wait for the answers to those in `wanted`."""
            left = lanes[members[0]][0]
            ordered = left != 0
            waiting = []
            for i in members:
                _, worth, action, size, _ = lanes[i]
                if action == SKIP:
                    out[i] |= 2
                    continue
                if action != MOVE:
                    if ordered and worth < 0:
                        left = 0
                    if ordered and left <= 0:
                        continue
                    self.questions += 1
                start = offset + i * width
                key = data[start : start + _NODE + size]
                known = self.answers[action].get(key)
                found = self._known(key, action) if known is None else known
                if isinstance(found, _Question):
                    wanted.setdefault(found, []).append(key)
                    waiting.append((i, key, action))
                    if not ordered:
                        continue
                    yield
                    found = fresh[key, action]
                    waiting.clear()
                out[i] = found
                left -= worth if found & 1 and action != MOVE else 0
            if waiting:
                yield
                for i, key, action in waiting:
                    out[i] = fresh[key, action]

        courses = [course(range(i, min(i + group, len(lanes)))) for i in range(0, len(lanes), group)]
        while courses := [c for c in courses if next(c, c) is not c]:
            asked, wanted, fresh = wanted, {}, {}
            batch = [(self.session(_node(q.key)), q.key[_NODE:], q.action == COMPLETE) for q in asked]
            verdicts = self.engine.ask_all(batch)
            self.calls += len(batch)
            for (question, keys), verdict in zip(asked.items(), verdicts, strict=True):
                for key in keys:
                    fresh[key, question.action] = self._record(key, question, verdict)
        return out

    def session(self, node: int) -> Session:
        """What the engine keeps of a node's text, made again from the nearest ancestor if it was dropped."""
        if not self._rooted:
            self._root, self._rooted = self.engine.start(), True
        sessions = self._sessions
        pieces: list[bytes] = []
        at = node
        while at != ROOT and at not in sessions:
            key = self._origin(at)
            pieces.append(key[_NODE:])
            at = _node(key)
        session = self._root if at == ROOT else sessions[at][0]
        if pieces:
            session = self.engine.extend(session, b"".join(reversed(pieces)))
        if node != ROOT:
            sessions[node] = session, self._call
            sessions.move_to_end(node)
            while len(sessions) > _MAX_SESSIONS:
                oldest, (_, used) = next(iter(sessions.items()))
                if used >= self._call - 1:
                    break
                del sessions[oldest]
        return session

    def text(self, node: int) -> bytes:
        """The bytes of a node; the dead one has none."""
        pieces: list[bytes] = []
        while node > DEAD:
            key = self._origin(node)
            pieces.append(key[_NODE:])
            node = _node(key)
        return b"".join(reversed(pieces))

    def _sweep(self) -> None:
        """Forget the nodes that no program is likely to hold, and what was known of them."""
        newest = range(self.next_node - _MAX_NODES // 2, self.next_node)
        kept: set[int] = set()
        for node in (n for nodes in (newest, *self._seen) for n in nodes):
            while node > DEAD and node in self.origin and node not in kept:
                kept.add(node)
                node = _node(self.origin[node])
        self.origin = {n: key for n, key in self.origin.items() if n in kept}
        kept |= {ROOT, DEAD}
        for known in self.answers:
            gone = [k for k, code in known.items() if code >> 2 not in kept or _node(k) not in kept]
            for key in gone:
                del known[key]
        for node in [n for n in self._sessions if n not in kept]:
            del self._sessions[node]
        self._sweep_at = max(_MAX_NODES, len(self.origin) + _MAX_NODES // 2)


def _key(node: int, piece: bytes) -> bytes:
    return node.to_bytes(_NODE, sys.byteorder) + piece


def _node(key: bytes) -> int:
    return int.from_bytes(key[:_NODE], sys.byteorder)
