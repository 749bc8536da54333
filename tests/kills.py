"""Work that is killed at a chosen instant, as by a power cut: counted by what it does to files."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

TOUCHING = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "shutil.rmtree", "fcntl.flock",
            "shutil.copymode")
"""The interpreter's own names of what it does to files."""



def killed(work: Callable[[], Any], below: Path, instant: int) -> bool:
    """Do ``work`` in a process of its own that is killed at its ``instant``-th touch of files below a folder; whether
    it lived to its end."""
    return touches(work, below, instant) is not None


def touches(work: Callable[[], Any], below: Path, instant: int | None = None) -> int | None:
    """How often ``work``, in a process of its own, touches files below a folder; None where it was killed before its
    ``instant``-th touch."""
    back, forth = os.pipe()
    child = os.fork()
    if child == 0:
        seen = 0

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal seen
            if event in TOUCHING and (event == "fcntl.flock" or str(arguments[0]).startswith(str(below))):
                if seen == instant:
                    os.kill(os.getpid(), signal.SIGKILL)
                seen += 1

        sys.addaudithook(hook)
        try:
            work()
        finally:
            os.write(forth, str(seen).encode())
            os._exit(0)
    os.close(forth)
    with os.fdopen(back) as counted:
        said = counted.read()
    return int(said) if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 else None
