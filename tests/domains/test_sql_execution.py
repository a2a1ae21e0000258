"""Execution match, and that a candidate can do nothing but be wrong."""

import itertools
import json
import random
import sqlite3
import time
from collections import Counter
from dataclasses import replace

import pytest

from sentax.domains.text_to_sql import Database, QueryRefused, Sandbox, TextToSQL, same_result
from sentax.domains.text_to_sql.rows import invent
from sentax.domains.text_to_sql.worker import FUNCTIONS

DOMAIN = TextToSQL()
SAMPLE = DOMAIN.sample()
COUNT = SAMPLE[0]
NUMBERS = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c"
LONG = "t(s) AS (SELECT 'aaaaaaaaaa' UNION ALL SELECT substr(s || s, 1, 450000) FROM t LIMIT 20)"
LONGEST = "SELECT MAX(s) AS s FROM t"
CROSS = ", ".join(f"students AS t{i}" for i in range(12))

MALICIOUS = {
    "attach": "ATTACH DATABASE '{file}' AS x;",
    "pragma": "PRAGMA writable_schema = ON;",
    "pragma as a table": "SELECT * FROM pragma_table_info('students');",
    "schema": "SELECT sql FROM sqlite_master;",
    "recursion": f"{NUMBERS}) SELECT COUNT(*) FROM c;",
    "recursion, many rows": f"{NUMBERS}) SELECT n FROM c;",
    "recursion, one long string": f"{NUMBERS} LIMIT 100000000) SELECT group_concat(n) FROM c;",
    "recursion, much memory": f"{NUMBERS}), {LONG} SELECT DISTINCT s || n FROM c, ({LONGEST}) ORDER BY 1;",
    "cross join": f"SELECT COUNT(*) FROM {CROSS};",
    "cross join, sorted": f"SELECT t1.name FROM {CROSS} ORDER BY t2.name || t3.name;",
    "load_extension": "SELECT load_extension('{file}');",
    "randomblob": "SELECT LENGTH(randomblob(1000000000));",
    "zeroblob": "SELECT LENGTH(zeroblob(1000000000));",
    "hex": "SELECT hex(zeroblob(100000000));",
    "printf": "SELECT printf('%.*c', 2000000000, 'x');",
    "replace": "SELECT replace(replace('{long}', 'a', '{long}'), 'a', '{long}');",
    "like": "SELECT COUNT(*) FROM students WHERE name LIKE '{pattern}';",
    "writefile": "SELECT writefile('{file}', 'x');",
    "readfile": "SELECT readfile('/etc/hostname');",
    "tokenizer": "SELECT fts3_tokenizer('simple');",
    "vacuum": "VACUUM INTO '{file}';",
    "drop": "DROP TABLE students;",
    "delete": "DELETE FROM students;",
    "insert": "INSERT INTO students VALUES (99, 'x', 1, 'y', 1);",
    "update": "UPDATE students SET age = 0;",
    "temporary table": "CREATE TEMP TABLE x AS SELECT 1;",
    "transaction": "BEGIN EXCLUSIVE;",
    "two statements": "SELECT COUNT(*) FROM students WHERE age > 20; DROP TABLE students;",
    "null character": "SELECT '\0';",
    "lone surrogate": "SELECT '\ud800';",
    "parentheses": "SELECT {open}1{close};",
    "nothing": "",
    "comment": "-- SELECT COUNT(*) FROM students;",
    "semicolons": ";;;",
}


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(time_limit=3.0, instructions=2_000_000, memory=128 << 20) as sandbox:
        yield sandbox


