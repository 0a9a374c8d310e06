"""papermill, without what it and its parts say to developers."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def quiet() -> Iterator[None]:
    """Keep papermill's log and all warnings back; afterwards both are as before.

    Examples
    --------
    >>> with quiet():
    ...     logging.getLogger("papermill").isEnabledFor(logging.CRITICAL)
    False
    >>> logging.getLogger("papermill").isEnabledFor(logging.CRITICAL)
    True
    """
    logger = logging.getLogger("papermill")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
