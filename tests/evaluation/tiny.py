"""A domain and a model that compile in a second, named on the command line as `tiny.py:Tiny`, `tiny.py:model`.

Environment variables, which child processes have too: TINY_LOG, a file that gets a line for every cell that is
begun; TINY_SECONDS, how long each takes at least; TINY_FAILS, the id of an instance that raises.
"""

import os
import time
from dataclasses import dataclass

import sentax as sx
from sentax.domains.base import Domain, Instance


@dataclass(frozen=True, kw_only=True)
class Item(Instance):
    start: str


class Tiny(Domain[Item]):
    name = "tiny"
    max_tokens = 4

    def load(self, directory):
        return [Item(id=line, start="") for line in (directory / "ids.txt").read_text().split()]

    def sample(self):
        return [Item(id=f"{start or '-'}/{n}", start=start) for start in ("", "a", "b") for n in range(2)]

    def prompt(self, instance):
        return instance.start

    def chat(self, instance):
        return [{"role": "user", "content": instance.start}]

    def cheap(self, instance):
        if os.environ.get("TINY_FAILS") == instance.id:
            raise ZeroDivisionError(f"no grammar for {instance.id}")
        if "TINY_LOG" in os.environ:
            with open(os.environ["TINY_LOG"], "a") as log:
                log.write(f"{instance.id}\n")
        time.sleep(float(os.environ.get("TINY_SECONDS", "0")))
        return sx.regex("(a|b)*b")

    def dear(self, instance):
        return sx.regex("(ab|b)*")

    def score(self, instance, answer):
        return answer.count("b") / 4

    def gold(self, instance):
        return "bbbb"


def model():
    return sx.TableLM.uniform([b"a", b"b"])


def wants_an_argument(argument):
    return argument
