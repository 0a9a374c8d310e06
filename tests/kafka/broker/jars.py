"""Java programs of the tests: built once by Maven, kept in the user's cache folder."""

from __future__ import annotations

import fcntl
import hashlib
import re
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

if TYPE_CHECKING:
    from collections.abc import Iterator

OLDEST_JAVA = 17
LOG_LINES = 40


class UnavailableError(RuntimeError):
    """This machine lacks what a Java program needs."""


def cache_folder() -> Path:
    """Where things that are costly to make live on between runs."""
    return platformdirs.user_cache_path("streamlab")


def java() -> str:
    """Return the path of a java that is new enough."""
    path = shutil.which("java")
    if path is None:
        raise UnavailableError(f"no java on the PATH; Java {OLDEST_JAVA} or newer is needed")
    said = subprocess.run([path, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', said)
    if version is None or int(version[1]) < OLDEST_JAVA:
        raise UnavailableError(f"{path} is no Java {OLDEST_JAVA} or newer; it says {said.strip()!r}")
    return path


def jars(project: Path, folder: Path | None = None) -> Path:
    """Return a folder that holds a Maven project's jar files, built when it is not there yet.

    The folder appears by one rename once it is complete, so a build that was cut off leaves nothing that looks
    finished, and of two builds at once the second waits for the first. Without `folder`, its name tells the project's
    content: a changed `pom.xml` is another folder.
    """
    folder = folder or cache_folder() / _name(project)
    if not _is_complete(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder.with_name(f"{folder.name}.lock")):
            if not _is_complete(folder):
                _build(project, folder)
    return folder


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock between processes; it ends with its holder, however that ends."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def digest(*files: Path) -> str:
    """Return a short name for the content of files."""
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:8]


def _is_complete(folder: Path) -> bool:
    return any(folder.glob("*.jar"))


def _name(project: Path) -> str:
    pom = (project / "pom.xml").read_text()
    artifact, version = re.search(r"<artifactId>(.+?)<", pom), re.search(r"<kafka.version>(.+?)<", pom)
    sources = sorted(path for path in (project / "src").rglob("*") if path.is_file())
    name = "-".join(found[1] for found in (artifact, version) if found)
    return f"{name}-{digest(project / 'pom.xml', *sources)}"


def _build(project: Path, folder: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise UnavailableError(f"no mvn on the PATH; Maven has to fetch the jar files of {project} once")
    java()
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}.partial-") as partial:
        work = Path(partial)
        shutil.copy(project / "pom.xml", work)
        if (project / "src").is_dir():
            shutil.copytree(project / "src", work / "src")
        done = subprocess.run(
            [maven, "-q", "-B", "package"],
            cwd=work,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode or not _is_complete(work / "jars"):
            said = "\n".join(done.stdout.splitlines()[-LOG_LINES:])
            raise UnavailableError(f"Maven could not build {project} (exit {done.returncode}); it said:\n{said}")
        (work / "jars").rename(folder)
