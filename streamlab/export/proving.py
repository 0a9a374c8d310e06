"""A script is what it should be when a fresh process builds the notebook's plan from it; only then does it take its place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamlab.errors import PlanError
from streamlab.export import planning
from streamlab.runtime.define import DEFINE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streamlab.plan.pipeline import Plan

_SECONDS = 120


class OtherPlanError(PlanError):
    """A script does not build the notebook's plan."""


def prove(text: str, path: Path, plan: Plan, secrets: Mapping[str, str | None], hidden: Sequence[str]) -> str:
    """Write a script if its plan is the notebook's; return the fingerprint.

    Parameters
    ----------
    text
        The script.
    path
        Where it goes; what is there is replaced at the end, at once, or not at all.
    plan
        The notebook's.
    secrets
        Variables that the script reads, with their values if they are known.
    hidden
        What must not be said in a message.

    Raises
    ------
    PlanError
        If it cannot be written, does not run, or builds another plan: with the difference.
    """
    try:
        # beside its place: what it imports from there is found, and moving it is one step
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=".py", dir=path.parent)
    except OSError as error:
        raise PlanError(f"export: {str(path)!r} cannot be written: {error.strerror}.") from error
    draft = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        found = _outline(draft, path, secrets, hidden)
        wanted = planning.outline(plan)
        if differs := planning.difference(wanted, found):
            listed = "".join(f"\n  {line}" for line in differs)
            raise OtherPlanError(
                f"export: the plan that the script builds is not the notebook's ({found['fingerprint']}, not {wanted['fingerprint']}), "
                f"so {str(path)!r} was not written:{listed}\n  If cells were changed after they ran, run them again, or the notebook "
                "from the top."
            )
        draft.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o644)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return str(found["fingerprint"])


def _outline(draft: Path, path: Path, secrets: Mapping[str, str | None], hidden: Sequence[str]) -> dict[str, Any]:
    known = {name: value for name, value in secrets.items() if value is not None}
    # what a person's environment says of parameters is not what the notebook had
    own = {name: value for name, value in os.environ.items() if name != DEFINE and not _is_parameter(name)}
    command = [sys.executable, "-W", "ignore", str(draft), "plan", "--json"]
    try:
        done = subprocess.run(  # noqa: S603  # the script itself
            command, capture_output=True, text=True, timeout=_SECONDS, check=False, env={**own, **known}
        )
    except subprocess.TimeoutExpired:
        raise PlanError(
            f"export: the script's plan was not there within {_SECONDS} s, so {str(path)!r} was not written."
        ) from None
    if done.returncode != 0:
        said = _last_lines(done.stderr, draft, path)
        for secret in hidden:
            said = said.replace(secret, "***")
        raise OtherPlanError(
            f"export: the script fails where the notebook did not, so {str(path)!r} was not written: {said}"
        )
    try:
        found: dict[str, Any] = json.loads(done.stdout.strip().rsplit("\n", 1)[-1])
    except ValueError:
        raise PlanError(f"export: the script's plan cannot be read, so {str(path)!r} was not written.") from None
    return found


def _is_parameter(name: str) -> bool:
    return name.startswith("STREAMLAB_") and name not in {"STREAMLAB_STATE_DIR", "STREAMLAB_BOOTSTRAP_SERVERS"}


def _last_lines(stderr: str, draft: Path, path: Path) -> str:
    """Return the error and the line of the script that it comes from."""
    lines = stderr.replace(str(draft), path.name).replace(draft.name, path.name).strip().splitlines()
    where = [n for n, line in enumerate(lines) if line.strip().startswith(f'File "{path.name}"')]
    place = f" (at {lines[where[-1] + 1].strip()!r})" if where and where[-1] + 1 < len(lines) else ""
    return f"{lines[-1] if lines else 'it says nothing'}{place}"
