"""Where state lives: `<state dir>/<cluster id>/<pipeline>/`."""

from __future__ import annotations

import os
import re
from pathlib import Path

from streamlab.errors import PlanError, StateError, did_you_mean

STATE_DIR = "STREAMLAB_STATE_DIR"
"""The environment variable that names the state folder."""

STATE_FILE = "state.sqlite"
"""The state of a task inside its pipeline's folder; more tasks have files of their own, ending in .sqlite too."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,200}")


def state_dir() -> Path:
    """Return the folder of all state: $STREAMLAB_STATE_DIR, else "streamlab" in the user's data folder.

    Examples
    --------
    >>> state_dir().is_absolute()
    True
    """
    if chosen := os.environ.get(STATE_DIR):
        return Path(chosen).expanduser().absolute()
    import platformdirs  # noqa: PLC0415  # a seventh of the time that `import streamlab` takes, and seldom needed then

    return platformdirs.user_data_path("streamlab", appauthor=False)


_temporary: set[Path] = set()


def pipeline_folder(cluster_id: str, pipeline: str, root: Path | None = None) -> Path:
    """Return the folder of a pipeline on a cluster; it need not exist.

    Parameters
    ----------
    cluster_id, pipeline
        What the folder is named by.
    root
        The folder of all state; default: `state_dir()`. Another one is looked through by `find_pipeline` from here on: an
        embedded broker's state is in a folder that goes with it.

    Raises
    ------
    PlanError
        A name that is not safe as one folder below another.

    Examples
    --------
    >>> pipeline_folder("5L6g3nShT-eMCtK--X86sw", "carrier-delays").parts[-2:]
    ('5L6g3nShT-eMCtK--X86sw', 'carrier-delays')
    >>> pipeline_folder("5L6g3nShT-eMCtK--X86sw", "carrier/delays")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    streamlab.errors.PlanError: pipeline name 'carrier/delays' cannot name a folder; ... such as 'carrier-delays'.
    """
    if root is not None:
        _temporary.add(root)
    return (root or state_dir()) / valid_name(cluster_id, "cluster id") / valid_name(pipeline)


def valid_name(name: str, what: str = "pipeline name") -> str:
    """Return a name that is safe in a path, a topic and a consumer group, or raise a PlanError with one that is."""
    if _NAME.fullmatch(name) and name not in {".", ".."}:
        return name
    near = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:200]
    raise PlanError(
        f"{what} {name!r} cannot name a folder; letters, digits, '.', '_' and '-' can, 200 at most, "
        f"such as {near or 'carrier-delays'!r}."
    )


def find_pipeline(name: str) -> list[Path]:
    """Return the folders of a pipeline, one per cluster that it has run on.

    Raises
    ------
    StateError
        No cluster has state of that name; the message lists those there are.
    """
    valid_name(name)
    root = state_dir()
    clusters = [cluster for place in (root, *sorted(_temporary)) for cluster in _folders(place)]
    if found := [cluster / name for cluster in clusters if name in pipelines_in(cluster)]:
        return found
    known = sorted({pipeline for cluster in clusters for pipeline in pipelines_in(cluster)})
    listed = f"there are {known}" if known else "there are none"
    raise StateError(
        f"no pipeline {name!r} has state below {root}; {listed}.{did_you_mean(name, known)} "
        f"If it is kept elsewhere, set {STATE_DIR}."
    )


def pipelines_in(folder: Path) -> list[str]:
    """Return the names of the pipelines that have state in a cluster's folder."""
    return [pipeline.name for pipeline in _folders(folder) if any(pipeline.glob("*.sqlite"))]


def make_private(folder: Path) -> None:
    """Make a folder and those above it that are missing, for this user's eyes only.

    Raises
    ------
    StateError
        It cannot be made.
    """
    try:
        missing = [each for each in (folder, *folder.parents) if not each.exists()]
        for each in reversed(missing):
            each.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise not_writable(folder, error) from error


def make_private_file(path: Path) -> None:
    """Make a file, or the one that is there, for this user's eyes only; SQLite gives its logs the same mode.

    A file that is there is not opened: closing it would take away the locks that SQLite has on it in this process.

    Raises
    ------
    StateError
        It cannot be made.
    """
    try:
        if not path.exists():
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        elif path.stat().st_mode & 0o077:
            path.chmod(0o600)
    except OSError as error:
        raise not_writable(path.parent, error) from error


def not_writable(folder: Path, error: Exception) -> StateError:
    """Return the error of a folder that state cannot be kept in."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return StateError(
        f"state cannot be kept in {folder}: {reason}. Set {STATE_DIR} to a folder that this user can write to."
    )


def _folders(parent: Path) -> list[Path]:
    try:
        return sorted(each for each in parent.iterdir() if each.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise StateError(f"{parent} cannot be listed: {error.strerror}. Is {STATE_DIR} the folder you mean?") from error