@pytest.mark.parametrize("name", MALICIOUS)
def test_malicious_candidates_score_nothing(name, sandbox, tmp_path):
    places = {
        "file": tmp_path / "written",
        "long": "a" * 2000,
        "pattern": "%a" * 600,
        "open": "(" * 5000,
        "close": ")" * 5000,
    }
    answer = MALICIOUS[name]
    for key, value in places.items():
        answer = answer.replace("{" + key + "}", str(value))
    start = time.monotonic()
    assert TextToSQL(sandbox).score(COUNT, answer) == 0
    # The bound on time itself, with room for a busy machine; not a measurement.
    assert time.monotonic() - start < 10 * sandbox.time_limit
    assert not list(tmp_path.iterdir())
    with pytest.raises(QueryRefused):
        sandbox.run(COUNT.database, answer)
    # And the next one is answered as if nothing had been.
    assert sandbox.run(COUNT.database, "SELECT COUNT(*), MAX(age) FROM students") == [(7, 24)]


def test_time_is_bounded_from_outside():
    """SQLite's own count of instructions is turned off: the process is ended, and replaced."""
    with Sandbox(time_limit=0.3, instructions=10**15) as sandbox:
        with pytest.raises(QueryRefused, match=r"ended after at most 0\.3 s"):
            sandbox.run(COUNT.database, f"{NUMBERS}) SELECT COUNT(*) FROM c")
        assert sandbox.run(COUNT.database, "SELECT 1") == [(1,)]


def test_memory_is_bounded():
    """Two thousand strings of 450 kB are told apart: 900 MB, where there are 96."""
    query = f"{NUMBERS} LIMIT 2000), {LONG} SELECT COUNT(*) FROM (SELECT DISTINCT s || n FROM c, ({LONGEST}))"
    with Sandbox(time_limit=20.0, instructions=10**9, memory=96 << 20) as sandbox:
        with pytest.raises(QueryRefused, match="MemoryError"):
            sandbox.run(COUNT.database, query)
        assert sandbox.run(COUNT.database, "SELECT 1") == [(1,)]


def test_harmless_functions(sandbox):
    query = "SELECT lower(name) || round(grade) FROM students WHERE instr(name, 'a') AND name LIKE 'A%'"
    assert sandbox.run(COUNT.database, query) == [("anna3.0",)]
    assert not FUNCTIONS & {
        "load_extension",
        "randomblob",
        "zeroblob",
        "readfile",
        "writefile",
        "printf",
        "edit",
    }


def test_files_are_read_and_left_alone(sandbox, tmp_path):
    file = tmp_path / "a b?#%.sqlite"
    connection = sqlite3.connect(file)
    connection.executescript(
        "CREATE TABLE t (x, y); INSERT INTO t VALUES (1, 'ä'), (2.5, x'00ff'), (NULL, 'z')"
    )
    connection.execute("INSERT INTO t VALUES (3, CAST(x'61ff62' AS TEXT))")
    connection.commit()
    connection.close()
    before = file.read_bytes()
    database = Database(COUNT.database.schema, file=file)
    rows = sandbox.run(database, "SELECT * FROM t")
    assert rows == [(1, "ä"), (2.5, b"\x00\xff"), (None, "z"), (3, "ab")]  # as Spider's evaluation decodes
    with pytest.raises(QueryRefused):
        sandbox.run(database, "DELETE FROM t")
    assert file.read_bytes() == before
    assert [f.name for f in tmp_path.iterdir()] == [file.name]


def test_databases_that_cannot_be_opened(sandbox, tmp_path):
    schema = COUNT.database.schema
    with pytest.raises(ValueError, match="'school' cannot be opened"):
        sandbox.run(Database(schema, file=tmp_path / "missing.sqlite"), "SELECT 1")
    with pytest.raises(ValueError, match="cannot be opened"):
        sandbox.run(Database(schema, script="CREATE"), "SELECT 1")
    with pytest.raises(ValueError, match="a file or a script"):
        Database(schema)


def by_definition(gold, other, ordered):
    """The definition: some order of columns, and of rows if it is free, makes the one the other."""
    if not gold or not other or len(gold[0]) != len(other[0]):
        return len(gold) == len(other) and not gold
    for order in itertools.permutations(range(len(gold[0]))):
        rows = [tuple(row[i] for i in order) for row in other]
        if rows == gold or (not ordered and Counter(rows) == Counter(gold)):
            return True
    return False


