"""Every operator on four partitions, killed with -9 in the middle and resumed: nothing is lost and nothing doubled."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from polars.testing import assert_frame_equal

from tests.kafka import operators
from tests.kafka.operators import OPERATORS, comparable, found, pipeline_of, write
from tests.kafka.support import SECONDS

ROOT = Path(__file__).parents[2]
KILLS = (("staged", 2), ("flushed", 3), ("committed", 2))


@pytest.fixture(scope="module")
def resumed(bootstrap, topic, tmp_path_factory):
    """Run the pipeline of all operators, killed three times; return its name and the folder of its files."""
    folder = tmp_path_factory.mktemp("operators")
    topics = [topic(hint, operators.PARTITIONS) for hint in ("events", "answers", "names")]
    arguments = [operators.__name__, bootstrap, ",".join(topics), str(folder)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STREAMLAB_STATE_DIR", str(folder / "state"))
        write(bootstrap, *topics)
        for step, nth in KILLS:
            command = [sys.executable, "-m", "tests.kafka.kill_worker", *arguments, step, str(nth)]
            killed = subprocess.run(command, cwd=ROOT, check=False, timeout=SECONDS)
            assert killed.returncode == -signal.SIGKILL
        report = pipeline_of(bootstrap, ",".join(topics), folder).run(until="latest")
        assert 0 < report.records < operators.EVENTS + operators.ANSWERS
        yield f"all-{topics[0]}", folder


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_killed_and_resumed_gives_what_one_run_gives(resumed, name):
    pipeline, folder = resumed
    answer = OPERATORS[name].answer()
    assert answer.height
    assert_frame_equal(comparable(found(name, pipeline, folder)), comparable(answer), check_dtypes=False)
