"""The notebooks that come with the package run from top to bottom, and say what they are kept with."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import nbformat
import pytest

from streamlab.demo import notebook

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ["01-tour", "02-schedule-and-export"]


def cells(name: str) -> list[Any]:
    return nbformat.read(notebook(name), as_version=4).cells


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_and_its_checked_cells_say_what_they_are_kept_with(name: str, tmp_path: Path) -> None:
    shutil.copy(notebook(name), tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval-lax", "--nbval-current-env",
         "--nbval-cell-timeout=120", f"{name}.ipynb"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    code = [cell for cell in cells(name) if cell.cell_type == "code"]
    assert f"{len(code)} passed" in done.stdout


@pytest.mark.parametrize("name", NAMES)
def test_it_is_kept_clean(name: str) -> None:
    kept = nbformat.read(notebook(name), as_version=4)
    nbformat.validate(kept)
    assert (kept.nbformat, kept.nbformat_minor) == (4, 5)
    assert kept.metadata.kernelspec.name == "python3"
    assert set(kept.metadata) == {"kernelspec", "language_info"}
    assert len({cell.id for cell in kept.cells}) == len(kept.cells)
    assert all(re.fullmatch(r"[a-z]+(-text)?", cell.id) for cell in kept.cells)
    assert all(set(cell.metadata) <= {"tags"} for cell in kept.cells)
    assert notebook(name).stat().st_size < 500_000


@pytest.mark.parametrize("name", NAMES)
def test_what_it_is_kept_with_comes_from_one_run_from_top_to_bottom_without_an_error(name: str) -> None:
    code = [cell for cell in cells(name) if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    assert "Traceback" not in str(outputs)
    checked = [cell for cell in code if "nbval-check-output" in cell.metadata.get("tags", ())]
    assert checked
    assert all(cell.outputs for cell in checked)


def test_the_tour_is_kept_with_a_picture_of_its_panel() -> None:
    [run] = [cell for cell in cells("01-tour") if cell.id == "run"]
    assert [sorted(output.data) for output in run.outputs] == [["image/png", "text/plain"]]


def test_the_tour_takes_parameters() -> None:
    [parameters] = [cell for cell in cells("01-tour") if "parameters" in cell.metadata.get("tags", ())]
    names = re.findall(r"^(\w+) = ", parameters.source, re.MULTILINE)
    assert names == ["window", "grace", "rate", "endless"]


def test_nothing_in_it_needs_a_network() -> None:
    for name in NAMES:
        for cell in cells(name):
            assert not re.search(r"https?://", cell.source)
