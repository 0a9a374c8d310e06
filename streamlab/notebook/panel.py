"""The live panel: a thread that looks at the query up to four times a second and sends what changed."""

from __future__ import annotations

import threading
import time
import uuid
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets
from IPython.display import DisplayHandle

from streamlab.notebook import console, figures, snapshot, static, view
from streamlab.notebook.chart import Chart, guessed, told
from streamlab.notebook.history import SECONDS, History
from streamlab.notebook.markup import text
from streamlab.notebook.page import page

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamlab.runtime.query import Query

_HERE = Path(__file__).parent
SHARE, SLOWEST = 0.01, 1.0
"""Of one core, what looking may take: then it looks less often, but every so many seconds at least."""

EVERY, FIRST_PICTURE, PICTURE_EVERY, FRESH = 0.25, 2.0, 10.0, 1.5
"""Seconds between two looks, until the first saved picture, between two of them, and for which new rows are tinted."""

_VIEW, _VERSION = "application/vnd.jupyter.widget-view+json", {"version_major": 2, "version_minor": 0}
_NOTHING = {"text/html": "", "text/plain": ""}


class _Frame(anywidget.AnyWidget):
    """The browser's half: regions of HTML, and charts."""

    _esm = _HERE / "panel.js"
    _css = _HERE / "panel.css"
    identity = traitlets.Unicode().tag(sync=True)
    html = traitlets.Unicode().tag(sync=True)
    charts = traitlets.Unicode().tag(sync=True)
    bokeh_version = traitlets.Unicode(figures.VERSION).tag(sync=True)
    bokeh_gz = traitlets.Bytes().tag(sync=True)

    def send(self, content: Any, buffers: Any = None) -> None:
        """Send a message; a button's answer to it may come on any thread, also while a cell is busy."""
        super().send(content, buffers)
        # ipykernel would keep it for the thread of the cell that this message is counted to, until that cell is done
        self.comm.__dict__.pop("_reply_subshell_id", None)


