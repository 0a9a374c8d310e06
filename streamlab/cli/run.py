"""`streamlab run`: a notebook as a scheduled job."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path  # noqa: TC003  # typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from streamlab.cli.job_stop import Stop, listening
from streamlab.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streamlab.cli.job_result import Result, Runs

USAGE = 2
_PAIRS = ("-p", "--parameters", "-r", "--parameters-raw")
_BETWEEN = "\0"  # a character that no argument of a program can hold
_NEEDED = ("papermill", "ipykernel")
_WORDS = {"True": True, "False": False, "None": None}


class Command(TyperCommand):
    """A command whose -p and -r take a name and a value, any number of times: typer knows no such options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Join each name and its value to one argument."""
        rest, joined = list(args), list[str]()
        while rest:
            word = rest.pop(0)
            joined.append(word)
            if word == "--":
                joined += rest
                break
            if word in _PAIRS:
                if len(rest) < 2:  # noqa: PLR2004  # a name and a value
                    ctx.fail(f"{word} takes a name and a value: {word} NAME VALUE.")
                joined.append(_BETWEEN.join((rest.pop(0), rest.pop(0))))
        return super().parse_args(ctx, joined)


def run(
    notebook: Annotated[Path, typer.Argument(help="The notebook to run.")],
    parameters: Annotated[
        list[str] | None,
        typer.Option("-p", "--parameters", metavar="NAME VALUE", help="A parameter, typed as it looks: 5, 0.5, True, None, text."),
    ] = None,
    parameters_raw: Annotated[
        list[str] | None,
        typer.Option("-r", "--parameters-raw", metavar="NAME VALUE", help="A parameter taken as text, whatever it looks like."),
    ] = None,
    parameters_file: Annotated[
        list[Path] | None, typer.Option("-f", "--parameters-file", metavar="FILE", help="A YAML file of parameters.")
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "-o", "--output", metavar="FILE",
            help="The executed notebook; {name} is a parameter's value. Default: NOTEBOOK.out.ipynb beside it, replaced each time.",
        ),
    ] = None,
    result: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What became of it, as JSON. Default: result.json beside the executed notebook.")
    ] = None,
    timeout: Annotated[float | None, typer.Option(metavar="SECONDS", help="Time limit of the whole run.")] = None,
    fail_if_nothing: Annotated[bool, typer.Option("--fail-if-nothing", help="Exit with 3 if nothing new has arrived.")] = False,
    bootstrap_servers: Annotated[
        str | None, typer.Option(metavar="ADDRESSES", help="Brokers for sl.Kafka(), such as localhost:9092.")
    ] = None,
    kernel: Annotated[str | None, typer.Option(metavar="NAME", help="Jupyter kernel. Default: the notebook's.")] = None,
) -> None:  # fmt: skip
    """Run a notebook as a job through papermill: process what has arrived since last time, then stop.

    Example: streamlab run notebook.ipynb -p date 2013-01-05 -p n 5 -o out.ipynb

    A pipeline started without until stops at what its topics hold now, and the job waits for it. Ctrl-C, SIGTERM and the time limit
    stop the notebook with its state committed; a second signal ends it by force.

    Exits with 0 done, also with nothing new; 1 failed, also by the time limit; 2 usage; 3 nothing new with --fail-if-nothing;
    130 interrupted; 143 terminated.
    """
    stop = Stop()
    with listening(stop):  # before papermill is imported, which takes its time
        try:
            _check_installed()
            from streamlab.cli import job  # noqa: PLC0415  # as little as possible where no job runs, and an extra

            given = _parameters(parameters_file or (), parameters or (), parameters_raw or ())
            ready = job.check(
                job.Job(notebook, given, output, result, timeout, fail_if_nothing, bootstrap_servers, kernel)
            )
        except PlanError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(USAGE) from error
        _say(f"running {notebook}")
        done, runs = job.run(ready, stop, _say)
    _conclude(done, runs, ready.result)
    raise typer.Exit(done.exit_code)


def _check_installed() -> None:
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise PlanError(f"streamlab run needs {' and '.join(missing)}: pip install 'streamlab[notebook]'")


def _parameters(files: Sequence[Path], inferred: Sequence[str], raw: Sequence[str]) -> dict[str, Any]:
    """Return parameters as papermill would: files first, then what is given on the command line."""
    found: dict[str, Any] = {}
    for path in files:
        found.update(_from_file(path))
    found |= {name: typed(value) for name, _, value in (pair.partition(_BETWEEN) for pair in inferred)}
    found |= {name: value for name, _, value in (pair.partition(_BETWEEN) for pair in raw)}
    return found


def _from_file(path: Path) -> dict[str, Any]:
    from papermill.iorw import read_yaml_file  # noqa: PLC0415  # as above
    from yaml import YAMLError  # type: ignore[import-untyped]  # noqa: PLC0415  # papermill's

    try:
        values = read_yaml_file(str(path)) or {}
    except OSError as error:
        raise PlanError(f"-f {str(path)!r}: {error.strerror}.") from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise PlanError(f"-f {str(path)!r} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise PlanError(f"-f {str(path)!r} holds no parameters; write them as lines like: date: 2013-01-05")
    return values


def typed(text: str) -> bool | int | float | str | None:
    """Return a value by its looks, as papermill does.

    Examples
    --------
    >>> [typed(text) for text in ("5", "0.5", "True", "None", "2013-01-05")]
    [5, 0.5, True, None, '2013-01-05']
    """
    if text in _WORDS:
        return _WORDS[text]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _say(line: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%SZ} {line}", flush=True)


def _conclude(done: Result, runs: Runs, result: Path) -> None:
    """Say in one or two lines how it ended and where to look."""
    where = f"notebook: {done.output}, result: {result}"
    if done.error is not None:
        cell = "" if done.error.cell is None else f" in cell {done.error.cell}"
        first = done.error.message.strip().splitlines()[0] if done.error.message.strip() else "no message"
        what = f"{done.outcome}{cell} after {done.seconds:.1f} s: "
        what += f"{done.error.type}: {first}" if done.outcome == "failed" else first
        print(
            what,
            *(_left(run) for run in runs.counted() if run["records"]),
            where,
            sep="\n",
            file=sys.stderr,
            flush=True,
        )
        return
    ran = runs.counted()
    if done.outcome == "nothing":
        what = (
            "; ".join(dict.fromkeys(_nothing_new(run) for run in ran)) or "nothing to do: the notebook ran no pipeline"
        )
    else:
        what = "; ".join(_did(run) for run in ran)
    print(f"done in {done.seconds:.1f} s: {what}", where, sep="\n", flush=True)


def _nothing_new(run: Mapping[str, Any]) -> str:
    since = "" if run["since"] is None else f" since {datetime.fromisoformat(run['since']):%Y-%m-%d %H:%M:%S} UTC"
    return f"nothing new for {run['name'] or 'an unnamed pipeline'}{since}"


def _left(run: Mapping[str, Any]) -> str:
    """Say what a job that ended early leaves: only a run that stopped by itself has committed all that it read."""
    if run["status"] == "stopped":
        return f"committed: {_did(run)}"
    return f"{run['name'] or 'an unnamed pipeline'} had read {run['records']:,} records; the next run goes on from its last commit"


def _did(run: Mapping[str, Any]) -> str:
    aside = [f"{run[count]:,} {count.replace('_', ' ')}" for count in ("late", "dead_letters", "skipped") if run[count]]
    said = f" ({', '.join(aside)})" if aside else ""
    return f"{run['name'] or 'an unnamed pipeline'} read {run['records']:,} records{said}, {run['results']:,} results"
