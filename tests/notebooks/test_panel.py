"""The panel in a real kernel: what it leaves in the notebook, and that it leaves nothing else."""

from __future__ import annotations

import nbformat
import pytest
from nbclient import NotebookClient

SETUP = """
import gc, threading, weakref
import polars as pl
import streamlab as sl
from ipywidgets.widgets.widget import _instances
from streamlab.connect.formats.json import encode
from streamlab.connect.kafka_sink import KafkaWriter
from streamlab.connect.settings import producer_settings

kafka = sl.Kafka.embedded({"events": 2})

def send(users, seconds):
    writer = KafkaWriter(producer_settings(kafka.cluster.settings))
    rows = pl.DataFrame({"user": users, "ts": [s * 1000 for s in seconds]})
    writer.send("events", encode(rows), [u.encode() for u in users], rows["ts"].to_list())
    writer.flush()

send(["a", "b", "a", "<b>c</b>"], [0, 1, 2, 3])
events = kafka.stream("events", schema={"user": pl.String, "ts": pl.Int64}, event_time="ts", idle_timeout="1s")
counts = events.group_by("user").window(sl.tumbling("1s"), emit="updates", name="counts").agg(pl.len().alias("n"))

def panels():
    return [thread.name for thread in threading.enumerate() if thread.name.endswith("-panel")]

def read(query, records):
    while query.report.records < records and query.status == "running":
        query.wait(0.05)
"""


@pytest.fixture(scope="module")
def run():
    """Run cells in a kernel that the tests of this file share; gives the output of each."""
    client = NotebookClient(nbformat.v4.new_notebook(), timeout=60, kernel_name="python3")
    with client.setup_kernel():
        made(client, [SETUP])

        yield lambda *cells: made(client, cells)


def made(client, cells):
    client.nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client.reset_execution_trackers()
    for number, cell in enumerate(client.nb.cells):
        client.execute_cell(cell, number)
    return [cell.outputs for cell in client.nb.cells]


def pictures(outputs):
    found = [output.data["text/html"] for output in outputs if "text/html" in output.get("data", {})]
    return [html for html in found if html]


def printed(outputs):
    return "".join(output.text for output in outputs if output.output_type == "stream")


def test_a_query_that_ends_leaves_one_picture_and_nothing_else(run):
    shown, after, *_ = run(
        "query = sl.Pipeline([counts.sink_table('counts')], name='p1').start()\nquery.show()",
        "read(query, 4)\nquery.stop()\nleft = weakref.ref(query)\ndel query\ngc.collect()\n"
        "print(panels(), list(_instances), left())",
    )
    (picture,) = pictures(shown)
    assert "stopped" in picture
    assert "4 in all" in picture
    assert "&lt;b&gt;c&lt;/b&gt;" in picture
    assert "<b>c</b>" not in picture
    assert "widget-view" not in str(shown)
    assert printed(after) == "[] [] None\n"


def test_a_query_as_a_cells_last_line_is_shown_once_also_where_show_made_it(run):
    last, both, unnamed, ended = run(
        "query = sl.Pipeline([counts.sink_table('counts')], name='p2').start()\nquery",
        "query.show()\nquery",
        "other = counts.show()\nother",
        "query.stop(); other.stop()\nprint(panels())",
    )
    assert [len(pictures(outputs)) for outputs in (last, both, unnamed)] == [1, 1, 1]
    assert printed(ended) == "[]\n"


def test_a_cell_run_again_replaces_its_query_and_says_what_state_was_kept(run):
    cell = "query = sl.Pipeline([counts.sink_table('counts')], name='p3').start()\nquery.show()\nread(query, 4)"
    first, second, said, _ = run(
        cell, cell.replace("read(query, 4)", ""), "print(repr(query), panels())", "query.stop()"
    )
    assert "stopped" in pictures(first)[0]
    assert "goes on from checkpoint" in pictures(second)[0]
    assert "state kept: counts (" in printed(said)
    assert "['p3-panel']" in printed(said)


def test_what_fails_in_the_thread_is_in_the_panel_and_nowhere_else(run):
    bad = "def broken(frame):\n    raise ValueError('<i>no</i> luck')\n"
    shown, after = run(
        bad + "query = sl.Pipeline([counts.sink_frame(broken)], name='p4').start()\nquery.show()",
        "try:\n    query.wait(10)\nexcept Exception as error:\n    print(type(error).__name__)",
    )
    (picture,) = pictures(shown)
    assert "failed" in picture
    assert "&lt;i&gt;no&lt;/i&gt; luck" in picture
    assert printed(shown) == ""
    assert printed(after) == "StepError\n"


def test_the_chart_is_settable_and_what_cannot_be_drawn_is_refused(run):
    shown, plotted, refused, _ = run(
        "query = sl.Pipeline([counts.sink_table('counts')], name='p5').start()\nquery.show()\nread(query, 4)",
        "panel = query.plot(y='n', by='user', kind='bar')\nprint(panel.chart)",
        "try:\n    query.plot(y='m')\nexcept sl.StreamlabError as error:\n    print(error)",
        "query.stop()",
    )
    assert len(pictures(shown)) == 1
    assert pictures(plotted) == []
    assert "kind='bar'" in printed(plotted)
    assert "Did you mean 'n'?" in printed(refused) or "no column 'm'" in printed(refused)


def test_a_panel_that_is_closed_leaves_its_picture_while_the_query_goes_on(run):
    shown, closed, again, _ = run(
        "query = sl.Pipeline([counts.sink_table('counts')], name='p6').start()\npanel = query.show()\nread(query, 4)",
        "panel.close(); panel.close()\nprint(query.status, panels(), list(_instances))",
        "query.show()",
        "query.stop()",
    )
    assert "running at" in pictures(shown)[0]
    assert printed(closed) == "running [] []\n"
    assert "stopped" in pictures(again)[0]


@pytest.mark.parametrize("sink", ["first", "second"])
def test_of_several_sinks_one_is_shown(run, sink):
    shown, refused, _ = run(
        "sinks = [counts.sink_table('first'), events.sink_frame(len, name='second')]\n"
        f"query = sl.Pipeline(sinks, name='several-{sink}').start()\n"
        f"query.show('{sink}')\nread(query, 4)",
        "try:\n    query.show('third')\nexcept sl.StreamlabError as error:\n    print(error)",
        "query.stop()",
    )
    assert f"{sink}, newest first" in pictures(shown)[0]
    assert "no sink 'third'" in printed(refused)


def test_a_panel_that_cannot_be_drawn_harms_neither_the_query_nor_other_cells(run):
    shown, said = run(
        "from streamlab.notebook import view\n"
        "query = sl.Pipeline([counts.sink_table('counts')], name='undrawn').start()\npanel = query.show()",
        "drawn, view.regions = view.regions, None\n"
        "while panel.error is None:\n    query.wait(0.05)\n"
        "view.regions = drawn\nread(query, 4)\nquery.stop()\nprint(query.status, type(panel.error).__name__, panels())",
    )
    assert printed(shown) == ""
    assert printed(said) == "stopped TypeError []\n"
    assert "4 in all" in pictures(shown)[0]
