"""Run a command that must not outlive the process that started it: python guard.py COMMAND...

Standard input is the life line. `s` asks the command to stop, `k` kills it, and so does the end of the input, which
comes however the starter ended, `kill -9` included. The exit of this process means that the command is gone and its
ports are free. (Linux has PR_SET_PDEATHSIG for this, but that fires when the starting *thread* ends.)
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading

STOP, KILL = b"s", b"k"


def obey(command: subprocess.Popen[bytes]) -> None:
    """Carry out what the life line says until it ends."""
    while os.read(0, 1) == STOP:
        command.terminate()
    command.kill()


def main() -> int:
    """Run the command and return its exit code."""
    with subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL) as command:
        threading.Thread(target=obey, args=(command,), daemon=True).start()
        return command.wait()


if __name__ == "__main__":
    os._exit(main() & 0xFF)  # the thread may still be reading; nothing is left to tidy up
