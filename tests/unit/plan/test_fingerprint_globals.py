# ruff: noqa: E501  # a cell in one line
from __future__ import annotations

from typing import Any

import polars as pl

from streamlab.plan import fingerprint

CODE = """
class Scale:
    def of(self, x):
        return x * {method}

def helper(x):
    return x + {inner}

def f(frame):
    '''{doc}'''
    counts["seen"] = 1
    seen.append(1)
    return frame.select(helper(pl.col("x")) * RATE, TABLE, EXPR, Scale())
"""


def function(
    before: str = "import polars as pl\n", *, doc: str = "", inner: int = 1, method: int = 2, **names: Any
) -> Any:
    home: dict[str, Any] = {"pl": pl, "__name__": "__main__"}
    exec(before + CODE.format(doc=doc, inner=inner, method=method), home)  # noqa: S102  # a script or a cell
    home |= {"RATE": 1.5, "TABLE": {"AA": ["a"]}, "EXPR": pl.col("x") > 1, "seen": [], "counts": {}} | names
    return home["f"]


def of(*args: Any, **names: Any) -> Any:
    return fingerprint.of_function(function(*args, **names))


def test_a_cell_and_a_script_give_one_digest_although_python_compiles_methods_of_imported_modules_otherwise() -> None:
    assert of("") == of()


def test_a_docstring_does_not_count() -> None:
    assert of(doc="one") == of(doc="another\n  ")


def test_globals_that_a_function_reads_count_by_value() -> None:
    assert of() == of()
    assert of() != of(RATE=2.5)
    assert of() != of(EXPR=pl.col("x") > 2)


def test_helpers_and_classes_of_the_same_module_count_by_what_they_do() -> None:
    assert of() != of(inner=3)
    assert of() != of(method=3)


def test_containers_that_a_function_may_change_do_not_count() -> None:
    assert of() == of(seen=[1, 2]) == of(counts={"seen": 5})


def constant(**names: Any) -> Any:
    home: dict[str, Any] = {"TABLE": {"AA": "a"}, "LIST": [1, (2, {3})], **names}
    exec("def f(x):\n    return [y for y in x if TABLE.get(y) in LIST]\n", home)  # noqa: S102  # a cell
    return fingerprint.of_function(home["f"])


def test_containers_that_a_function_only_reads_count_wherever_in_it_they_are_read() -> None:
    assert constant() == constant()
    assert constant() != constant(TABLE={"AA": "b"})
    assert constant() != constant(LIST=[1, (2, {4})])
    assert constant(LIST=[object()]) == constant(LIST=[object()])


def test_a_global_that_is_bound_by_the_function_is_no_constant() -> None:
    def counter(n: int) -> Any:
        home: dict[str, Any] = {"n": n}
        exec("def f(x):\n    global n\n    n += 1\n    return x\n", home)  # noqa: S102  # a cell
        return fingerprint.of_function(home["f"])

    assert counter(1) == counter(2)


def test_recursion_ends() -> None:
    home: dict[str, Any] = {}
    exec("def f(x):\n    return g(x - 1)\ndef g(x):\n    return f(x) if x else 0\n", home)  # noqa: S102  # a cell
    assert fingerprint.of_function(home["f"]) == fingerprint.of_function(home["f"])


def test_loops_and_handlers_jump_to_the_same_places_wherever_the_code_was_compiled() -> None:
    text = "def f(xs):\n    for x in xs:\n        try:\n            if pl.len(x):\n                continue\n        except ValueError:\n            break\n    return xs\n"
    one: dict[str, Any] = {}
    other: dict[str, Any] = {}
    exec("import polars as pl\n" + text, one)  # noqa: S102  # a script
    exec(text, other)  # noqa: S102  # a cell
    assert fingerprint.of_function(one["f"]) == fingerprint.of_function(other["f"])
