"""The grammar and the two checks of queries, against gold queries and against SQLite."""

import itertools
import pickle
import random
import re
import sqlite3

import pytest

from sentax.domains.text_to_sql import ColumnCheck, ExplainCheck, TextToSQL, grammar
from sentax.domains.text_to_sql.schema import Column, Schema, Table
from sentax.domains.text_to_sql.statements import finished, overrun, settled
from sentax.ppl.constraints.grammar import LarkEngine

SAMPLE = TextToSQL().sample()


def engines(questions):
    schemas = {q.database.schema.id: q.database.schema for q in questions}
    return {id: LarkEngine(grammar(schema), "start") for id, schema in schemas.items()}


def accepts(engine, text):
    return engine.complete(engine.start(), text.encode())


def assert_gold_passes(questions):
    """Every gold query is in the grammar, and right by both checks, at every point of the way."""
    by_schema = engines(questions)
    checks = {}
    for question in questions:
        schema = question.database.schema
        if schema.id not in checks:
            checks[schema.id] = ColumnCheck(schema), ExplainCheck(schema)
        text = f" {question.query}"
        assert accepts(by_schema[schema.id], text), question
        assert accepts(by_schema[schema.id], text.strip()), question
        assert not accepts(by_schema[schema.id], text[:-1]), question
        for check in checks[schema.id]:
            assert check.complete_ok(text), question
            for end in range(len(text)):
                assert check.prefix_ok(text[:end]), (question, text[:end])


def test_gold_queries_of_the_sample():
    assert_gold_passes(SAMPLE)


def test_gold_queries_of_spider(data):
    questions = TextToSQL().load(data)
    assert len({q.database.schema.id for q in questions}) == 20
    by_schema = engines(questions)
    for question in questions:
        assert accepts(by_schema[question.database.schema.id], question.query), question
    assert_gold_passes(random.Random(0).sample(questions, 40))


@pytest.mark.slow
def test_all_gold_queries_of_spider(data):
    questions = TextToSQL().load(data)
    assert len(questions) == 620
    assert_gold_passes(questions)


SCHOOL = SAMPLE[0].database.schema


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT name FROM students;", True),
        ("select NAME from Students;", True),
        ("SELECT students.name FROM students;", True),
        ("SELECT T1.name FROM students AS T1 LEFT JOIN enrolments AS T2 ON T1.id = T2.student_id;", True),
        ("SELECT name FROM students WHERE city = 'it''s' OR (age > 3 AND NOT (grade <= 1.5));", True),
        ("SELECT COUNT(DISTINCT city), MAX(age) - MIN(age) FROM students LIMIT 3;", True),
        ("SELECT name FROM (SELECT name FROM students) AS T1;", True),
        ("SELECT title FROM courses UNION ALL SELECT name FROM students ORDER BY title;", True),
        ("SELECT name FROM students WHERE EXISTS (SELECT mark FROM enrolments);", True),
        ("SELECT students.title FROM students;", False),  # a column of another table
        ("SELECT surname FROM students;", False),
        ("SELECT name FROM pupils;", False),
        ("SELECT name FROM students", False),
        ("SELECT name FROM students;;", False),
        ("SELECT name FROM students; SELECT 1;", False),
        ("SELECT name     FROM students;", False),  # five spaces
        ("SELECTname FROM students;", False),
        ("DROP TABLE students;", False),
        ("SELECT load_extension('x');", False),
        ("WITH x AS (SELECT name FROM students) SELECT name FROM students;", False),
        ("SELECT name FROM students -- really\n;", False),
        ("ATTACH 'x' AS y;", False),
    ],
)
def test_grammar(text, expected):
    assert accepts(engines(SAMPLE)["school"], text) is expected


