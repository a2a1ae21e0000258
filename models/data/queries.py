"""SELECT queries over invented schemas, with the questions that they answer."""

from __future__ import annotations

import dataclasses
from random import Random

from sentax.models.data.draws import chance, tail
from sentax.models.data.words import CITIES, COLORS, COUNTRIES, FAMILY, GIVEN, JOBS, SUBJECTS


@dataclasses.dataclass(frozen=True)
class Table:
    """A table: its name, columns with types, and references `column -> table.column`."""

    name: str
    columns: dict[str, str]
    references: dict[str, str] = dataclasses.field(default_factory=dict)

    def of_type(self, *types: str) -> list[str]:
        return [c for c, t in self.columns.items() if t in types and not c.endswith("id")]


def _table(name: str, columns: str, **references: str) -> Table:
    types = {"i": "integer", "t": "text", "r": "real", "d": "date"}
    pairs = [item.split(":") for item in columns.split()]
    return Table(name, {column: types[kind] for column, kind in pairs}, references)


SCHEMAS: dict[str, tuple[Table, ...]] = {
    "school": (
        _table("students", "id:i name:t age:i city:t grade:r"),
        _table("courses", "id:i title:t subject:t credits:i"),
        _table(
            "enrolments",
            "student_id:i course_id:i mark:r year:i",
            student_id="students.id",
            course_id="courses.id",
        ),
    ),
    "shop": (
        _table("customers", "id:i name:t city:t country:t"),
        _table("orders", "id:i customer_id:i order_date:d total:r status:t", customer_id="customers.id"),
        _table("products", "id:i name:t price:r color:t stock:i"),
    ),
    "library": (
        _table("authors", "id:i name:t country:t birth_year:i"),
        _table("books", "id:i title:t author_id:i year:i pages:i", author_id="authors.id"),
        _table("loans", "book_id:i member:t loan_date:d", book_id="books.id"),
    ),
    "hospital": (
        _table("doctors", "doctor_id:i name:t specialty:t salary:r"),
        _table("patients", "patient_id:i name:t age:i city:t"),
        _table(
            "visits",
            "visit_id:i doctor_id:i patient_id:i visit_date:d cost:r",
            doctor_id="doctors.doctor_id",
            patient_id="patients.patient_id",
        ),
    ),
    "company": (
        _table("employees", "id:i name:t job:t salary:r department_id:i", department_id="departments.id"),
        _table("departments", "id:i name:t budget:r city:t"),
    ),
    "music": (
        _table("singers", "singer_id:i name:t country:t age:i"),
        _table("concerts", "concert_id:i title:t year:i city:t attendance:i"),
        _table("songs", "song_id:i title:t singer_id:i length:r", singer_id="singers.singer_id"),
    ),
    "airport": (
        _table("flights", "id:i origin:t destination:t distance:i airline_id:i", airline_id="airlines.id"),
        _table("airlines", "id:i name:t country:t"),
    ),
    "lab": (
        _table("samples", "id:i label:t mass:r collected:d project_id:i", project_id="projects.id"),
        _table("projects", "id:i title:t leader:t budget:r"),
    ),
    "pets": (
        _table("owners", "owner_id:i first_name:t last_name:t city:t"),
        _table("pets", "pet_id:i name:t species:t age:i weight:r owner_id:i", owner_id="owners.owner_id"),
    ),
    "football": (
        _table("teams", "id:i name:t city:t founded:i"),
        _table("players", "id:i name:t position:t goals:i team_id:i", team_id="teams.id"),
    ),
    "cinema": (
        _table("films", "id:i title:t director:t year:i rating:r"),
        _table("screenings", "id:i film_id:i hall:t day:d seats:i", film_id="films.id"),
    ),
    "city": (_table("cities", "id:i name:t country:t population:i area:r"),),
}
"""Databases by name. Every query that :func:`query` makes runs on the tables as declared here."""

_TEXTS = {
    "name": GIVEN,
    "title": ("Introduction", "Night", "River", "The Sea", "Winter", "Logic", "Home"),
    "city": CITIES,
    "country": COUNTRIES,
    "color": COLORS,
    "job": JOBS,
    "subject": SUBJECTS,
    "status": ("paid", "open", "sent", "new"),
    "specialty": ("surgery", "cardiology", "neurology", "radiology"),
    "species": ("dog", "cat", "rabbit", "parrot"),
    "position": ("goalkeeper", "defender", "forward", "midfielder"),
    "origin": CITIES,
    "destination": CITIES,
    "first_name": GIVEN,
    "last_name": FAMILY,
    "director": FAMILY,
    "leader": FAMILY,
    "member": GIVEN,
    "label": ("A1", "B7", "C3"),
    "hall": ("red", "blue", "main"),
}


