"""Options of the whole test run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hypothesis import settings

if TYPE_CHECKING:
    import pytest

# the same examples in every run: a change is judged by what it changes; STREAMLAB_PROPERTIES=deep looks for new ones
settings.register_profile("same", derandomize=True)
if os.environ.get("STREAMLAB_PROPERTIES") != "deep":
    settings.load_profile("same")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Tell pytest the project's own options."""
    parser.addoption(
        "--require-kafka",
        action="store_true",
        help="fail, rather than skip, the tests on a real Apache Kafka where none can be started",
    )
    parser.addoption(
        "--require-browser",
        action="store_true",
        help="fail, rather than skip, the tests in a browser where there is no Chromium",
    )
