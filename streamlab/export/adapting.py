"""What a script says otherwise than the notebook: where the broker is, what the parameters are, schemas that were inferred."""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import polars as pl

from streamlab.connect.cluster import Cluster
from streamlab.errors import PlanError
from streamlab.kafka import Kafka

if TYPE_CHECKING:
    from streamlab.export.cells import Statement
    from streamlab.export.definition import Definition
    from streamlab.export.values import Values
    from streamlab.plan.nodes import Source

WORKER = "worker"
_TYPES = (bool, int, float, str, list, dict, tuple, type(None))
_ANNOTATIONS = frozenset({"bool", "int", "float", "str"})


@dataclass(slots=True)
class Adapted:
    """What was found on the way."""

    parameters: list[str] = field(default_factory=list)
    needs_address: bool = False
    has_address: bool = False
    polars: str = ""
    needs_polars: bool = False


def adapt(definition: Definition, values: Values, worker: str) -> Adapted:
    """Edit a definition's statements for a script in which the worker has a name.

    Raises
    ------
    PlanError
        If an address or a schema stands where it cannot be replaced.
    """
    adapted = Adapted(polars=_module(values, definition.statements))
    clusters = [source.origin for source in definition.pipeline.plan.sources if isinstance(source.origin, Cluster)]
    for statement in definition.statements:
        if statement.is_parameter:
            _parameter(statement, worker, adapted)
        for part in ast.walk(statement.node):
            if not isinstance(part, ast.Call):
                continue
            if _is_kafka(part, values):
                _address(statement, part, clusters, values, worker, adapted)
            elif isinstance(part.func, ast.Attribute) and part.func.attr == "stream":
                _schema(statement, part, definition, values, adapted)
    return adapted


def _module(values: Values, statements: list[Statement]) -> str:
    bound = {name for statement in statements for name in statement.names.binds}
    return next((name for name in sorted(bound) if values.get(name) is pl), "")


# --- the address ---


def _is_kafka(call: ast.Call, values: Values) -> bool:
    if values.known(call.func) is Kafka:
        return True
    return (
        isinstance(call.func, ast.Attribute) and call.func.attr == "embedded" and values.known(call.func.value) is Kafka
    )


def _address(
    statement: Statement, call: ast.Call, clusters: list[Cluster], values: Values, worker: str, adapted: Adapted
) -> None:
    source, asked = statement.source, f"{worker}.bootstrap_servers"
    if values.known(call.func) is not Kafka:  # Kafka.embedded(...)
        adapted.needs_address = True
        statement.edits.append((source.span(call.func.value)[1], source.span(call)[1], f"({asked}())"))  # type: ignore[attr-defined]  # an attribute
        return
    given = next(
        (word.value for word in call.keywords if word.arg == "bootstrap_servers"), call.args[0] if call.args else None
    )
    if isinstance(given, ast.Starred) or (given is None and any(word.arg is None for word in call.keywords)):
        raise PlanError(
            f"export: {statement.place(call)}: the address of Kafka(...) is inside a * or ** argument, where a worker's "
            '--bootstrap-servers cannot go; write Kafka("host:9092", ...).'
        )
    if given is None:
        adapted.needs_address = True
        place = source.text.index("(", source.span(call.func)[1]) + 1
        statement.edits.append((place, place, f"{asked}(){', ' if call.keywords else ''}"))
        return
    start, stop = source.span(given)
    if isinstance(given, ast.Constant) and given.value is None:
        adapted.needs_address = True
        statement.edits.append((start, stop, f"{asked}()"))
    elif not isinstance(given, ast.Constant) or given.value in {cluster.bootstrap for cluster in clusters}:
        adapted.has_address = True
        statement.edits += [(start, start, f"{asked}("), (stop, stop, ")")]
    # else it is the cluster of a sink, and stays


# --- parameters ---