class Panel:
    """A query as one sees it; made by `Query.show`.

    Nothing of it is left after `close`: the thread ends, the widget goes, the picture stays.
    """

    def __init__(self, query: Query, sink: str | None = None) -> None:
        self._query: Query | None = (
            query  # none once it has ended: what a cell keeps of the panel must not keep the query
        )
        self._name = query.name
        nodes = {node.target: node for node in query.plan.sinks}
        self._sink = sink if sink is not None else next(iter(nodes))
        self._schema, self._keys = nodes[self._sink].schema, nodes[self._sink].input.keys
        self._chart = guessed(self._schema, self._keys)
        self._history, self._lock = History(), threading.RLock()
        self._sent: dict[str, Any] = {}
        self._results, self._grew = 0, (0, 0.0)  # rows that came last, and when
        self.identity = uuid.uuid4().hex[:12]
        self._closed = threading.Event()
        self.error: Exception | None = None  # what failed in showing it
        self._seen: view.View | None = None  # last
        self._pictured = 0.0
        self._frame: _Frame | None = None
        self._picture = DisplayHandle()
        self._live = DisplayHandle()

    # --- life ---

    def open(self) -> None:
        """Show it, and keep it fresh until the query has ended."""
        seen, query = self._look(), self._query
        if query is not None and seen.now.is_live:
            self._frame = self._made(seen)
            self._live.display({_VIEW: {**_VERSION, "model_id": self._frame.model_id}, **_NOTHING}, raw=True)
            self._picture.display(self._bundle(seen), raw=True)
            self._frame.on_msg(self._asked)
            threading.Thread(target=self._refresh, name=f"{self._name}-panel", daemon=True).start()
            query.at_end(self._end)
        else:
            self._closed.set()
            self._picture.display(self._bundle(seen), raw=True)
            self._query = None

    def _made(self, seen: view.View) -> _Frame:
        html = page(self._name, self.identity, view.regions(seen))
        drawn = figures.described(self._chart, self.identity)
        return _Frame(identity=self.identity, html=html, charts=drawn, bokeh_gz=figures.bokehjs())

    def close(self) -> None:
        """Leave the picture as it is now, and nothing else."""
        self._end()

    def _end(self) -> None:
        with self._lock:
            if self._closed.is_set():
                return
            self._closed.set()
            with self._whole():
                self._save()
            if self._frame is not None:
                self._live.update(_NOTHING, raw=True)
                # what front ends and runners keep of a widget is its last state
                self._frame.bokeh_gz, self._frame.html, self._frame.charts = b"", "", "{}"
                self._frame.layout.close()
                self._frame.close()
                self._frame = None
            self._query = None

    def _refresh(self) -> None:
        rest = EVERY
        while not self._closed.wait(rest) and self.error is None:
            began = time.thread_time()
            with self._lock, self._whole():
                if self._closed.is_set():
                    return
                seen = self._look()
                self._send(seen)
                if seen.now.seconds - self._pictured >= (PICTURE_EVERY if self._pictured else FIRST_PICTURE):
                    self._save(seen)
            rest = min(SLOWEST, max(EVERY, (time.thread_time() - began) / SHARE))

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """Keep what fails in the panel to the panel: it says so, and the query goes on."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  # a thread has nobody to raise it to, and a cell must not print it
            self.error = error
            said = f"The panel stopped, the query goes on: {type(error).__name__}: {error}"
            if self._frame is not None:
                self._frame.send({"regions": {"alerts": f'<div class="sl-alert sl-bad">{text(said)}</div>'}})

    # --- what is seen ---

    def _look(self) -> view.View:
        if self._query is None and self._seen is not None:
            return self._seen
        now = snapshot.take(self._query, self._sink)  # type: ignore[arg-type]  # without a query it has been seen
        self._history.add(now)
        came, self._results = now.metrics.results - self._results, now.metrics.results
        if came:
            self._grew = (came, now.seconds)
        fresh = self._grew[0] if now.seconds - self._grew[1] < FRESH else 0
        self._seen = view.View(now, self._history, self._chart, fresh)
        return self._seen

    def _save(self, seen: view.View | None = None) -> None:
        seen = seen or self._look()
        self._pictured = seen.now.seconds
        self._picture.update(self._bundle(seen), raw=True)

    def _bundle(self, seen: view.View) -> dict[str, str]:
        return static.bundle(replace(seen, fresh=0, live=False), self.identity)

    def _send(self, seen: view.View) -> None:
        changed = self._changed(view.regions(seen))
        charts = {name: data for name, data in self._data(seen).items() if self._sent.get(f"chart {name}") != data}
        self._sent |= {f"chart {name}": data for name, data in charts.items()}
        if (changed or charts) and self._frame is not None:
            self._frame.send({"regions": changed, "charts": charts})

    def _changed(self, regions: view.Regions) -> view.Regions:
        changed = {name: html for name, html in regions.items() if self._sent.get(name) != html}
        self._sent |= changed
        return changed

    def _data(self, seen: view.View) -> dict[str, Any]:
        latency = figures.data(view.latency_lines(seen.history), left=-SECONDS, right=0.0)
        if seen.chart is None:
            return {"latency": latency}
        dots = seen.chart.kind == "scatter"
        return {"results": figures.data(seen.chart.lines(seen.now.rows), dots=dots), "latency": latency}

    # --- what is asked of it ---

    def plot(self, x: str | None, y: str | None, by: str | None, kind: str | None) -> None:
        """Change what the chart shows."""
        chart = told(self._schema, self._keys, x, y, by, kind)
        with self._lock:
            self._chart = chart
            if self._frame is not None:
                self._frame.charts = figures.described(chart, self.identity)
                self._sent = {}
                self._frame.send({"figures": self._frame.charts})
                self._send(self._look())

    @property
    def chart(self) -> Chart | None:
        """What the chart shows."""
        return self._chart

    @property
    def is_open(self) -> bool:
        """Whether it is live."""
        return not self._closed.is_set()

    def _asked(self, _widget: object, content: dict[str, Any], _buffers: object) -> None:
        query = self._query
        if query is None:
            return
        act = {"pause": query.pause, "resume": query.resume, "stop": query.stop}.get(str(content.get("do")))
        if act is not None:  # a stop waits for its commit: the kernel stays free
            threading.Thread(target=act, name=f"{self._name}-button", daemon=True).start()

    def _ipython_display_(self) -> None:
        """Show nothing: it is shown already."""

    def __repr__(self) -> str:
        """Return the panel as text."""
        return console.text(self._look().now)
