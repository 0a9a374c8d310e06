"""Streams to try things on, with no Kafka installed: real flights through the broker inside this process.

`demo` is a live stream that goes on until it is stopped. `replay_flights` sends a month of flights to a topic, as the notebooks do;
`notebook` finds those, and `copy_tour` makes one's own of the tour.
"""

from __future__ import annotations

import json
from pathlib import Path

from streamlab.demo.live import Demo, demo
from streamlab.demo.replay import Replay, replay_flights
from streamlab.errors import PlanError, did_you_mean

__all__ = ["Demo", "Replay", "copy_tour", "demo", "notebook", "replay_flights"]


def notebook(name: str) -> Path:
    """Return the path of a notebook that comes with the package, such as "01-tour".

    Raises
    ------
    PlanError
        If there is none of that name.

    Examples
    --------
    >>> notebook("01-tour").name
    '01-tour.ipynb'
    """
    package = Path(__file__).parent.parent
    # a wheel has them inside the package, a checkout (also one installed as editable) beside it
    folders = (package.parent / "notebooks", package / "notebooks")
    found = {path.stem: path for folder in folders for path in sorted(folder.glob("*.ipynb"))}
    if name not in found:
        raise PlanError(f"no notebook {name!r}; there are {list(found)}.{did_you_mean(name, found)}")
    return found[name]


def copy_tour(path: Path | str, *, endless: bool = False) -> None:
    """Write the tour to a file, without outputs; `endless` sets its parameter of that name.

    Examples
    --------
    >>> import tempfile
    >>> copy = Path(tempfile.mkdtemp()) / "tour.ipynb"
    >>> copy_tour(copy, endless=True)
    >>> "endless = True" in copy.read_text()
    True
    """
    tour = json.loads(notebook("01-tour").read_text("utf-8"))
    for cell in tour["cells"]:
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
        if "parameters" in cell["metadata"].get("tags", ()):
            cell["source"] = [line.replace("endless = False", f"endless = {endless}") for line in cell["source"]]
    Path(path).write_text(json.dumps(tour, indent=1, ensure_ascii=False) + "\n", "utf-8")
