"""Text to SQL: Spider's questions, answered by queries that run.

A program of one's own, with the grammar asked at every token and SQLite itself wherever a clause has ended:

.. code-block:: python

    import jax, sentax as sx
    from sentax.domains.text_to_sql import TextToSQL

    domain = TextToSQL()
    question = domain.sample()[14]

    def model(context, where):
        return sx.generate("sql", context, max_tokens=48, where=where, stop=domain.stop)

    smc = sx.SMC(sx.AWRS(model), num_particles=8)
    context = sx.load().prompt(domain.prompt(question))
    smc.run(jax.random.key(0), context, domain.cheap(question) & domain.dear(question))
    posterior = smc.posterior("sql")
    accuracy = sum(p * domain.score(question, sql) for sql, p in posterior.items())
"""

from sentax.domains.text_to_sql.columns import ColumnCheck
from sentax.domains.text_to_sql.data import Question, Shot
from sentax.domains.text_to_sql.domain import TextToSQL
from sentax.domains.text_to_sql.explain import ExplainCheck
from sentax.domains.text_to_sql.grammar import grammar
from sentax.domains.text_to_sql.match import same_result
from sentax.domains.text_to_sql.sandbox import Database, QueryRefused, Sandbox
from sentax.domains.text_to_sql.schema import Schema

__all__ = [
    "ColumnCheck",
    "Database",
    "ExplainCheck",
    "QueryRefused",
    "Question",
    "Sandbox",
    "Schema",
    "Shot",
    "TextToSQL",
    "grammar",
    "same_result",
]