def test_same_result_against_its_definition():
    rng = random.Random(0)
    outcomes = Counter()
    for _ in range(1500):
        width, length = rng.randint(1, 3), rng.randint(0, 3)
        gold = [tuple(rng.choice((0, 1, None, "a")) for _ in range(width)) for _ in range(length)]
        other = [tuple(row[i] for i in rng.sample(range(width), width)) for row in gold]
        if rng.random() < 0.7:
            order = rng.sample(range(width), width)
            other = [tuple(row[i] for i in order) for row in gold]
        if rng.random() < 0.5:
            rng.shuffle(other)
        if rng.random() < 0.2 and other:
            other[0] = (*other[0][:-1], rng.choice((0, "a", 1.0)))
        for ordered in (True, False):
            expected = by_definition(gold, other, ordered)
            assert same_result(gold, other, ordered=ordered) is expected, (gold, other, ordered)
            outcomes[expected] += 1
    assert min(outcomes.values()) > 400


def test_wide_results_are_compared_at_once():
    row = tuple("x" * 30)
    assert same_result([row] * 5, [row] * 5, ordered=False)
    assert not same_result([row] * 5, [(*row[:-1], "y")] * 5, ordered=False)


@pytest.mark.parametrize(
    ("number", "answer", "score"),
    [
        (0, "SELECT COUNT(*) FROM students WHERE age >= 21;", 1.0),
        (0, "SELECT COUNT(*) FROM students WHERE age > 20", 1.0),  # the constraint asks for the semicolon
        (0, "SELECT COUNT(*) FROM students WHERE age > 21;", 0.0),
        (0, "SELECT COUNT(*), 1 FROM students WHERE age > 20;", 0.0),
        (2, "SELECT COUNT(*), city FROM students GROUP BY city ORDER BY city DESC;", 1.0),
        (4, "SELECT subject FROM courses;", 0.0),  # DISTINCT counts
        (4, "SELECT subject FROM courses GROUP BY subject;", 1.0),
        (10, "SELECT name FROM singers;", 0.0),  # the order was asked for
        (10, "SELECT name FROM singers ORDER BY age ASC;", 0.0),
    ],
)
def test_scores(number, answer, score):
    assert DOMAIN.score(SAMPLE[number], answer) == score


def assert_gold_scores(questions):
    for question in questions:
        assert DOMAIN.score(question, DOMAIN.gold(question)) == 1, question


def test_gold_scores_of_the_sample():
    assert_gold_scores(SAMPLE)
    # Every gold query has a result, and no two questions about a database have the same.
    for id in ("school", "music", "pets"):
        questions = [q for q in SAMPLE if q.database.schema.id == id]
        results = [DOMAIN.sandbox.run(q.database, q.query) for q in questions]
        assert all(results)
        for (i, one), (j, other) in itertools.combinations(enumerate(results), 2):
            assert not same_result(one, other, ordered=False), (questions[i], questions[j])


def test_gold_scores_of_spider(data):
    """All questions: 620 gold queries score 1, and those on invented rows nearly all have a result."""
    questions = DOMAIN.load(data)
    assert_gold_scores(questions)
    assert {q.database.schema.id for q in questions if not q.database.invented} == {"concert_singer"}
    empty = sum(not DOMAIN.sandbox.run(q.database, q.query) for q in questions)
    assert empty < 0.1 * len(questions)


def write_set(folder, **files):
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))


