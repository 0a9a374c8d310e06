# ruff: noqa: E501  # cells are written a line each
from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import polars as pl
import pytest

import streamlab as sl
from streamlab.export import proving, tidy

if TYPE_CHECKING:
    from tests.unit.export.conftest import Book

PIPELINE = "pipeline = sl.Pipeline([out.sink_table('t', key='carrier')], name='p')"
MAPPED = "out = flights.map_batches(f, schema={'carrier': pl.String, 'delay': pl.Float64})"
F = "def f(frame):\n    return frame.with_columns(pl.col('delay') * RATE)"
ABOVE = "out = flights.filter(pl.col('delay') > limit)"
KAFKA = "out = kafka.stream('flights', schema={'carrier': pl.String, 'delay': pl.Float64})"

# name: cells, what the script must have, what it must not have
ALIKE: dict[str, tuple[list[str], list[str], list[str]]] = {
    "a constant bound again after the pipeline: functions see the last value": (
        ["RATE = 1", F, MAPPED, PIPELINE, "RATE = 2"], ["RATE = 2"], ["RATE = 1"],
    ),
    "a function used before its constant is there": ([F, "RATE = 3", MAPPED, PIPELINE], ["RATE = 3"], []),
    "a function defined twice": (["RATE = 1", "def f(frame):\n    return frame", F, MAPPED, PIPELINE], ["* RATE"], ["return frame\n"]),
    "a list changed in place": (
        ["cols = ['carrier']", "cols.append('delay')", "cols", "out = flights.select(cols)", PIPELINE], ["cols.append"], ["\ncols\n"],
    ),
    "a list changed under another name": (
        ["a = ['carrier']", "b = a", "b.append('delay')", "out = flights.select(a)", PIPELINE], ["b.append"], [],
    ),
    "a cell run twice": (["limit = 1", "limit += 2", "limit += 2", ABOVE, PIPELINE], ["limit += 2\nlimit += 2"], []),
    "a dict filled item by item, read in a function": (
        ["d = {}", "d['RATE'] = 5\nd.update(x=1)", "def f(frame):\n    return frame.with_columns(pl.col('delay') * d['RATE'])", MAPPED, PIPELINE],
        ["d['RATE'] = 5", "d.update"], [],
    ),
    "a helper that changes what it is given": (
        ["def fill(into, n):\n    into['limit'] = n\n    return 0", "d = {}", "zero = fill(d, 4)", "limit = d['limit']", ABOVE, PIPELINE],
        ["zero = fill(d, 4)"], [],
    ),
    "a decorator that keeps a list": (
        ["REG = []\ndef reg(fn):\n    REG.append(fn.__name__)\n    return fn", "@reg\ndef delay(frame):\n    return frame",
         "out = flights.select('carrier', *REG)", PIPELINE], ["@reg\ndef delay"], [],
    ),
    "a global statement": (
        ["limit = 0\ndef bump():\n    global limit\n    limit += 1", "bump()\nbump()", ABOVE, PIPELINE], ["bump()\nbump()"], [],
    ),
    "branches, loops, with, try, match, walrus": (
        ["import io\ntry:\n    import nowhere\nexcept ImportError:\n    nowhere = None",
         "if (k := 5) > 3:\n    limit = k\nfor i in range(2):\n    limit += i\nwith io.StringIO('7') as file:\n    limit += int(file.read())",
         "match limit:\n    case 13 if nowhere is None:\n        limit = 14\n    case _:\n        limit = 0", ABOVE, PIPELINE],
        ["except ImportError", "k := 5", "as file", "match limit"], [],
    ),
    "two names bound at once, one of them for the second time": (
        ["limit = float('9')", "size = limit * 2", "low = limit = 3", "out = flights.filter(pl.col('delay') > limit + low + size)", PIPELINE],
        ["size = limit * 2\nlow = limit = 3"], [],
    ),
    "a dotted import beside one whose name is bound twice": (
        ["import math as m", "low = m.floor(9.5)", "import os.path, statistics as m", "limit = low + m.fmean([1, 3]) + len(os.path.sep)", ABOVE,
         PIPELINE], ["import os.path, statistics as m\nlimit ="], [],
    ),
    "tuples taken apart": (["limit, unused = 1, 2", ABOVE, PIPELINE], ["limit, unused = 1, 2"], []),
    "f-strings and comprehensions": (
        ["n = 'delay'\nxs = [i * 2.5 for i in range(3) if i]", "out = flights.filter(pl.col(f'{n}').is_in([x + 1 for x in xs]))", PIPELINE],
        ["xs = ["], [],
    ),
    "a class with a helper": (
        ["from dataclasses import dataclass", "def half(x):\n    return x / 2",
         "@dataclass\nclass Limits:\n    top: float = 3.0\n    def low(self):\n        return half(self.top)", "limit = Limits().low()", ABOVE, PIPELINE],
        ["def half", "@dataclass", "from dataclasses import dataclass"], [],
    ),
    "a lambda with a constant": (
        ["RATE = 4", "out = flights.map_batches(lambda f: f.with_columns(pl.col('delay') * RATE), schema={'carrier': pl.String, 'delay': pl.Float64})",
         PIPELINE], ["RATE = 4", "lambda f:"], [],
    ),
    "a function in a function": (
        [("RATE = 2\ndef make(k):\n    def inner(frame):\n        def deep(x):\n            return x * RATE * k\n"
         "        return frame.with_columns(deep(pl.col('delay')))\n    return inner"), "f = make(3)", MAPPED, PIPELINE], ["f = make(3)"], [],
    ),
    "a docstring that a formatter would change": (
        ["RATE = 1\ndef f(frame):\n    '''Two  \n         lines   '''\n    return frame.with_columns(pl.col('delay') * RATE)", MAPPED, PIPELINE], [], [],
    ),
    "annotations and imports inside": (
        ["from typing import Any", ("def f(frame: pl.DataFrame, more: Any = None) -> pl.DataFrame:\n    import math\n"
         "    return frame.with_columns(pl.col('delay') * math.pi)"), MAPPED, PIPELINE], ["from typing import Any", "    import math"], [],
    ),
    "a stream that a function looks up": (
        ["other = sl.Kafka('localhost:9092').stream('o', schema={'carrier': pl.String, 'delay': pl.Float64})",
         "def both(stream):\n    return sl.concat([stream, other])", "out = flights.pipe(both)", PIPELINE], ["\nother = sl.Kafka"], [],
    ),
    "a name bound twice between two windows": (
        ["size = '1h'", "a = flights.group_by('carrier').window(sl.tumbling(size), name='a').agg(n=pl.len())", "size = '5m'",
         "b = flights.group_by('carrier').window(sl.tumbling(size), name='b').agg(n=pl.len())",
         "pipeline = sl.Pipeline([a.sink_table('a'), b.sink_table('b')], name='p')"], ["    size = '1h'", "    size = '5m'"], [],
    ),
    "a change that only the order of execution tells": (
        ["cols = ['carrier']\nbox = {'c': cols}\ndef more():\n    box['c'].append('delay')\n    return 5", "out = flights.select(cols)",
         "k = more()", "out = out.filter(pl.lit(k) > 1)", PIPELINE], ["\nout = flights.select(cols)\nk = more()"], [],
    ),
    "a function that keeps what it sees": (
        ["seen = []\ndef keep(frame):\n    seen.append(frame.height)", "pipeline = sl.Pipeline([flights.sink_frame(keep)], name='p')"],
        ["seen = []"], [],
    ),
    "a statement that failed": (["limit = 1", "1 / 0\nlimit = 2", ABOVE, PIPELINE], ["limit = 1"], ["limit = 2"]),
    "several statements on a line, with a comment": (
        ["a = 1; limit = 2; out = flights.filter(pl.col('delay') > limit)  # both", PIPELINE], ["limit = 2\n", "# both"], ["a = 1"],
    ),
    "text over several lines": (
        ['Q = """a\n  b"""', "out = flights.filter(pl.col('carrier') != Q, pl.col('carrier') != '''x\n y''')", PIPELINE], ["'''x\n y'''"], [],
    ),
    "names that are not ASCII": (
        ["größe = 'ü'  # ö", "ß = 1; out = flights.filter(pl.col('carrier') != größe)  # naïve", PIPELINE], ["größe = 'ü'  # ö"], ["ß = 1"],
    ),
    "the script's own names in use": (
        ["worker = 3\nWorker = 4\nlimit = worker + Worker", ABOVE, PIPELINE], ["worker_ = StreamlabWorker(__name__, __doc__)"], [],
    ),
    "a pipeline that has no name, and runs at once": (
        ["out = flights", "q = [sl.Pipeline([out.sink_table('t', key='carrier')], name='p')]\nprint(q)\npipeline = q[0]"], ["return"], ["print"],
    ),
    "a seed": (["import random\nrandom.seed(3)\npl.Config.set_tbl_rows(3)", "limit = random.random()", ABOVE, PIPELINE], ["seed(3)"], ["Config"]),
    "magics that run Python": (["%time limit = 3", "%%time\n# kept\nRATE = 2", ABOVE, PIPELINE], ["limit = 3"], ["%time", "RATE"]),
    "a module beside the notebook": (
        ["import sys\nsys.path.append('lib')", "import helper_beside_it as beside", "limit = beside.LIMIT", ABOVE, PIPELINE],
        ["import polars as pl\nimport streamlab as sl\n", "sys.path.append('lib')\nimport"], [],
    ),
    "modules and names by other names": (
        ["import math, polars as p\nfrom streamlab import Pipeline\nfrom collections import Counter, defaultdict as dd", "limit = math.floor(2.5) + dd(int)['a']",
         "out = flights.filter(p.col('delay') > limit)", "pipeline = Pipeline([out.sink_table('t', key='carrier')], name='p')"],
        ["from collections import defaultdict as dd", "import polars as p\n", "def pipeline() -> sl.Pipeline"], ["Counter"],
    ),
    "a frame": (
        ["df = pl.DataFrame({'carrier': ['a'], 'ts': [0]})\ndf = df.with_columns(x=1)", "out = sl.from_frame(df, event_time='ts')", PIPELINE],
        ["df = df.with_columns"], ["bootstrap_servers"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ALIKE)
def test_a_script_builds_the_notebooks_plan_from(name: str, book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    (book.folder / "lib").mkdir()
    (book.folder / "lib" / "helper_beside_it.py").write_text("LIMIT = 3\n")
    monkeypatch.chdir(book.folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    cells, there, absent = ALIKE[name]
    book.run(*cells).export()
    for text in there:
        assert text in book.body
    for text in absent:
        assert text not in book.body


# name: cells, what is said
REFUSED: dict[str, tuple[list[str], str]] = {
    "a star import": (["from math import *", "limit = floor(3.5)", ABOVE, PIPELINE],
        'In[4] line 1: \'floor\' comes from "from math import *" at In[3] line 1; write "from math import floor".'),
    "what exec() made": (["exec('limit = 5')", "\n" + ABOVE, PIPELINE], "In[4] line 2: 'limit' has no source"),
    "the result of a shell command": (["names = !ls", "out = flights.filter(pl.col('carrier').is_in(names))", PIPELINE],
        "In[3] line 1: 'names' is the result of a shell command, which a script does not have; write its value in a cell."),
    "a deleted name": (["RATE = 3", F, MAPPED, PIPELINE, "x = 1\ndel RATE"],
        "In[4] line 2: 'RATE' is needed, and was deleted at In[7] line 2; leave out the del."),
    "a loop that failed half-way": (["xs = []\nfor i in [1, 0]:\n    xs.append(1 / i)", "out = flights.filter(pl.col('delay').is_in(xs))", PIPELINE],
        "may have been changed by a statement that failed half-way (ZeroDivisionError: division by zero)"),
    "a name of the notebook's own": (["5", "Out = {2: 5}", "out = flights.filter(pl.col('delay') > _2)", PIPELINE],
        "'_2' exists in a notebook only"),
    "the address in a dict": (["conf = {'bootstrap_servers': 'localhost:9092'}\nkafka = sl.Kafka(**conf)", KAFKA, PIPELINE],
        "In[3] line 2: the address of Kafka(...) is inside a * or ** argument"),
    "a report": (["data = sl.from_frame(pl.DataFrame({'k': [1], 'ts': [0]}), event_time='ts', topic='x')",
        "limit = sl.Pipeline([data.sink_table('k', key='k')], name='other').run().records", ABOVE, PIPELINE],
        "In[4] line 1: 'limit' is the result of .run(), which an export leaves out"),
    "collected rows": (["rows = sl.from_frame(pl.DataFrame({'k': [1], 'ts': [0]}), event_time='ts', topic='x').collect()",
        "limit = rows['k'].sum()", ABOVE, PIPELINE], "In[3] line 1: 'rows' is the result of .collect()"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name_and_line_and_nothing_is_written(
    name: str, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAMLAB_STATE_DIR", str(book.folder / "state"))
    cells, said = REFUSED[name]
    book.namespace["_2"] = 5
    book.run(*cells)
    (book.folder / "worker.py").write_text("# the one before\n")
    with pytest.raises(sl.StreamlabError) as error:
        book.export()
    assert said in str(error.value)
    assert [path.name for path in book.folder.glob("*.py")] == ["worker.py"]
    assert book.script == "# the one before\n"


# --- where the broker is ---


@pytest.mark.parametrize(
    ("made", "written"),
    [
        ("sl.Kafka('localhost:9092')", "sl.Kafka(worker.bootstrap_servers('localhost:9092'))"),
        ("sl.Kafka('localhost:9092', {'linger.ms': 5})", "sl.Kafka(worker.bootstrap_servers('localhost:9092'), {'linger.ms': 5})"),
        ("sl.Kafka(bootstrap_servers='localhost:9092')", "sl.Kafka(bootstrap_servers=worker.bootstrap_servers('localhost:9092'))"),
        ("sl.Kafka(address)", "sl.Kafka(worker.bootstrap_servers(address))"),
        ("sl.Kafka.embedded({'flights': 2})", "sl.Kafka(worker.bootstrap_servers())"),
        ("sl.Kafka()", "sl.Kafka(worker.bootstrap_servers())"),
        ("sl.Kafka(settings={'linger.ms': 5})", "sl.Kafka(worker.bootstrap_servers(), settings={'linger.ms': 5})"),
        ("sl.Kafka(None)", "sl.Kafka(worker.bootstrap_servers())"),
    ],
)  # fmt: skip
def test_the_address_comes_from_flag_and_environment(
    made: str, written: str, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAMLAB_BOOTSTRAP_SERVERS", "elsewhere:9092")
    book.run("address = 'localhost:9092'", f"kafka = {made}", KAFKA, PIPELINE).export()
    assert f"kafka = {written}\n" in book.body


def test_another_cluster_that_is_only_written_to_stays_where_it_is(book: Book) -> None:
    book.run(
        "other = sl.Kafka('archive:9092')", "pipeline = sl.Pipeline([flights.sink_kafka('t', kafka=other)], name='p')"
    )
    book.export()
    assert "sl.Kafka('archive:9092')" in book.body
    assert 'sl.Kafka(worker.bootstrap_servers("localhost:9092"))' in book.body


def test_an_inferred_schema_is_written_out(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    schema = pl.Schema(
        {
            "at": pl.Datetime("ms", "UTC"),
            "n": pl.List(pl.Struct({"x": pl.Float64})),
            "f": pl.Array(pl.Int8, 2),
            "d": pl.Duration("us"),
            "m": pl.Decimal(10, 2),
            "e": pl.Enum(["a"]),
            "plain": pl.Datetime("ns"),
        }
    )
    monkeypatch.setattr(sl.Kafka, "_infer", lambda *_: schema)
    monkeypatch.setattr("streamlab.connect.formats.json.Json.check", lambda *_: None)
    book.run("kafka = sl.Kafka('localhost:9092')\nout = kafka.stream('flights', event_time='at')")
    book.run("pipeline = sl.Pipeline([out.sink_table('t', key='plain')], name='p')").export()
    assert 'schema={"at": pl.Datetime("ms", "UTC"), "n": pl.List(pl.Struct({"x": pl.Float64}))' in book.body
    assert '"f": pl.Array(pl.Int8, 2), "d": pl.Duration("us"), "m": pl.Decimal(10, 2)' in book.body


def test_a_schema_that_was_inferred_needs_a_topic_that_is_known(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sl.Kafka, "_infer", lambda *_: pl.Schema({"carrier": pl.String, "delay": pl.Float64}))
    book.run(
        "kafka = sl.Kafka('localhost:9092')\nout = sl.concat([kafka.stream(topic='a' * n) for n in (1, 2)])", PIPELINE
    )
    with pytest.raises(
        sl.StreamlabError, match=r"In\[3\] line 2: the schema of this stream is inferred .* write schema="
    ):
        book.export()


def test_what_else_has_a_method_stream_is_left_alone(book: Book) -> None:
    book.run(
        "class Limits:\n    def stream(self):\n        return 5", "limit = Limits().stream()", ABOVE, PIPELINE
    ).export()
    assert "limit = Limits().stream()\n" in book.body


# --- parameters ---


def test_the_parameters_cell_becomes_flags(book: Book) -> None:
    exported = book.run(
        (
            "parameters",
            "limit = 15  # minutes\nratio: float = 1\nunused = 3\ncarriers = ['AA', 'UA']\nnothing = None\nsome = limit * 2",
        ),
        "# Parameters\nlimit = 20",
        "out = flights.filter(pl.col('delay') > limit * ratio + some, pl.col('carrier').is_in(carriers), pl.lit(nothing).is_null())",
        PIPELINE,
    ).export()
    assert exported.parameters == ("limit", "ratio", "carriers", "nothing")
    assert 'limit = worker.parameter("limit", 15)  # minutes' in book.body
    assert 'limit = worker.parameter("limit", 20)' in book.body
    assert 'ratio: float = worker.parameter("ratio", 1, type=float)' in book.body
    assert "carriers = worker.parameter(\"carriers\", ['AA', 'UA'])" in book.body
    assert 'nothing = worker.parameter("nothing", None)' in book.body
    assert "some = limit * 2" in book.body
    assert "unused" not in book.body


def test_a_parameter_that_a_function_looks_up_is_the_modules(book: Book) -> None:
    book.run(("parameters", "RATE = 2"), F, MAPPED, PIPELINE).export()
    assert '\nRATE = worker.parameter("RATE", 2)\n' in book.body
    assert "--RATE" in book.script


# --- secrets ---

SECRETS = {
    "in the call": ["kafka = sl.Kafka('h:1', {'sasl.password': 'hunter22'})"],
    "put together": ["kafka = sl.Kafka('h:1', {'sasl.password': 'hun' + 'ter22'})"],
    "in a variable": ["word = 'hunter22'", "conf = {'sasl.password': word, 'linger.ms': 5}", "kafka = sl.Kafka('h:1', conf)"],
    "set as an item": ["conf = {}", "conf['sasl.password'] = 'hunter22'", "kafka = sl.Kafka('h:1', conf)"],
    "in another dict": ["safe = {'k': 'hunter22'}", "kafka = sl.Kafka('h:1', {'sasl.password': safe['k']})"],
    "asked for": ["import getpass\nword = getpass.getpass()", "kafka = sl.Kafka('h:1', {'sasl.password': word})"],
    "put into the environment": ["import os\nos.environ['KPW'] = 'hunter22'", "kafka = sl.Kafka('h:1', {'sasl.password': os.environ['KPW']})"],
    "with something to fall back on": ["import os\nkafka = sl.Kafka('h:1', {'sasl.password': os.getenv('KPW2', 'hunter22')})"],
    "a parameter": [("parameters", "word = 'hunter22'"), "kafka = sl.Kafka('h:1', {'ssl.key.password': word})"],
    "tuple": ["user, word = 'me', 'hunter22'", "kafka = sl.Kafka('h:1', {'sasl.username': user, 'sasl.password': word})"],
}  # fmt: skip


@pytest.mark.parametrize("how", SECRETS)
def test_a_secret_is_read_from_the_environment(how: str, book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getpass", lambda *_: "hunter22")
    monkeypatch.setenv("KPW", "")
    exported = book.run(*SECRETS[how], KAFKA, PIPELINE).export()
    assert "os.environ[" in book.body
    assert "import os\n" in book.body
    assert "hunter22" not in book.script + repr(exported)
    assert "'hun'" not in book.script
    assert exported.secrets


def test_a_secret_that_would_be_written_is_refused_without_saying_it(book: Book) -> None:
    book.run(
        "def make(word):\n    return sl.Kafka('h:1', {'sasl.password': word})",
        "x = 1\nkafka = make('hunter22')",
        KAFKA,
        PIPELINE,
    )
    with pytest.raises(sl.StreamlabError, match=r"a secret setting stands at In\[4\] line 2") as error:
        book.export()
    assert "hunter22" not in str(error.value)


def test_what_is_left_out_is_listed_without_what_it_is_given(book: Book) -> None:
    book.run(
        "print('hunter22')\n!login --password hunter22\n%env WORD=hunter22\nflights.explain()\nflights\nx = 1",
        "out = flights",
        PIPELINE,
    )
    shown = repr(book.export())
    for line in (
        "In[3] line 1: print()",
        "line 2: a shell command",
        "line 3: %env",
        "line 4: flights.explain()",
        "line 5: flights, which is shown",
    ):
        assert f"left out {line}" in shown or line in shown
    assert "left out 1 other statements" in shown
    assert "hunter22" not in shown


# --- what is asked for ---


@pytest.mark.parametrize(
    ("path", "said"),
    [("worker.txt", 'is no Python file; say "worker.py"'), ("nowhere/worker.py", "there is no folder")],
)
def test_a_path_that_cannot_be_is_refused(path: str, said: str, book: Book) -> None:
    with pytest.raises(sl.StreamlabError, match=said):
        book.run("out = flights", PIPELINE).export(path=path)


def test_a_pipeline_without_a_name_is_refused(book: Book) -> None:
    book.run("pipeline = sl.Pipeline([flights.sink_table('t', key='carrier')])")
    with pytest.raises(sl.StreamlabError, match="the pipeline has no name"):
        book.export()


def test_a_pipeline_of_no_variable_is_found_by_its_call(book: Book) -> None:
    book.run("made = []", "made.append(sl.Pipeline([flights.sink_table('t', key='carrier')], name='p'))")
    pipeline = book.namespace["made"].pop()
    book.export(pipeline)
    assert "return sl.Pipeline([flights.sink_table('t', key='carrier')], name='p')" in book.body


# --- the proof ---


def test_a_plan_that_differs_is_refused_with_the_difference(book: Book) -> None:
    book.run("RATE = 2", F, MAPPED, PIPELINE)
    book.namespace["RATE"] = 3  # behind the back of every cell
    with pytest.raises(sl.StreamlabError, match="is not the notebook's") as error:
        book.export()
    assert "'map_batches f' is not the same" in str(error.value)
    assert list(book.folder.glob("*.py")) == []


def test_a_fresh_process_proves_the_script_and_ruff_has_nothing_to_say(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    book.run("import os", "lim = lambda frame: (frame.filter(pl.col('delay')==True))", "class Unused: pass")
    book.run("out = flights.filter((pl.col('delay') > 1) == True).pipe(lambda l: l)", PIPELINE).export()
    for command in (["check"], ["check", "--select", "I"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--isolated", "worker.py"],
            capture_output=True,
            text=True,
            check=False,
            cwd=book.folder,
        )
        assert done.returncode == 0, done.stdout
    assert os.access(book.folder / "worker.py", os.R_OK)
    code = "import sys, runpy; sys.argv = ['worker.py', 'plan']\ntry:\n    runpy.run_path('worker.py', run_name='__main__')\nfinally:\n    print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=book.folder)
    assert done.returncode == 0, done.stderr
    assert not {"IPython", "ipywidgets", "bokeh", "anywidget"} & set(done.stdout.split())


def test_a_script_that_fails_in_a_fresh_process_is_refused_without_secrets(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proving, "_SECONDS", 60)
    draft = book.folder / "draft.py"
    draft.write_text("value = 1\nraise ValueError('hunter22 is wrong')\n")
    monkeypatch.undo()
    with pytest.raises(sl.StreamlabError, match=r"ValueError: \*\*\* is wrong \(at \"raise ValueError") as error:
        proving._outline(draft, book.folder / "worker.py", {}, ["hunter22"])
    assert "hunter22" not in str(error.value)
    assert tidy.tidy("x=1\n", draft) == "x = 1\n"
