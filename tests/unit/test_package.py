"""What `import streamlab` promises."""

from __future__ import annotations

import subprocess
import sys

import streamlab as sl

NOTEBOOK_ONLY = ("ipywidgets", "bokeh", "papermill", "IPython", "ipykernel", "anywidget", "jupyter_bokeh")
SLOW = ("pandas", "pyarrow", "rich", "typer")


def test_public_names_are_pinned() -> None:
    assert sorted(sl.__all__) == [
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


def test_it_imports_where_no_notebook_package_is_installed() -> None:
    blocked = ", ".join(repr(name) for name in NOTEBOOK_ONLY)
    code = (
        "import sys\n"
        f"for name in ({blocked},): sys.modules[name] = None\n"
        "import streamlab\n"
        f"print([name for name in {SLOW!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