def _parameter(statement: Statement, worker: str, adapted: Adapted) -> None:
    node = statement.node
    if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
        return
    target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
    if (
        not isinstance(target, ast.Name)
        or (isinstance(node, ast.Assign) and len(node.targets) > 1)
        or statement.secrets
    ):
        return
    value = node.value
    try:
        default = ast.literal_eval(value)
    except ValueError:
        return  # an expression: it stays as it is, and is no flag
    if not isinstance(default, _TYPES):
        return
    start, stop = statement.source.span(value)
    said = ast.unparse(node.annotation) if isinstance(node, ast.AnnAssign) else ""
    kind = f", type={said}" if said in _ANNOTATIONS and type(default).__name__ != said else ""
    statement.edits += [(start, start, f'{worker}.parameter("{target.id}", '), (stop, stop, f"{kind})")]
    if target.id not in adapted.parameters:
        adapted.parameters.append(target.id)


# --- schemas that were inferred ---


def _schema(statement: Statement, call: ast.Call, definition: Definition, values: Values, adapted: Adapted) -> None:
    said = next((word.value for word in call.keywords if word.arg == "schema"), None)
    if any(word.arg is None for word in call.keywords) or (said is not None and not _is_none(said, values)):
        return
    topic = next((word.value for word in call.keywords if word.arg == "topic"), call.args[0] if call.args else None)
    if topic is None:
        return  # not a stream of Kafka
    found = _source_of(topic, [source for source in definition.pipeline.plan.sources if source.kind == "kafka"], values)
    if found is None:
        raise PlanError(
            f"export: {statement.place(call)}: the schema of this stream is inferred from records, and which topic it reads is not "
            "known before it runs; write schema={...}: its repr has the columns."
        )
    adapted.polars = adapted.polars or "pl"
    adapted.needs_polars = adapted.polars == "pl"
    columns = ", ".join(f"{_text(name)}: {code(dtype, adapted.polars)}" for name, dtype in found.columns.items())
    if said is not None:
        start, stop = statement.source.span(said)
        statement.edits.append((start, stop, f"{{{columns}}}"))
        return
    stop = statement.source.span(call)[1] - 1
    before = statement.source.text[:stop].rstrip()
    comma = " " if before.endswith(",") else ", "
    statement.edits.append((stop, stop, f"{comma}schema={{{columns}}}"))


def _is_none(node: ast.expr, values: Values) -> bool:
    return (isinstance(node, ast.Constant) and node.value is None) or (
        isinstance(node, ast.Name) and node.id in values.namespace and values.get(node.id) is None
    )


def _source_of(topic: ast.expr, sources: list[Source], values: Values) -> Source | None:
    name = (
        topic.value
        if isinstance(topic, ast.Constant)
        else values.get(topic.id)
        if isinstance(topic, ast.Name)
        else None
    )
    for source in sources:
        if source.topic == name:
            return source
    return sources[0] if len(sources) == 1 and name is None else None


def code(dtype: Any, module: str = "pl") -> str:
    """Return the text that makes a type.

    Examples
    --------
    >>> code(pl.List(pl.Struct({"at": pl.Datetime("ms", "UTC"), "n": pl.Int64})))
    'pl.List(pl.Struct({"at": pl.Datetime("ms", "UTC"), "n": pl.Int64}))'
    """
    kind = type(dtype) if isinstance(dtype, pl.DataType) else dtype
    return f"{module}.{kind.__name__}{_arguments(dtype, module)}"


def _arguments(dtype: Any, module: str) -> str:
    match dtype:
        case pl.List():
            said = code(dtype.inner, module)
        case pl.Array():
            said = f"{code(dtype.inner, module)}, {dtype.size}"
        case pl.Struct():
            said = "{" + ", ".join(f"{_text(each.name)}: {code(each.dtype, module)}" for each in dtype.fields) + "}"
        case pl.Datetime():
            said = ", ".join(map(_text, filter(None, (dtype.time_unit, dtype.time_zone))))
        case pl.Duration():
            said = _text(dtype.time_unit)
        case pl.Decimal():
            said = f"{dtype.precision}, {dtype.scale}"
        case pl.Enum():
            said = repr(dtype.categories.to_list())
        case _:
            return ""
    return f"({said})"


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
