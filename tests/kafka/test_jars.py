from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kafka.broker.jars import UnavailableError, jars, java

pytestmark = pytest.mark.usefixtures("programs")

ROOT = Path(__file__).parents[2]
POM = "<project><artifactId>app</artifactId><properties><kafka.version>1.2</kafka.version></properties></project>"
MAVEN = """#!/bin/sh
echo built >> "$MAVEN_LOG"
mkdir jars
printf 'half' > jars/a.jar
sleep "${MAVEN_TAKES:-0}"
printf 'whole' > jars/a.jar
exit "${MAVEN_EXIT:-0}"
"""
JAVA = """#!/bin/sh
echo 'openjdk version "%s" 2025-01-01' >&2
"""


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "project"
    (folder / "src").mkdir(parents=True)
    (folder / "pom.xml").write_text(POM)
    (folder / "src" / "App.java").write_text("class App {}")
    return folder


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Stand in for java and mvn; nothing else is on the PATH but what the shell needs."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def install(name: str, text: str) -> None:
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)

    install("mvn", MAVEN)
    install("java", JAVA % "21.0.1")
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("MAVEN_LOG", str(tmp_path / "maven.log"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return install


def builds(tmp_path: Path) -> int:
    return len((tmp_path / "maven.log").read_text().splitlines())


def test_a_project_is_built_once_into_a_folder_that_names_its_version(project, tmp_path):
    folder = jars(project)
    assert folder.name.startswith("app-1.2-")
    assert folder.is_relative_to(tmp_path / "cache")
    assert (folder / "a.jar").read_text() == "whole"
    assert jars(project) == folder
    assert builds(tmp_path) == 1
    assert not list(project.glob("jars"))


@pytest.mark.parametrize("changed", ["pom.xml", "src/App.java"])
def test_a_changed_project_is_another_folder(project, changed):
    before = jars(project)
    (project / changed).write_text((project / changed).read_text() + "\n")
    assert jars(project) != before


def test_two_builds_at_once_are_one(project, tmp_path):
    folder = tmp_path / "jars"
    build = "import sys, pathlib; from tests.kafka.broker.jars import jars; a, b = map(pathlib.Path, sys.argv[1:])"
    ask = f"{build}; print((jars(a, b) / 'a.jar').read_text())"
    both = [
        subprocess.Popen(
            [sys.executable, "-c", ask, project, folder],
            cwd=ROOT,
            env=os.environ | {"MAVEN_TAKES": "0.5"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    assert [process.communicate(timeout=30)[0].strip() for process in both] == ["whole", "whole"]
    assert builds(tmp_path) == 1


def test_a_build_that_fails_is_not_taken_for_complete(project, tmp_path, monkeypatch):
    folder = tmp_path / "jars"
    folder.mkdir()  # one that a user made, to be filled
    monkeypatch.setenv("MAVEN_EXIT", "1")
    with pytest.raises(UnavailableError, match=r"Maven could not build .*exit 1"):
        jars(project, folder)
    assert not list(folder.iterdir())
    monkeypatch.delenv("MAVEN_EXIT")
    assert (jars(project, folder) / "a.jar").read_text() == "whole"


def test_a_build_that_is_killed_is_not_taken_for_complete(project, programs, tmp_path):
    folder = tmp_path / "jars"
    programs("mvn", MAVEN.replace('sleep "${MAVEN_TAKES:-0}"', "kill -9 $PPID; exit 1"))
    build = "import sys, pathlib; from tests.kafka.broker.jars import jars; jars(*map(pathlib.Path, sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", build, project, folder], cwd=ROOT, check=False)
    assert done.returncode == -9
    assert not folder.exists()
    programs("mvn", MAVEN)
    assert (jars(project, folder) / "a.jar").read_text() == "whole"


def test_a_missing_program_is_named(project, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match="no mvn on the PATH"):
        jars(project)
    with pytest.raises(UnavailableError, match="no java on the PATH; Java 17"):
        java()


@pytest.mark.parametrize("version", ["11.0.2", "1.8.0"])
def test_a_java_that_is_too_old_is_named_with_its_version(programs, version):
    programs("java", JAVA % version)
    with pytest.raises(UnavailableError, match=rf"no Java 17 or newer; it says .*{version}"):
        java()
