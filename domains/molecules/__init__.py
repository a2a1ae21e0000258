"""Molecules: one more like those shown, and how much like a drug it is.

A program of one's own, in which a molecule is worth its QED:

.. code-block:: python

    import jax, sentax as sx
    from sentax.domains.molecules import Molecules, qed

    domain = Molecules()
    series = domain.sample()[0]

    def model(context, where):
        text = sx.generate("molecule", context, max_tokens=40, where=where, stop=domain.stop)
        value = sx.unit_test_reward(text, lambda answer: qed(answer.removeprefix(" ")))
        sx.reward("qed", value, beta=0.1)

    smc = sx.SMC(sx.AWRS(model), num_particles=16)
    context = sx.load().prompt(domain.prompt(series))
    smc.run(jax.random.key(0), context, domain.cheap(series) & domain.dear(series))
    posterior = smc.posterior("molecule")
    accuracy = sum(p * domain.score(series, molecule) for molecule, p in posterior.items())
"""

from sentax.domains.molecules.chemistry import Lipinski, canonical, lipinski, qed
from sentax.domains.molecules.data import Series
from sentax.domains.molecules.domain import Molecules
from sentax.domains.molecules.grammar import grammar, is_smiles
from sentax.domains.molecules.valence import ValenceCheck
from sentax.domains.molecules.variety import diversity, novelty

__all__ = [
    "Lipinski",
    "Molecules",
    "Series",
    "ValenceCheck",
    "canonical",
    "diversity",
    "grammar",
    "is_smiles",
    "lipinski",
    "novelty",
    "qed",
]