def ddl(schema: str) -> str:
    """CREATE TABLE statements of a schema."""
    parts = []
    for table in SCHEMAS[schema]:
        columns = ", ".join(f"{column} {kind}" for column, kind in table.columns.items())
        parts.append(f"CREATE TABLE {table.name} ({columns});")
    return "\n".join(parts)


def vary(rng: Random, tables: tuple[Table, ...]) -> tuple[Table, ...]:
    """The same tables with some columns left out and the others in any order: a prompt must be read."""
    varied = []
    for table in tables:
        kept = [
            c
            for c in table.columns
            if c == table.of_type("text", "real")[0] or c.endswith("id") or chance(rng, 0.7)
        ]
        rng.shuffle(kept)
        varied.append(dataclasses.replace(table, columns={c: table.columns[c] for c in kept}))
    return tuple(varied)


def card(tables: tuple[Table, ...], natural: bool = False) -> str:
    """A schema as it stands in a prompt: each table, then its columns with their types.

    :param natural: whether each column has its natural name as well.
    """
    lines = []
    for table in tables:
        lines.append(table.name)
        lines += [f"* {c} ({t})" + (f": {_words(c)}" if natural else "") for c, t in table.columns.items()]
    return "\n".join(lines)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _condition(rng: Random, table: Table, prefix: str = "") -> tuple[str, str]:
    """A condition on one table as SQL and in English."""
    numbers, texts = table.of_type("integer", "real"), table.of_type("text")
    days = table.of_type("date")
    if days and chance(rng, 0.2):
        day, year = rng.choice(days), rng.randint(2015, 2026)
        return f"{prefix}{day} >= '{year}-01-01'", f"with {_words(day)} since {year}"
    if numbers and (not texts or chance(rng, 0.55)):
        column = rng.choice(numbers)
        bound = (
            rng.randint(1990, 2025)
            if "year" in column or column == "founded"
            else rng.choice((10, 20, 30, 50, 100, 500, rng.randint(1, 99)))
        )
        if chance(rng, 0.15):
            high = bound + rng.choice((5, 10, 50))
            return (
                f"{prefix}{column} BETWEEN {bound} AND {high}",
                f"with {_words(column)} between {bound} and {high}",
            )
        sign, phrase = rng.choice(
            ((">", "above"), ("<", "below"), (">=", "at least"), ("<=", "at most"), ("=", "equal to"))
        )
        return f"{prefix}{column} {sign} {bound}", f"with {_words(column)} {phrase} {bound}"
    column = rng.choice(texts)
    if chance(rng, 0.12):
        letter = rng.choice("ABCDEJLMPRST")
        return f"{prefix}{column} LIKE '{letter}%'", f"whose {_words(column)} starts with {letter}"
    value = tail(rng, _TEXTS[column])
    return f"{prefix}{column} = '{value}'", f"whose {_words(column)} is {value}"


def _where(rng: Random, table: Table, prefix: str = "", always: bool = False) -> tuple[str, str]:
    if not always and chance(rng, 0.4):
        return "", ""
    sql, english = _condition(rng, table, prefix)
    if chance(rng, 0.18):
        word = rng.choice(("AND", "AND", "OR"))
        more, words = _condition(rng, table, prefix)
        sql, english = f"{sql} {word} {more}", f"{english} {word.lower()} {words}"
    return f" WHERE {sql}", f" {english}"


