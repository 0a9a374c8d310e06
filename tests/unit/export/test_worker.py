from __future__ import annotations

import json
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

import streamlab as sl
from streamlab.export import service
from streamlab.export.worker import Worker
from streamlab.state.folders import STATE_DIR

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Leave the process as it was: hooks, signals, environment, log handlers."""
    monkeypatch.setenv(STATE_DIR, str(tmp_path / "state"))
    monkeypatch.delenv("STREAMLAB_BOOTSTRAP_SERVERS", raising=False)
    environment, hook = dict(os.environ), sys.excepthook
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    sys.excepthook = hook
    service.LOGGER.handlers.clear()
    for name in set(os.environ) - set(environment):
        del os.environ[name]


def started(monkeypatch: pytest.MonkeyPatch, *arguments: str, **options: Any) -> Worker:
    """Return a worker that was started with arguments."""
    monkeypatch.setattr(sys, "argv", ["worker.py", *arguments])
    return Worker("__main__", "What it does.", **options)


def pipeline(least: int = 0) -> sl.Pipeline:
    rows = pl.DataFrame({"k": ["a", "b", "a"], "x": [1, 2, 3], "ts": [0, 1, 2]})
    events = sl.from_frame(rows, event_time="ts", topic="rows").filter(pl.col("x") > least)
    return sl.Pipeline([events.group_by("k").agg(pl.len().alias("n")).sink_table("counts")], name="rows")


def ended(worker: Worker, define: Any = pipeline) -> int | str | None:
    """Return the exit code of a worker's `main`."""
    with pytest.raises(SystemExit) as end:
        worker.main(define)
    return end.value.code


