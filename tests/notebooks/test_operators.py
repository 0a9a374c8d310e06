"""The pages about operators: a fresh run gives what they are kept with, and all of them have one form."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

import nbformat
import pytest

from tests.notebooks import pages
from tests.notebooks.png import source_of

if TYPE_CHECKING:
    from nbformat import NotebookNode

ENDS_WITH = ["What it keeps", "Good to know", "On Kafka"]
SHOWN = re.compile(r'<img src="drawings/([a-z-]+)\.png" width="880" alt="([^"]+)">')


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pages.Run]:
    return pages.runs(pages.NAMES, tmp_path_factory.mktemp("pages"))


def shown(page: NotebookNode) -> dict[str, list[NotebookNode]]:
    return {cell.id: cell.outputs for cell in page.cells if cell.cell_type == "code"}


@pytest.mark.parametrize("name", pages.NAMES)
def test_a_fresh_run_gives_the_outputs_and_the_drawing_that_it_is_kept_with(
    name: str, fresh: dict[str, pages.Run]
) -> None:
    done = fresh[name]
    assert done.errors == []
    assert shown(done.page) == shown(pages.read(name))
    assert source_of(pages.picture_of(name).read_bytes()) == done.drawing


@pytest.mark.parametrize("name", pages.NAMES)
def test_it_has_the_parts_of_every_page_in_their_order(name: str) -> None:
    page = pages.read(name)
    title, sentence, drawing = page.cells[0].source.split("\n\n")[:3]
    assert re.fullmatch(r"# [A-Z][^\n]+", title)
    assert sentence.endswith(".")
    found = SHOWN.fullmatch(drawing)
    assert found is not None
    assert found[1] == name
    headings = pages.headings(page)
    assert headings[0] == "Example"
    assert headings[-3:] == ENDS_WITH


@pytest.mark.parametrize("name", [*pages.NAMES, "index"])
def test_it_is_kept_clean(name: str) -> None:
    page = pages.read(name)
    nbformat.validate(page)
    assert (page.nbformat, page.nbformat_minor) == (4, 5)
    assert set(page.metadata) == {"kernelspec", "language_info"}
    assert len({cell.id for cell in page.cells}) == len(page.cells)
    assert all(re.fullmatch(r"[a-z]+(-text)?", cell.id) for cell in page.cells)
    assert all(not cell.metadata for cell in page.cells)
    assert not [cell.id for cell in page.cells if re.search(r"https?://", cell.source)]
    code = [cell for cell in page.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]


def test_the_index_has_a_line_for_each_page_with_an_example_that_stands_in_it() -> None:
    [table] = [cell.source for cell in pages.read("index").cells if "|---" in cell.source]
    lines = re.findall(r"^\| \[[^\]]+\]\(([a-z-]+)\.ipynb\) \| [^|]+ \| `([^|]+)` \|$", table, re.MULTILINE)
    assert sorted(name for name, _ in lines) == list(pages.NAMES)
    for name, example in lines:
        code = "\n".join(cell.source for cell in pages.read(name).cells if cell.cell_type == "code")
        calls = ast.parse(example, mode="eval").body
        assert any(_is_of(calls, found) for found in ast.walk(ast.parse(code))), f"{name}: {example}"


def _is_of(example: ast.AST, found: ast.AST) -> bool:
    """Whether an example is a call in a page: with the same arguments, of which it may leave some out."""
    if not (isinstance(example, ast.Call) and isinstance(found, ast.Call)):
        return ast.dump(example) == ast.dump(found)
    given = [*map(ast.dump, found.args), *map(ast.dump, found.keywords)]
    wanted = [*map(ast.dump, example.args), *map(ast.dump, example.keywords)]
    here, there = example.func, found.func
    if isinstance(here, ast.Attribute) and isinstance(there, ast.Attribute):
        return here.attr == there.attr and set(wanted) <= set(given) and _is_of(here.value, there.value)
    return ast.dump(here) == ast.dump(there) and set(wanted) <= set(given)


def test_links_between_pages_lead_somewhere() -> None:
    for name in (*pages.NAMES, "index"):
        text = "\n".join(cell.source for cell in pages.read(name).cells if cell.cell_type == "markdown")
        for link in re.findall(r"\]\(([^)#]+)\)", text):
            assert (pages.FOLDER / link).is_file(), f"{name}: {link}"


def test_each_drawing_belongs_to_a_page() -> None:
    assert {path.stem for path in (pages.FOLDER / "drawings").iterdir()} == set(pages.NAMES)