def test_odd_names_stand_in_quotes():
    columns = (
        Column("rating (%)", "number", "rating"),
        Column("18_49", "number", "x"),
        Column("Order", "text", "y"),
    )
    schema = Schema("odd", (Table("a table", columns), Table("none", ())))
    engine = LarkEngine(grammar(schema), "start")
    for name in ('"rating (%)"', "`rating (%)`", '"18_49"', '"Order"'):
        text = f'SELECT {name} FROM "a table";'
        assert accepts(engine, text)
        assert ExplainCheck(schema).complete_ok(text)
        assert ColumnCheck(schema).complete_ok(text)
    for name in ("rating (%)", "18_49", "Order"):
        assert not accepts(engine, f'SELECT {name} FROM "a table";')
    with pytest.raises(ValueError, match="'none' has no columns"):
        grammar(Schema("none", (Table("empty", ()),)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("SELECT name FROM students WHERE", None),  # the word may go on
        ("SELECT name FROM students WHERE ", "SELECT name FROM students"),
        ("SELECT name FROM students;", "SELECT name FROM students"),
        ("SELECT 'x FROM y WHERE ", None),
        ("SELECT name FROM t WHERE a = 'WHERE ", "SELECT name FROM t"),
        ("SELECT a FROM t WHERE b = 1 AND ", "SELECT a FROM t WHERE b = 1"),
        ("SELECT a FROM t JOIN u ON x = y AND ", None),  # another join may follow
        ("SELECT a FROM t WHERE (b = 1 OR ", "SELECT a FROM t WHERE (b = 1)"),
        ("SELECT a FROM t WHERE b IN (SELECT c FROM u)", "SELECT a FROM t WHERE b IN (SELECT c FROM u)"),
        ("SELECT a FROM t WHERE b IN (SELECT c FROM u", "SELECT a FROM t"),
        ("SELECT a FROM (SELECT b FROM t WHERE ", "SELECT b FROM t"),
        ("SELECT a FROM (SELECT b FROM t) ", "SELECT b FROM t"),
        # May refer to tables that have not been named.
        ("SELECT (SELECT b FROM t WHERE ", None),
        ("SELECT a FROM t JOIN u ON x = (SELECT b FROM v WHERE ", None),
        ("SELECT a FROM t UNION SELECT b FROM u ORDER ", "SELECT a FROM t UNION SELECT b FROM u"),
        ("SELECT a FROM t UNION SELECT ", "SELECT a FROM t"),
        ("SELECT a) FROM t WHERE ", None),
    ],
)
def test_settled(text, expected):
    found = settled(text)
    assert (found[-1] if found else None) == expected
    for end in range(len(text)):
        assert settled(text[:end]) == found[: len(settled(text[:end]))]


def test_the_end_of_a_statement():
    assert finished("SELECT 1") is None
    assert finished(" SELECT 1 ;\n") == " SELECT 1 "
    assert finished("SELECT ';") is None
    assert overrun("SELECT 1; DROP")
    assert not overrun("SELECT '; DROP'; ")
    for check in (ColumnCheck(SCHOOL), ExplainCheck(SCHOOL)):
        assert not check.prefix_ok("SELECT name FROM students; S")
        for text in (
            "",
            ";",
            "SELECT name FROM students",
            "SELECT name FROM students;;",
            "DROP TABLE students;",
        ):
            assert not check.complete_ok(text), text


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("SELECT name FROM students", None),
        ("SELECT s.name FROM students AS s", None),
        ("SELECT students.name FROM students AS s", "no table students in scope"),
        ("SELECT T2.name FROM students AS T1", "no table T2 in scope"),
        ("SELECT T1.title FROM students AS T1", "T1 has no column title"),
        ("SELECT name FROM pupils", "no table pupils"),
        ("SELECT title FROM students", "no table in scope has a column title"),
        ('SELECT name FROM students WHERE city = "Oslo"', None),  # SQLite reads a string
        ("SELECT name FROM students WHERE EXISTS (SELECT mark FROM enrolments WHERE student_id = id)", None),
        (
            "SELECT mark FROM students WHERE EXISTS (SELECT mark FROM enrolments)",
            "no table in scope has a column mark",
        ),
        ("SELECT T1.n FROM (SELECT name AS n FROM students) AS T1", None),
        ("SELECT T1.name FROM (SELECT name AS n FROM students) AS T1", "T1 has no column name"),
        ("SELECT name AS n FROM students ORDER BY n", None),
        ("SELECT name FROM students UNION SELECT title FROM courses ORDER BY name", None),
        ("SELECT T1.* FROM students AS T1", None),
        ("SELECT * FROM (SELECT * FROM students) AS T1 WHERE T1.age > 3", None),
    ],
)
def test_columns(statement, why):
    fault = ColumnCheck(SCHOOL).judge(statement)
    assert (fault and fault.why) == why
    # SQLite has the last word.
    connection = sqlite3.connect(":memory:")
    connection.executescript(SCHOOL.ddl())
    if why is None:
        connection.execute(statement)
    else:
        with pytest.raises(sqlite3.OperationalError, match="no such"):
            connection.execute(statement)
    connection.close()


