"""Notebook-first stream analytics: Kafka topics, polars expressions, live windowed results.

The house, from top to bottom:

============  ====================================================================================================
kafka         Kafka: a cluster, its topics, streams of them
replay        frames and files replayed as streams, frames and databases as tables
frame table   StreamFrame, StreamTable: what is done to events, written as with polars
grouping      groups and windows
pipeline      Pipeline: sinks under a name
demo          real flights as a stream, on the broker inside this process
testing       StreamTester: a pipeline driven by hand
plan/         the logical plan: inert nodes that check themselves
engine/       pure operators: state and a micro-batch in, results and late rows out
state/        segments in SQLite
connect/      Kafka, files, formats, the embedded broker
runtime/      threads, the commit, queries, metrics
notebook/     the live panel, and the picture of it that a saved notebook keeps
export/       a notebook's pipeline as a script, and what that runs on
cli           the command line
============  ====================================================================================================
"""

from streamlab.demo import demo
from streamlab.errors import StreamlabError
from streamlab.frame import StreamFrame, concat
from streamlab.kafka import Kafka
from streamlab.pipeline import Pipeline, Sink
from streamlab.plan.approx import approx_n_unique, approx_quantile, top_k
from streamlab.plan.windows import hopping, session, sliding, tumbling
from streamlab.replay import (
    from_frame,
    from_ndjson,
    from_parquet,
    table_from_frame,
    table_from_sql,
    table_from_sqlite,
)
from streamlab.runtime.metrics import Metrics, Report
from streamlab.runtime.query import Query
from streamlab.state.tables import open_table
from streamlab.table import StreamTable

__version__ = "0.1.0"

__all__ = [
    "Kafka",
    "Metrics",
    "Pipeline",
    "Query",
    "Report",
    "Sink",
    "StreamFrame",
    "StreamTable",
    "StreamlabError",
    "approx_n_unique",
    "approx_quantile",
    "concat",
    "demo",
    "from_frame",
    "from_ndjson",
    "from_parquet",
    "hopping",
    "open_table",
    "session",
    "sliding",
    "table_from_frame",
    "table_from_sql",
    "table_from_sqlite",
    "top_k",
    "tumbling",
]
