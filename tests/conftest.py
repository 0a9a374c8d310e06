"""Options of the whole test run."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Tell pytest the project's own options."""
    parser.addoption(
        "--require-kafka",
        action="store_true",
        help="fail, rather than skip, the tests on a real Apache Kafka where none can be started",
    )