def usage(capsys: pytest.CaptureFixture[str]) -> str:
    """Return what was said of wrong usage, which is one line."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("worker.py: error: ")
    assert err.endswith("Help: worker.py --help\n")
    return err


def test_run_is_what_it_does_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(started(monkeypatch, "--until", "latest")) == 0
    out, err = capsys.readouterr()
    assert out == ""
    first, begun, last = err.splitlines()
    assert "INFO starting pipeline 'rows', plan " in first
    assert "no state yet, begins anew" in begun
    assert "done, state committed: records=3 " in last
    assert "late=0 dead_letters=0" in last
    assert sl.open_table("rows", "counts").frame()["n"].sum() == 3


def test_another_name_has_a_state_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ended(started(monkeypatch, "run", "--until", "latest", "--name", "other")) == 0
    assert len(sl.open_table("other", "counts")) == 2
    with pytest.raises(sl.StreamlabError, match="no pipeline 'rows'"):
        sl.open_table("rows", "counts")


def test_plan_shows_the_plan_and_its_fingerprint(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(started(monkeypatch, "plan")) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("pipeline 'rows'\nsink_table 'counts' by k\n")
    assert shown.endswith(f"fingerprint {pipeline().fingerprint}\n")
    assert ended(started(monkeypatch, "plan", "--json")) == 0
    assert json.loads(capsys.readouterr().out)["fingerprint"] == pipeline().fingerprint


def test_check_finds_all_well_before_and_after_a_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(started(monkeypatch, "check")) == 0
    assert "ok    state: none yet" in capsys.readouterr().out
    assert ended(started(monkeypatch, "--until", "latest")) == 0
    assert ended(started(monkeypatch, "check")) == 0
    assert "ok    state: checkpoint 1 of this plan" in capsys.readouterr().out
    assert ended(started(monkeypatch, "check"), lambda: pipeline(2)) == 1
    assert "FAIL  state: checkpoint 1 is of another plan" in capsys.readouterr().out


def test_a_changed_plan_is_one_line_and_reset_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(started(monkeypatch, "--until", "latest")) == 0
    capsys.readouterr()
    assert ended(started(monkeypatch, "--until", "latest"), lambda: pipeline(2)) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("worker.py: failed: PlanChangedError: The plan of pipeline 'rows' has changed")
    assert "Go on with --reset" in last
    assert ended(started(monkeypatch, "--until", "latest", "--reset"), lambda: pipeline(2)) == 0


def test_a_step_that_fails_is_one_line_after_the_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(frame: pl.DataFrame) -> pl.DataFrame:
        raise ValueError("no such thing")

    def define() -> sl.Pipeline:
        events = sl.from_frame(pl.DataFrame({"k": ["a"], "ts": [0]}), event_time="ts", topic="rows")
        made = events.map_batches(broken, schema={"k": pl.String, "ts": pl.Int64})
        return sl.Pipeline([made.sink_table("t", key="k")], name="broken")

    assert ended(started(monkeypatch, "--until", "latest"), define) == 1
    lines = capsys.readouterr().err.splitlines()
    assert "ERROR failed, the state is that of the last commit" in lines[-2]
    assert lines[-1].startswith("worker.py: failed: StepError: ")
    assert "no such thing" in lines[-1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--utnil", "latest"], "no flag '--utnil'. Did you mean '--until'?"),
        (["--unti", "latest"], "no flag '--unti'."),
        (["runn"], "no command 'runn'; there are run, plan, check. Did you mean 'run'?"),
        (["run", "plan"], "unrecognized arguments: plan."),
        (["--until", "now"], "argument --until: invalid choice: 'now'"),
        (["--until"], "argument --until: expected one argument."),
        (["--name", "a/b"], "pipeline name 'a/b' cannot name a folder"),
        (["--log-every", "0"], "'0' is no number of seconds above 0."),
        (["--log-every", "often"], "'often' is no number of seconds above 0."),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(started(monkeypatch, *arguments)) == 2
    assert said in usage(capsys)


def test_help_shows_all_flags(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    worker = started(monkeypatch, "--help", secrets=["STREAMLAB_WORD"])
    assert worker.parameter("min_delay", 15.0) == 15.0
    assert ended(worker) == 0
    shown = capsys.readouterr().out
    for text in (
        "What it does.",
        "--min-delay NUMBER",
        "$STREAMLAB_MIN_DELAY; default: 15.0",
        "--bootstrap-servers",
        "run | plan | check",
    ):
        assert text in shown


# --- parameters ---


def test_parameters_come_from_flags_then_the_environment_then_the_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMLAB_LEAST", "5")
    monkeypatch.setenv("STREAMLAB_RATIO", "2")
    worker = started(
        monkeypatch, "--least", "-7", "run", "--until=latest", "--no-deep", "--names", '["b"]', "--pair=[1, 2]"
    )
    assert worker.parameter("least", 1) == -7
    ratio = worker.parameter("ratio", 1.5)
    assert (ratio, type(ratio)) == (2.0, float)
    assert worker.parameter("word", "x") == "x"
    assert worker.parameter("deep", True) is False  # noqa: FBT003  # as the script has it
    assert worker.parameter("names", ["a"]) == ["b"]
    assert worker.parameter("pair", (0, 0)) == (1, 2)
    assert worker.parameter("table", {"a": 1}) == {"a": 1}
    assert worker.parameter("nothing", None) is None
    assert worker.parameter("whole", 1, type=float) == 1
    assert ended(worker) == 0


@pytest.mark.parametrize(
    ("default", "given"), [(1, "1.5"), (1.0, "x"), ([1], "{}"), ([1], "[1"), ({"a": 1}, "[]"), (True, "maybe")]
)
def test_a_parameter_of_the_wrong_type_is_wrong_usage(
    default: Any, given: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STREAMLAB_LEAST", given)
    worker = started(monkeypatch)
    with pytest.raises(SystemExit) as end:
        worker.parameter("least", default)
    assert end.value.code == 2
    assert f"STREAMLAB_LEAST={given!r}: invalid" in usage(capsys)


def test_a_parameter_with_the_name_of_a_workers_own_flag_has_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMLAB_PARAMETER_STATE_DIR", "elsewhere")
    worker = started(monkeypatch, "--parameter-until", "2024", "--until", "latest", "--name", "rows2")
    assert worker.parameter("until", "2023") == "2024"
    assert worker.parameter("name", "mine") == "mine"
    assert worker.parameter("state_dir", "here") == "elsewhere"
    assert ended(worker) == 0


def test_a_parameter_declared_again_is_the_same_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = started(monkeypatch, "--least", "3", "--until", "latest")
    assert [worker.parameter("least", 1), worker.parameter("least", 2)] == [3, 3]
    assert ended(worker) == 0


def test_imported_it_reads_neither_flags_nor_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["pytest", "--least", "3"])
    monkeypatch.setenv("STREAMLAB_LEAST", "4")
    assert Worker("worker", secrets=["STREAMLAB_NEVER_SET"]).parameter("least", 1) == 1
    assert "STREAMLAB_NEVER_SET" not in os.environ


# --- the broker and secrets ---


def on_kafka(worker: Worker, default: str | None = None) -> Any:
    def define() -> sl.Pipeline:
        stream = sl.Kafka(worker.bootstrap_servers(default)).stream("t", schema={"k": pl.String})
        return sl.Pipeline([stream.sink_table("t", key="k")], name="on-kafka")

    return define


def test_the_broker_comes_from_the_flag_then_the_environment_then_the_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    assert started(monkeypatch).bootstrap_servers("a:1") == "a:1"
    monkeypatch.setenv("STREAMLAB_BOOTSTRAP_SERVERS", "b:1")
    assert started(monkeypatch).bootstrap_servers("a:1") == "b:1"
    worker = started(monkeypatch, "--bootstrap-servers", "c:1")
    assert worker.bootstrap_servers("a:1") == worker.parameter("bootstrap_servers", "a:1") == "c:1"


@pytest.mark.parametrize("command", ["run", "check"])
def test_without_a_broker_it_says_how_to_name_one(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    worker = started(monkeypatch, command)
    assert ended(worker, on_kafka(worker)) == 2
    assert (
        "no broker: give --bootstrap-servers HOST:PORT, or set STREAMLAB_BOOTSTRAP_SERVERS" in capsys.readouterr().err
    )


def test_a_plan_needs_neither_broker_nor_secrets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    worker = started(monkeypatch, "plan", secrets=["STREAMLAB_WORD"])
    assert ended(worker, on_kafka(worker)) == 0
    assert "fingerprint " in capsys.readouterr().out


def test_a_secret_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    worker = started(monkeypatch, "run", secrets=["STREAMLAB_WORD"])
    assert ended(worker, on_kafka(worker, "a:1")) == 2
    assert "the environment variable STREAMLAB_WORD is not set" in capsys.readouterr().err


def test_a_dead_broker_is_named_within_ten_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(service, "_REACH_SECONDS", 0.5)
    for command in ("run", "check"):
        worker = started(monkeypatch, command, "--bootstrap-servers", "127.0.0.1:1")
        assert ended(worker, on_kafka(worker)) == 1
        assert "BrokerError: cannot reach a broker at 127.0.0.1:1" in capsys.readouterr().err.splitlines()[-1]


def test_what_the_definition_raises_by_itself_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started(monkeypatch)
    for code in (
        'import os; os.environ["NEVER_SET"]',
        'import streamlab as sl; sl.Kafka("")',
        'open("/nowhere/at/all")',
    ):
        try:
            exec(code, {})  # noqa: S102  # what a script does before `main`
        except Exception as error:  # noqa: BLE001  # whatever it is
            sys.excepthook(type(error), error, error.__traceback__)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "worker.py: error: the environment variable NEVER_SET is not set."
    assert said[1].startswith("worker.py: failed: PlanError: Kafka: no address")
    assert said[2] == "worker.py: failed: no file '/nowhere/at/all'."
    mistake = ZeroDivisionError("a mistake of the user's")
    sys.excepthook(type(mistake), mistake, None)
    assert capsys.readouterr().err == "ZeroDivisionError: a mistake of the user's\n"


# --- signals ---


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_stops_it_with_its_state_committed_and_a_second_one_changes_nothing(
    number: signal.Signals, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen, kafka = threading.Event(), sl.Kafka.embedded({f"signals-{code}": 1})

    def define() -> sl.Pipeline:
        stream = kafka.stream(f"signals-{code}", schema={"k": pl.String})
        return sl.Pipeline([stream.sink_table("t", key="k")], name=f"signals-{code}")

    def twice(*_: Any) -> str:
        if not seen.is_set():
            seen.set()
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)
        return "counted"

    monkeypatch.setattr(service, "_counts", twice)
    assert ended(started(monkeypatch, "--log-every", "0.1"), define) == code
    log = capsys.readouterr().err
    assert f"{number.name}: already stopping" in log
    assert f"{number.name}: stopping, the state is being committed" in log
    assert f"stopped by {number.name}, state committed: counted" in log


def test_a_signal_at_the_start_leaves_nothing_half_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def define() -> sl.Pipeline:
        os.kill(os.getpid(), signal.SIGTERM)
        return pipeline()

    assert ended(started(monkeypatch), define) == 143
    assert "stopped by SIGTERM at the start" in capsys.readouterr().err
    assert ended(started(monkeypatch, "--until", "latest")) == 0
