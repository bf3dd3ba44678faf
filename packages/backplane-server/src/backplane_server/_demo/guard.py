"""Ends all processes of the demo, however it ends itself: `Guard`."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from attrs import frozen

__all__ = ["Guard", "guarded"]

# The guard blocks on a pipe whose other end this process alone holds: when that is gone, even by SIGKILL, it reads the
# end of the file, ends all processes of its group, and removes the directory. Ctrl-C at a terminal goes to the group in
# front, which is not this one: what is in it ends in the order in which the demo ends it.
_SCRIPT: Final = 'trap "" HUP INT TERM; read -r _; kill -TERM 0; sleep 1; rm -rf -- "$1"; kill -KILL 0'


@frozen
class Guard:
    """A process group and a directory that end with this process.

    Args:
        group: The process group to start processes in.
        directory: The directory that they may write to.
    """

    group: int
    directory: Path


@contextmanager
def guarded() -> Generator[Guard]:
    """Start a guard; at the end of the block all processes of its group are gone, and so is the directory."""
    directory = Path(tempfile.mkdtemp(prefix="backplane-demo-"))
    process: subprocess.Popen[bytes] | None = None
    try:
        process = subprocess.Popen(  # noqa: S603 -- a text of our own
            ["/bin/sh", "-c", _SCRIPT, "backplane-demo-guard", str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,
        )
        yield Guard(process.pid, directory)
    finally:
        if process is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        shutil.rmtree(directory, ignore_errors=True)
