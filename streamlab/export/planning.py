"""A plan as text and as values: what `worker.py plan` shows, and what an export compares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamlab.plan import fingerprint

if TYPE_CHECKING:
    from streamlab.plan.pipeline import Plan


def outline(plan: Plan) -> dict[str, Any]:
    """Return a plan as JSON values: its name, its fingerprint as of now, and each node with a fingerprint of its own.

    The fingerprint is worked out anew: functions look up names when they are called, and what those stand for may have changed.
    """
    nodes = [{"step": node.describe(), "fingerprint": fingerprint.of_step(node)} for node in plan.nodes()]
    return {"name": plan.name, "fingerprint": fingerprint.of_nodes(plan.sinks), "nodes": nodes, "plan": plan.explain()}


def text(plan: Plan) -> str:
    """Return a plan for reading, and its fingerprint."""
    shown = outline(plan)
    return f"pipeline {shown['name']!r}\n{shown['plan']}\nfingerprint {shown['fingerprint']}\n"


def difference(wanted: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Return in what two outlines differ, a line each; nothing if they are one plan.

    Examples
    --------
    >>> one = {"name": "p", "fingerprint": "1", "nodes": [{"step": "filter a", "fingerprint": "3"}]}
    >>> other = {"name": "p", "fingerprint": "2", "nodes": [{"step": "filter b", "fingerprint": "4"}]}
    >>> difference(one, other)
    ["the notebook has 'filter a', the script 'filter b'"]
    """
    lines = []
    if wanted["name"] != found["name"]:
        lines.append(f"the notebook's is named {wanted['name']!r}, the script's {found['name']!r}")
    if wanted["fingerprint"] == found["fingerprint"]:
        return lines
    ours, theirs = wanted["nodes"], found["nodes"]
    for one, other in zip(ours, theirs, strict=False):
        if one["step"] != other["step"]:
            lines.append(f"the notebook has {one['step']!r}, the script {other['step']!r}")
        elif one["fingerprint"] != other["fingerprint"]:
            lines.append(f"{one['step']!r} is not the same: another function, constant or option than in the notebook")
    lines += [f"the notebook has {one['step']!r}, the script has not" for one in ours[len(theirs) :]]
    lines += [f"the script has {one['step']!r}, the notebook has not" for one in theirs[len(ours) :]]
    return lines or ["the steps are the same, but put together in another way"]
