"""What Jupyter's own pages write to the console as errors, whatever notebook is open."""

from __future__ import annotations

import re

NOISE = (
    # Notebook 7.6: a setting arrives before the keyboard shortcuts have learned of the plugin that it belongs to
    r"^uncaught: TypeError: Cannot read properties of undefined \(reading 'schema'\)\n +at \S+/static/notebook/",
    # the kernel was ended while the debugger's side panel, closed as it is, was asking it something
    r"^Could not restore the debugger state: Canceled future for debug_request message",
)
_NOISE = re.compile("|".join(f"(?:{pattern})" for pattern in NOISE))


def is_noise(message: str) -> bool:
    """Whether it is known, and none of the notebook's doing."""
    return _NOISE.search(message) is not None
