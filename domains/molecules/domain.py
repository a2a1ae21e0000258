"""Molecules like those shown, as SMILES."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from sentax.domains.base import Domain, Message
from sentax.domains.molecules import chemistry
from sentax.domains.molecules.data import SAMPLE, Series, read
from sentax.domains.molecules.grammar import grammar
from sentax.domains.molecules.valence import ValenceCheck
from sentax.ppl.constraints.base import Constraint
from sentax.ppl.constraints.predicate import predicate

CHEMIST = "You are an expert in chemistry. Write more molecules."


class Molecules(Domain[Series]):
    """GDB-17 (Ruddigkeit et al. 2012) as Lipkin et al. (2025) use it: one more molecule like twenty others.

    There is no right answer: :meth:`gold` is None, and scores stay below 1.

    :param num_prompts: how many are drawn from a file.
    :param num_shots: molecules shown in each.
    :param seed: of these draws.
    :param instruction: what prompts begin with; empty for none.

    >>> domain = Molecules(num_shots=3)
    >>> series = domain.sample()[0]
    >>> print(domain.prompt(series))
    You are an expert in chemistry. Write more molecules.
    Molecule: Nc1ccc(S(N)(=O)=O)cc1
    Molecule: c1ccoc1
    Molecule: CCO
    Molecule:
    >>> aspirin = " CC(=O)Oc1ccccc1C(=O)O"
    >>> round(domain.score(series, aspirin), 2), domain.score(series, " CC(=O)Oc1ccccc1C(=O")
    (0.55, 0.0)
    >>> domain.cheap(series).matches(aspirin), domain.dear(series).matches(aspirin)
    (True, True)
    >>> five = " CC(C)(C)(C)C"  # bonds of one carbon
    >>> domain.cheap(series).matches(five), domain.dear(series).matches(five)
    (True, False)
    """

    name: ClassVar[str] = "molecules"
    max_tokens: ClassVar[int] = 100
    stop: ClassVar[str | None] = "\n"
    chat_stop: ClassVar[str | None] = "\n"

    def __init__(
        self,
        *,
        num_prompts: int = 100,
        num_shots: int = 20,
        seed: int = 1234,
        instruction: str = CHEMIST,
    ) -> None:
        self.num_prompts = num_prompts
        self.num_shots = num_shots
        self.seed = seed
        self.instruction = instruction

    def load(self, directory: str | Path) -> list[Series]:
        """Prompts drawn from a file; see :func:`~sentax.domains.molecules.data.read` for the layout."""
        return read(directory, num_prompts=self.num_prompts, num_shots=self.num_shots, seed=self.seed)

    def sample(self) -> list[Series]:
        """Twenty prompts of well-known substances."""
        return read(SAMPLE, num_prompts=20, num_shots=self.num_shots, seed=self.seed)

    def prompt(self, instance: Series) -> str:
        """The instruction, and a line for each molecule; the last one is begun."""
        lines = [self.instruction] if self.instruction else []
        return "\n".join([*lines, *(f"Molecule: {smiles}" for smiles in instance.molecules), "Molecule:"])

    def chat(self, instance: Series) -> list[Message]:
        """The same as messages. The user shows the molecules and asks for one more, and nothing else."""
        shown = "\n".join(instance.molecules)
        content = f"Here are some molecules:\n\n{shown}\n\nWrite one more like them. Write its SMILES alone."
        messages = [{"role": "system", "content": self.instruction}] if self.instruction else []
        return [*messages, {"role": "user", "content": content}]

    def cheap(self, instance: Series) -> Constraint:
        """The syntax of SMILES, see :func:`~sentax.domains.molecules.grammar.grammar`."""
        del instance
        return grammar()

    def dear(self, instance: Series) -> Constraint:
        """Valences, rings and aromatic systems, see :class:`~sentax.domains.molecules.valence.ValenceCheck`."""
        del instance
        check = ValenceCheck()
        return predicate(check.prefix_ok, check.complete_ok, text="str")

    def score(self, instance: Series, answer: str) -> float:
        """The QED of the answer without one space before it, 0 if it is not a molecule.

        See :func:`~sentax.domains.molecules.chemistry.qed`.
        """
        del instance
        return chemistry.qed(answer.removeprefix(" "))


__all__ = ["CHEMIST", "Molecules"]
