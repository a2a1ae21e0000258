"""JSON for a schema: records that a validator accepts, formats included.

A program of one's own. The cheap constraint is the grammar: an automaton on the device where the schema is
closed and small enough, else an incremental parser on the host. The validator is asked at the end of the text:

.. code-block:: python

    import jax, sentax as sx
    from sentax.domains.json_schema import JSONSchema

    domain = JSONSchema()
    task = domain.sample()[0]  # a name and an age

    def model(context, where):
        return sx.generate("record", context, max_tokens=48, where=where, stop=domain.stop)

    smc = sx.SMC(sx.AWRS(model), num_particles=8)
    context = sx.load().prompt(domain.prompt(task))
    smc.run(jax.random.key(0), context, domain.cheap(task) & domain.dear(task))
    posterior = smc.posterior("record")
    accuracy = sum(p * domain.score(task, record) for record, p in posterior.items())
"""

from sentax.domains.json_schema.data import Schema
from sentax.domains.json_schema.domain import JSONSchema
from sentax.domains.json_schema.validity import InvalidAnswer, is_valid, read_json

__all__ = ["InvalidAnswer", "JSONSchema", "Schema", "is_valid", "read_json"]