SCHEMA = {
    "db_id": "d",
    "table_names_original": ["T", "sqlite_sequence"],
    "table_names": ["t", "x"],
    "column_names_original": [[-1, "*"], [0, "Id"], [0, "Name"], [1, "seq"]],
    "column_names": [[-1, "*"], [0, "identifier"], [0, "name"], [1, "seq"]],
    "column_types": ["text", "number", "text", "others"],
    "primary_keys": [1],
    "foreign_keys": [],
}
RECORD = {"db_id": "d", "question": "How many? ", "query": "SELECT count(*) FROM T ; "}


def test_spiders_own_layout(tmp_path):
    folder = tmp_path / "spider"
    (folder / "database" / "d").mkdir(parents=True)
    write_set(folder, tables=[SCHEMA], dev=[RECORD], train_spider=[RECORD] * 1001)
    connection = sqlite3.connect(folder / "database" / "d" / "d.sqlite")
    connection.executescript("CREATE TABLE T (Id, Name); INSERT INTO T VALUES (1, 'a')")
    connection.close()
    for place in (tmp_path, folder):
        (question,) = DOMAIN.load(place)
        assert question.query == "SELECT count(*) FROM T;"
        assert question.question == "How many?"
        assert question.database.file is not None and not question.database.invented
        assert [table.name for table in question.database.schema.tables] == ["T"]
        assert DOMAIN.prompt(question).startswith(
            "T\n* Id (number): identifier\n* Name (text): name\nQuestion: "
        )
        assert DOMAIN.prompt(question).endswith("Question: How many?\nSQL:")
        assert len(question.shots) == 3
        assert [m["role"] for m in DOMAIN.chat(question)] == ["system"] + 3 * ["user", "assistant"] + ["user"]
        assert DOMAIN.score(question, "SELECT 1;") == 1


def test_prompts_show_a_schema_once():
    prompt = DOMAIN.prompt(SAMPLE[0])
    assert prompt.count("* age (integer): age") == 1
    assert prompt.count("Question: ") == 4
    assert all(shot.question != SAMPLE[0].question for shot in SAMPLE[0].shots)


@pytest.mark.parametrize(
    ("files", "error", "message"),
    [
        ({"tables": [SCHEMA]}, FileNotFoundError, r"none of: dev\.json"),
        ({"dev": [RECORD]}, FileNotFoundError, r"none of: tables\.json"),
        ({"tables": [{}], "dev": [RECORD]}, ValueError, "not in the layout of Spider's tables.json"),
        ({"tables": [], "dev": [RECORD]}, ValueError, "question 0 is about 'd', which has no schema"),
        ({"tables": [SCHEMA], "dev": [{"db_id": "d"}]}, ValueError, "entry 0 has not the keys"),
        ({"tables": [SCHEMA], "dev": {}}, ValueError, "holds no list"),
        (
            {"tables": [SCHEMA], "dev": [RECORD], "train_spider": [RECORD | {"db_id": "e"}] * 1001},
            ValueError,
            "has no examples",
        ),
    ],
)
def test_files_in_another_layout(tmp_path, files, error, message):
    write_set(tmp_path, **files)
    with pytest.raises(error, match=message):
        DOMAIN.load(tmp_path)


def test_invented_rows():
    schema = COUNT.database.schema
    queries = ["SELECT name FROM students WHERE city = 'It''s' AND age > 77"]
    script = invent(schema, queries)
    assert script == invent(schema, queries)
    database = Database(schema, script=script, invented=True)
    run = DOMAIN.sandbox.run
    assert run(database, "SELECT COUNT(DISTINCT id) FROM students") == [(24,)]
    assert 0 < run(database, "SELECT COUNT(*) FROM students WHERE age > 77")[0][0] < 24
    dangling = "SELECT COUNT(*) FROM enrolments WHERE student_id NOT IN (SELECT id FROM students)"
    assert run(database, dangling) == [(0,)]


def test_a_gold_query_without_result_is_an_error():
    with pytest.raises(ValueError, match="school: the gold query 'SELECT nothing;' has no result"):
        DOMAIN.score(replace(COUNT, query="SELECT nothing;"), "SELECT 1;")
