from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs
import pytest

from streamlab.errors import PlanError, StateError
from streamlab.state.folders import (
    STATE_DIR,
    STATE_FILE,
    find_pipeline,
    make_private,
    make_private_file,
    pipeline_folder,
    pipelines_in,
    state_dir,
    valid_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager


def keep(cluster: str, *pipelines: str) -> None:
    for pipeline in pipelines:
        folder = pipeline_folder(cluster, pipeline)
        make_private(folder)
        (folder / STATE_FILE).touch()


def test_state_is_where_the_environment_says(state_folder: Path) -> None:
    assert state_dir() == state_folder
    assert pipeline_folder("c1", "delays") == state_folder / "c1" / "delays"


def test_a_relative_folder_and_a_home_are_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv(STATE_DIR, "kept")
    assert state_dir() == tmp_path / "kept"
    monkeypatch.setenv(STATE_DIR, "~/kept")
    assert state_dir() == tmp_path / "home" / "kept"


@pytest.mark.parametrize("value", [None, ""])
def test_without_a_choice_state_is_in_the_users_data_folder(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv(STATE_DIR, raising=False)
    if value is not None:
        monkeypatch.setenv(STATE_DIR, value)
    assert state_dir() == Path(platformdirs.user_data_dir()) / "streamlab"


@pytest.mark.parametrize("name", ["a", "carrier-delays", "v1.2_x", "...", ".hidden", "A" * 200])
def test_safe_names_are_kept_as_they_are(name: str) -> None:
    assert valid_name(name) == name


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("carrier delays", "'carrier-delays'"),
        ("a/b", "'a-b'"),
        ("../../etc/passwd", "'etc-passwd'"),
        ("delays\n", "'delays'"),
        ("ünïcode", "'n-code'"),
        ("", "'carrier-delays'"),
        (".", "'carrier-delays'"),
        ("..", "'carrier-delays'"),
        ("a\0b", "'a-b'"),
        ("x" * 201, f"'{'x' * 200}'"),
    ],
)
def test_other_names_are_refused_with_one_that_is_safe(name: str, near: str) -> None:
    with pytest.raises(PlanError) as caught:
        pipeline_folder("c1", name)
    assert near in str(caught.value)
    assert repr(name) in str(caught.value)
    assert "200 at most" in str(caught.value)


def test_a_cluster_id_has_to_be_safe_too() -> None:
    with pytest.raises(PlanError, match=r"cluster id '\.\.' cannot name a folder"):
        pipeline_folder("..", "delays")


@pytest.mark.usefixtures("state_folder")
def test_a_pipeline_is_found_on_every_cluster_that_it_ran_on() -> None:
    keep("c1", "delays", "other")
    keep("c2", "delays")
    keep("c3", "other")
    assert find_pipeline("delays") == [pipeline_folder("c1", "delays"), pipeline_folder("c2", "delays")]


def test_an_unknown_pipeline_is_answered_with_those_there_are(state_folder: Path) -> None:
    keep("c1", "carrier-delays", "other")
    with pytest.raises(StateError) as caught:
        find_pipeline("carier-delays")
    assert str(state_folder) in str(caught.value)
    assert "['carrier-delays', 'other']" in str(caught.value)
    assert "Did you mean 'carrier-delays'?" in str(caught.value)


@pytest.mark.usefixtures("state_folder")
def test_before_the_first_pipeline_there_are_none() -> None:
    with pytest.raises(StateError, match="there are none"):
        find_pipeline("delays")


def test_a_folder_without_a_state_file_is_no_pipeline(state_folder: Path) -> None:
    make_private(pipeline_folder("c1", "empty"))
    keep("c1", "delays")
    (state_folder / "c1" / "file").touch()
    assert pipelines_in(state_folder / "c1") == ["delays"]
    assert pipelines_in(state_folder / "c1" / "file") == []


def test_folders_and_files_are_for_this_user_alone_and_others_stay_as_they_are(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    make_private(tmp_path / "a" / "b")
    make_private(tmp_path / "a" / "b")
    make_private_file(tmp_path / "a" / "b" / "file")
    modes = [
        path.stat().st_mode & 0o777 for path in (tmp_path, tmp_path / "a", tmp_path / "a/b", tmp_path / "a/b/file")
    ]
    assert modes == [0o755, 0o700, 0o700, 0o600]


def test_a_file_that_others_can_read_is_taken_from_them(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("kept")
    path.chmod(0o644)
    make_private_file(path)
    assert (path.stat().st_mode & 0o777, path.read_text()) == (0o600, "kept")


def test_a_folder_below_a_file_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match=rf"{tmp_path}/file/x/y: Not a directory\. Set STREAMLAB_STATE_DIR"):
        make_private(tmp_path / "file" / "x" / "y")


def test_a_folder_without_the_right_to_write_is_named(
    open_folder: Path, powerless: Callable[[], AbstractContextManager[None]]
) -> None:
    open_folder.chmod(0o555)
    with powerless():
        with pytest.raises(StateError, match=rf"{open_folder}/x: Permission denied\. Set STREAMLAB_STATE_DIR"):
            make_private(open_folder / "x")
        with pytest.raises(StateError, match="Permission denied"):
            make_private_file(open_folder / "x")


def test_a_folder_without_the_right_to_look_into_it_is_named(
    open_folder: Path, powerless: Callable[[], AbstractContextManager[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STATE_DIR, str(open_folder))
    open_folder.chmod(0o000)
    with powerless(), pytest.raises(StateError, match=f"{open_folder} cannot be listed: Permission denied"):
        find_pipeline("delays")
