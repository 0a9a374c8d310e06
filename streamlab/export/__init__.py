"""Export: a pipeline that a notebook defines becomes a script that production runs.

============  =======================================================================================
live          the notebook: executed cells, in the order of execution
cells         cells as statements, magics taken out
names values  what a statement does to names, and what the names stand for
slicing       the statements that a pipeline needs
definition    what makes the pipeline, or why it cannot be exported
hiding        secrets become `os.environ[...]`
adapting      the broker's address and the parameters become flags
layout script tidy    the text
proving       a fresh process builds the same plan, or nothing is written
kernel        a notebook that is not open: executed in a kernel of its own, with nothing run
worker        what the script runs on, with planning, checking and service
============  =======================================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from streamlab.connect.cluster import Cluster
from streamlab.errors import PlanError

if TYPE_CHECKING:
    from streamlab.export.cells import Statement
    from streamlab.export.live import Notebook
    from streamlab.pipeline import Pipeline


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote, and what it left out."""

    path: str
    pipeline: str
    fingerprint: str
    lines: int
    parameters: tuple[str, ...]
    secrets: tuple[str, ...]
    dropped: tuple[str, ...]
    unused: int

    def __repr__(self) -> str:
        """Say it for reading."""
        said = [
            f"{self.path}: pipeline {self.pipeline!r}, {self.lines} lines, plan {self.fingerprint} as in the notebook"
        ]
        if self.parameters:
            said.append(f"parameters: {', '.join('--' + name.replace('_', '-') for name in self.parameters)}")
        if self.secrets:
            said.append(f"secrets, from the environment: {', '.join(self.secrets)}")
        said += [f"left out {line}" for line in self.dropped]
        if self.unused:
            said.append(f"left out {self.unused} other statements, which the pipeline does not use")
        return "\n".join(said)


def export(pipeline: Pipeline, path: str | Path, notebook: Notebook | None = None) -> Exported:
    """Write the script of a pipeline; see `Pipeline.export`.

    Parameters
    ----------
    pipeline
        The pipeline.
    path
        The script.
    notebook
        Where it is defined; default: the notebook of this process.
    """
    from streamlab.export import adapting, cells, definition, hiding, live, proving, script, tidy, values  # noqa: PLC0415  # not for a worker

    target = _target(pipeline, path)
    notebook = notebook or live.notebook()
    known = values.Values(notebook.namespace)
    executed = cells.read(notebook.cells, notebook.transform)
    executed.statements = hiding.hide(executed.statements, known)
    found = definition.define(pipeline, executed, known)
    own = script.free_names(found)
    adapted = adapting.adapt(found, known, own.worker)
    clusters = [
        origin for node in pipeline.plan.nodes() if isinstance(origin := getattr(node, "origin", None), Cluster)
    ]
    hidden = hiding.texts([cluster.user for cluster in clusters], found.statements)
    secrets = {name: value for statement in found.statements for name, value in statement.secrets.items()}

    def written(*, flat: bool) -> tuple[str, str]:
        text = tidy.tidy(script.write(found, adapted, known, own, target, notebook.title, flat=flat), target)
        _refuse_secrets(found.statements, text, hidden)
        return text, proving.prove(text, target, pipeline.plan, secrets, hidden)

    try:
        text, fingerprint = written(flat=False)
    except proving.OtherPlanError:  # the order of execution may matter in a way that does not show
        text, fingerprint = written(flat=True)
    dropped = tuple(map(str, sorted(found.dropped, key=lambda one: _order(one.where))))
    return Exported(
        str(path),
        pipeline.name or "",
        fingerprint,
        text.count("\n"),
        tuple(adapted.parameters),
        tuple(sorted(secrets)),
        dropped,
        found.unused,
    )


def _target(pipeline: Pipeline, path: str | Path) -> Path:
    if pipeline.name is None:
        raise PlanError(
            'export: the pipeline has no name, and a worker\'s state goes by it: sl.Pipeline([...], name="...").'
        )
    target = Path(path).expanduser().absolute()
    if target.suffix != ".py":
        raise PlanError(f'export: {str(path)!r} is no Python file; say "{Path(path).stem or "worker"}.py".')
    if not target.parent.is_dir():
        raise PlanError(f"export: there is no folder {str(target.parent)!r}.")
    return target


def _refuse_secrets(statements: list[Statement], text: str, hidden: list[str]) -> None:
    found = next(((secret, at) for secret in hidden for at in statements if secret in at.text), None)
    if found is None and not any(secret in text for secret in hidden):
        return
    secret, at = found if found is not None else ("", statements[-1])
    line = at.text[: at.text.find(secret)].count("\n")
    raise PlanError(
        f"export: the value of a secret setting stands at {at.place(at.node, line)}, and would stand in the script; read it from the "
        'environment there, os.environ["..."]. Nothing was written.'
    )


def _order(where: str) -> tuple[int, ...]:
    return tuple(int(part) for part in "".join(c if c.isdigit() else " " for c in where).split())