def _simple(rng: Random, table: Table) -> tuple[str, str]:
    where, english = _where(rng, table)
    plural = _words(table.name)
    columns = [c for c in table.columns if not c.endswith("id")] or list(table.columns)
    numbers = table.of_type("integer", "real")
    style = rng.random()
    if style < 0.22:
        return f"How many {plural} are there{english}?", f"SELECT COUNT(*) FROM {table.name}{where}"
    if style < 0.40 and numbers:
        function, word = rng.choice(
            (("AVG", "average"), ("MAX", "highest"), ("MIN", "lowest"), ("SUM", "total"))
        )
        column = rng.choice(numbers)
        return (
            f"What is the {word} {_words(column)} of {plural}{english}?",
            f"SELECT {function}({column}) FROM {table.name}{where}",
        )
    if style < 0.52 and numbers:
        shown, by = rng.choice(columns), rng.choice(numbers)
        direction, word = rng.choice((("DESC", "descending"), ("ASC", "ascending")))
        if chance(rng, 0.5):
            limit = rng.choice((1, 3, 5, 10))
            side = "highest" if direction == "DESC" else "lowest"
            question = f"Show the {_words(shown)} of the {limit} {plural} with the {side} {_words(by)}."
            return question, f"SELECT {shown} FROM {table.name} ORDER BY {by} {direction} LIMIT {limit}"
        question = f"List the {_words(shown)} of {plural}{english} in {word} order of {_words(by)}."
        return question, f"SELECT {shown} FROM {table.name}{where} ORDER BY {by} {direction}"
    if style < 0.64:
        group = rng.choice(table.of_type("text") or columns)
        having, words = ("", "")
        if chance(rng, 0.3):
            least = rng.randint(2, 9)
            having, words = f" HAVING COUNT(*) >= {least}", f" with at least {least} {plural}"
        return (
            f"How many {plural} does each {_words(group)} have{words}?",
            f"SELECT {group}, COUNT(*) FROM {table.name} GROUP BY {group}{having}",
        )
    if style < 0.72 and numbers:
        column = rng.choice(numbers)
        shown = rng.choice(columns)
        question = f"Which {_words(shown)} have {plural} with {_words(column)} above the average?"
        return (
            question,
            f"SELECT {shown} FROM {table.name} WHERE {column} > (SELECT AVG({column}) FROM {table.name})",
        )
    shown_columns = rng.sample(columns, min(len(columns), rng.choice((1, 1, 1, 2, 2, 3))))
    distinct = "DISTINCT " if len(shown_columns) == 1 and chance(rng, 0.25) else ""
    words = " and ".join(_words(c) for c in shown_columns)
    verb = rng.choice(("What are the", "Show the", "List the", "Find the", "Give me the"))
    mark = "?" if verb.startswith("What") else "."
    different = "different " if distinct else ""
    return (
        f"{verb} {different}{words} of all {plural}{english}{mark}",
        f"SELECT {distinct}{', '.join(shown_columns)} FROM {table.name}{where}",
    )


def _join(rng: Random, tables: tuple[Table, ...], child: Table) -> tuple[str, str]:
    column = rng.choice(list(child.references))
    parent_name, key = child.references[column].split(".")
    parent = next(t for t in tables if t.name == parent_name)
    join = f"FROM {child.name} AS T1 JOIN {parent.name} AS T2 ON T1.{column} = T2.{key}"
    shown = rng.choice(parent.of_type("text", "real"))
    children, parents = _words(child.name), _words(parent.name)
    style = rng.random()
    if style < 0.3:
        return (
            f"How many {children} does each {_words(shown)} of {parents} have?",
            f"SELECT T2.{shown}, COUNT(*) {join} GROUP BY T2.{shown}",
        )
    if style < 0.45:
        question = f"Show the {_words(shown)} of {parents} without any {children}."
        return (
            question,
            f"SELECT {shown} FROM {parent.name} WHERE {key} NOT IN (SELECT {column} FROM {child.name})",
        )
    mine = rng.choice(child.of_type("text", "real", "integer", "date"))
    if style < 0.7:
        where, english = _where(rng, parent, "T2.", always=True)
        return (
            f"What is the {_words(mine)} of {children} of {parents}{english}?",
            f"SELECT T1.{mine} {join}{where}",
        )
    where, english = _where(rng, child, "T1.", always=True)
    return (
        f"What is the {_words(shown)} of {parents} that have {children}{english}?",
        f"SELECT T2.{shown} {join}{where}",
    )


def question_and_query(rng: Random, tables: tuple[Table, ...]) -> tuple[str, str]:
    """A question and a query that answers it, without the final semicolon.

    :param tables: the tables of one database, possibly with columns left out.
    """
    children = [table for table in tables if table.references]
    if children and chance(rng, 0.3):
        return _join(rng, tables, rng.choice(children))
    return _simple(rng, tail(rng, tables))


def query(rng: Random) -> str:
    """One query; most end with a semicolon."""
    sql = question_and_query(rng, SCHEMAS[tail(rng, list(SCHEMAS))])[1]
    return sql + (";" if chance(rng, 0.7) else "")


def prompt_and_query(rng: Random) -> str:
    """A schema, then one to three questions, each with its query."""
    schema = tail(rng, list(SCHEMAS)) if chance(rng, 0.5) else rng.choice(list(SCHEMAS))
    tables = vary(rng, SCHEMAS[schema])
    lines = [card(tables, natural=chance(rng, 0.25))]
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        question, sql = question_and_query(rng, tables)
        lines += [f"Question: {question}", f"SQL: {sql};"]
    return "\n".join(lines)


def asked(rng: Random) -> str:
    """A question with its query and no schema."""
    question, sql = question_and_query(rng, SCHEMAS[tail(rng, list(SCHEMAS))])
    return f"Question: {question}\nSQL: {sql};"
