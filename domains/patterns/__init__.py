"""Patterns: a string that a regular expression matches, back-references and recursion included.

A program of one's own. The automaton, where there is one, runs on the device and has masks; the matcher of the
`regex` package runs on the host and knows the rest:

.. code-block:: python

    import jax, sentax as sx
    from sentax.domains.patterns import Patterns

    domain = Patterns()
    task = domain.sample()[8]  # a telephone number that keeps to one separator

    def model(context, where):
        return sx.generate("string", context, max_tokens=24, where=where, stop=domain.stop)

    smc = sx.SMC(sx.AWRS(model), num_particles=8)
    context = sx.load().prompt(domain.prompt(task))
    smc.run(jax.random.key(0), context, domain.cheap(task) & domain.dear(task))
    posterior = smc.posterior("string")
    accuracy = sum(p * domain.score(task, string) for string, p in posterior.items())
"""

from sentax.domains.patterns.data import Pattern
from sentax.domains.patterns.domain import Patterns, automaton

__all__ = ["Pattern", "Patterns", "automaton"]
