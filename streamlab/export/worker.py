"""What an exported script runs on: flags and environment, then `run`, `plan` or `check`.

It imports nothing of a notebook. Wrong usage ends with exit code 2, failure with 1, each with one line.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from streamlab.errors import PlanError, StreamlabError, did_you_mean
from streamlab.export import planning, service
from streamlab.kafka import BOOTSTRAP
from streamlab.pipeline import Pipeline, Sink
from streamlab.runtime.define import DEFINE
from streamlab.state.folders import STATE_DIR, valid_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

T = TypeVar("T")

USAGE, FAILED = 2, 1
COMMANDS = ("run", "plan", "check")
_OWN = {"bootstrap_servers", "until", "name", "reset", "log_every", "json", "help"}
_NOT_VARIABLES = {STATE_DIR, DEFINE}
_PLACEHOLDER, _NOWHERE = "not-needed", "localhost:9092"
_KINDS: dict[object, str] = {int: "INTEGER", float: "NUMBER", str: "TEXT"}
_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


class Worker:
    """A worker script: its flags, its parameters, and what it does when it is run.

    Parameters
    ----------
    module
        The script's ``__name__``: it reads the command line only when it is the program.
    description
        Its docstring, which is its help.
    secrets
        Environment variables that it cannot do without; `plan` does.

    Examples
    --------
    >>> worker = Worker("doctest")  # imported, not run: flags are not read
    >>> worker.parameter("min_delay", 15.0)
    15.0
    """

    def __init__(self, module: str, description: str | None = None, *, secrets: Sequence[str] = ()) -> None:
        self._is_program = module == "__main__"
        self._arguments = sys.argv[1:] if self._is_program else []
        self._parser = _Parser(
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            add_help=False,
        )
        add = self._parser.add_argument
        add("command", nargs="?", default="run", metavar="run | plan | check", help="what to do; default: run")
        add("--bootstrap-servers", metavar="HOST:PORT", help=f"the brokers; default: ${BOOTSTRAP}, else the notebook's")
        add("--until", choices=["latest"], help="latest: stop at what the topics hold now; default: go on for ever")
        add("--name", type=_name, help="another name: a consumer group and a state of its own, from the beginning")
        add("--reset", action="store_true", help="go on although the plan has changed: changed steps lose their state")
        add("--log-every", type=_seconds, default=5.0, metavar="SECONDS", help="how often to log (5)")
        add("--json", action="store_true", help="plan: as JSON")
        add("-h", "--help", action="help", help="show this and end")
        early = _Parser(prog=self._parser.prog, allow_abbrev=False, add_help=False)
        early.add_argument("--bootstrap-servers")
        self._servers = early.parse_known_args(self._arguments)[0].bootstrap_servers
        self._missing: list[str] = []
        if self._is_program:
            sys.excepthook = _excepthook
            for name in secrets:
                if not os.environ.get(name):
                    os.environ[name] = _PLACEHOLDER
                    self._missing.append(
                        f"the environment variable {name} is not set, and it holds a secret that is needed"
                    )

    def bootstrap_servers(self, default: str | None = None) -> str:
        """Return the brokers: --bootstrap-servers, else $STREAMLAB_BOOTSTRAP_SERVERS, else what the notebook had."""
        if found := self._servers or os.environ.get(BOOTSTRAP) or default:
            return str(found)
        self._missing.append(
            f"no broker: give --bootstrap-servers HOST:PORT, or set {BOOTSTRAP}; the notebook used a broker of its own"
        )
        return _NOWHERE

    def parameter(self, name: str, default: T, *, type: Callable[[str], Any] | None = None) -> T:  # noqa: A002  # argparse's word
        """Return a parameter: a flag such as --min-delay, else a variable such as $STREAMLAB_MIN_DELAY, else its default.

        A flag's type is that of the default, or `type`. Lists and dicts are written as JSON.
        """
        if name == "bootstrap_servers":
            return self.bootstrap_servers(default if isinstance(default, str) else None)  # type: ignore[return-value]  # a text as well
        if not self._is_program:
            return default
        convert = _converter(default, type)
        variable = f"STREAMLAB_{name.upper()}"
        if variable in _NOT_VARIABLES or name in _OWN:
            variable = f"STREAMLAB_PARAMETER_{name.upper()}"
        flag = f"--{'parameter-' if name in _OWN else ''}{name.replace('_', '-')}"
        shown: dict[str, Any] = {
            "help": f"${variable}; default: {default!r}".replace("%", "%%"),
            "dest": f"parameter {name}",
            "default": None,
        }
        own = _Parser(prog=self._parser.prog, allow_abbrev=False, add_help=False)
        for parser in (own,) if self._parser.knows(flag) else (own, self._parser):
            if isinstance(default, bool) and type is None:
                parser.add_argument(flag, action=argparse.BooleanOptionalAction, **shown)
            else:
                parser.add_argument(flag, type=convert, metavar=_KINDS.get(convert, "VALUE"), **shown)
        given = getattr(own.parse_known_args(self._arguments)[0], f"parameter {name}")
        if given is None and (text := os.environ.get(variable)) is not None:
            try:
                given = convert(text)
            except ValueError:
                self._parser.error(f"{variable}={text!r}: invalid {convert.__name__} value")
        return default if given is None else given

    def main(self, define: Callable[[], Pipeline]) -> NoReturn:
        """Do what the command line says, and end the process with its exit code."""
        arguments = self._parser.parse_args(self._arguments)
        if arguments.command not in COMMANDS:
            near = did_you_mean(arguments.command, COMMANDS)
            self._parser.error(f"no command {arguments.command!r}; there are {', '.join(COMMANDS)}.{near}")
        try:
            sys.exit(self._do(arguments, define))
        except StreamlabError as error:
            _fail(self._parser.prog, error)

    def _do(self, arguments: argparse.Namespace, define: Callable[[], Pipeline]) -> int:
        def defined() -> Pipeline:
            pipeline = define()
            # a plan is the same wherever its broker is, and whatever the secrets are; nothing else is
            if self._missing and arguments.command != "plan":
                self._parser.error(self._missing[0])
            return _named(pipeline, arguments.name)

        if arguments.command == "plan":
            plan = defined().plan
            sys.stdout.write(json.dumps(planning.outline(plan)) + "\n" if arguments.json else planning.text(plan))
            return 0
        if arguments.command == "check":
            from streamlab.export import checking  # noqa: PLC0415  # a worker that runs does without it

            return checking.check(defined().plan)
        return service.serve(defined, until=arguments.until, reset=arguments.reset, every=arguments.log_every)


def _named(pipeline: Pipeline, name: str | None) -> Pipeline:
    if name is None:
        return pipeline
    return Pipeline([Sink(node) for node in pipeline.plan.sinks], name=name)


def _converter(default: object, given: Callable[[str], Any] | None) -> Callable[[str], Any]:
    kinds: dict[type, Callable[[str], Any]] = {bool: boolean, int: int, float: float}
    kind = given or kinds.get(type(default), str)
    if kind is bool:
        return boolean
    if isinstance(default, list | dict | tuple):
        made = type(default)

        def as_json(text: str) -> Any:
            found = json.loads(text)
            if not isinstance(found, dict if made is dict else list):
                raise ValueError(text)  # noqa: TRY004  # what argparse takes for a wrong value
            return made(found)

        return as_json
    return kind


def boolean(text: str) -> bool:
    """Return what a text says.

    Examples
    --------
    >>> boolean("yes"), boolean("0")
    (True, False)
    """
    if text.lower() not in _WORDS:
        raise ValueError(text)
    return _WORDS[text.lower()]


def _name(text: str) -> str:
    try:
        return valid_name(text)
    except PlanError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _seconds(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = 0
    if not found > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return found


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        for argument in args:  # before a value of an unknown flag is taken for something else
            if argument.startswith("--") and not self.knows(flag := argument.partition("=")[0]):
                self.error(f"no flag {flag!r}.{did_you_mean(flag, self._option_string_actions)}")
        return super().parse_args(args, namespace)

    def knows(self, flag: str) -> bool:
        """Whether a flag was added."""
        return flag in self._option_string_actions

    def error(self, message: str) -> NoReturn:
        self.exit(
            USAGE,
            f"{self.prog}: error: {message}{'' if message.endswith(('.', '?')) else '.'} Help: {self.prog} --help\n",
        )


def _fail(program: str, error: BaseException) -> NoReturn:
    """End with an error in one line."""
    said = "; ".join(line.strip().rstrip(".") for line in str(error).splitlines())
    said = said.replace("start(reset=True) or run(reset=True)", "--reset").replace(
        "give the new plan another name", "another --name"
    )
    end = "" if said.endswith("?") else "."
    sys.stderr.write(f"{program}: failed: {type(error).__name__}: {said}{end}\n")
    sys.exit(FAILED)


def _excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Say in one line what a definition refuses, or which variable of the environment it misses; else as Python does."""
    program = os.path.basename(sys.argv[0])  # noqa: PTH119  # as argparse does
    last = trace
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if isinstance(error, KeyError) and last is not None and last.tb_frame.f_globals.get("__name__") == "os":
        sys.stderr.write(f"{program}: error: the environment variable {error.args[0]} is not set.\n")
    elif isinstance(error, StreamlabError):
        sys.stderr.write(f"{program}: failed: {kind.__name__}: {' '.join(str(error).split())}\n")
    elif isinstance(error, FileNotFoundError):
        sys.stderr.write(f"{program}: failed: no file {error.filename!r}.\n")
    else:
        sys.__excepthook__(kind, error, trace)