def mutations(rng, question, count):
    """The gold query with one name replaced by another."""
    schema = question.database.schema
    columns = [c.name for t in schema.tables for c in t.columns]
    tables = [t.name for t in schema.tables]
    query = question.query.rstrip(";")
    known = {name.lower() for name in columns + tables}
    words = [
        m for m in re.finditer(r"\b\w+\b", query) if m.group().lower() in known or m.group() in ("T1", "T2")
    ]
    for _ in range(count):
        word = rng.choice(words)
        if word.group() in ("T1", "T2"):
            other = rng.choice(("T1", "T2", "T3"))
        else:
            other = rng.choice(tables if word.group().lower() in {t.lower() for t in tables} else columns)
        yield query[: word.start()] + other + query[word.end() :]


def assert_agrees_with_sqlite(questions, count):
    """What the column check refuses SQLite refuses; what has a name that SQLite does not know is refused.

    The one thing it lets through: the GROUP BY and ORDER BY of a subquery see no outer tables in SQLite.
    """
    rng = random.Random(1)
    refused = missed = 0
    for question in questions:
        columns, explain = ColumnCheck(question.database.schema), ExplainCheck(question.database.schema)
        for statement in mutations(rng, question, count):
            fault, error = columns.judge(statement), explain.judge(statement)
            assert fault is None or error is not None, (statement, fault)
            refused += fault is not None
            if fault is None and error is not None and error.why.startswith("no such"):
                missed += 1
                assert re.search(r"\(\s*select.*(group|order) by", statement, re.IGNORECASE), statement
    return refused, missed


def test_column_check_against_sqlite():
    refused, missed = assert_agrees_with_sqlite(SAMPLE, 12)
    assert refused > 80
    assert missed == 0


def test_column_check_against_sqlite_on_spider(data):
    questions = random.Random(2).sample(TextToSQL().load(data), 60)
    refused, missed = assert_agrees_with_sqlite(questions, 4)
    assert refused > 100
    assert missed <= 3


def test_a_refused_beginning_has_no_right_completion():
    """Soundness of the prefix checks on wrong queries: once a beginning is refused, so is its end."""
    rng = random.Random(3)
    early = 0
    for question in SAMPLE:
        for check in (ColumnCheck(question.database.schema), ExplainCheck(question.database.schema)):
            for statement in mutations(rng, question, 3):
                text = f"{statement};"
                verdicts = [check.prefix_ok(text[:end]) for end in range(len(text) + 1)]
                assert verdicts == sorted(verdicts, reverse=True), statement
                assert verdicts[-1] or not check.complete_ok(text)
                assert verdicts[-1] == check.complete_ok(text)
                early += not verdicts[-2]
    assert early > 15  # most queries of the sample are settled by their last word alone


def test_between_is_not_cut_in_two():
    check = ExplainCheck(SCHOOL)
    text = "SELECT name FROM students WHERE age BETWEEN (SELECT MIN(age) FROM students) AND 30;"
    assert all(check.prefix_ok(text[:end]) for end in range(len(text)))
    assert check.complete_ok(text)


def test_explain_executes_nothing():
    check = ExplainCheck(SCHOOL)
    for text in itertools.chain(
        (f"{verb} TABLE students;" for verb in ("DROP", "ALTER")),
        ("DELETE FROM students;", "PRAGMA table_info(students);", "ATTACH 'x' AS y;", "SELECT randomblob(9);"),
        ("SELECT sql FROM sqlite_master;", "SELECT load_extension('x');"),
    ):
        assert not check.complete_ok(text), text
    assert check.complete_ok("SELECT name FROM students;")


def test_checks_travel_to_worker_processes():
    for check in (ColumnCheck(SCHOOL), ExplainCheck(SCHOOL)):
        copy = pickle.loads(pickle.dumps(check))
        assert copy.complete_ok("SELECT name FROM students;")
        assert not copy.complete_ok("SELECT title FROM students;")
