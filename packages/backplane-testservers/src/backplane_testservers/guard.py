"""No server outlives the process that started it, however that process ends: `get_guard`."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Final

from attrs import frozen

__all__ = ["get_guard", "get_guard_pid"]

# Servers start in the guard's process group. The guard blocks on a pipe whose other end only we hold: when we are gone,
# even by SIGKILL, it reads end-of-file and kills the whole group. PR_SET_PDEATHSIG would not do: it is for Linux alone,
# needs preexec_fn (which warns next to threads since 3.12), and fires when the starting *thread* ends.
# HUP is ignored, since the kernel sends it to an orphaned group that holds a stopped member.
_SCRIPT: Final = 'trap "" HUP INT TERM; read -r _; rm -rf -- "$1"; kill -KILL 0'

_lock = threading.Lock()
_current: _Guard | None = None


@frozen
class _Guard:
    """The guard of this process, its process group, and the directory that goes with it."""

    process: subprocess.Popen[bytes]
    directory: Path

    @property
    def group(self) -> int:
        return self.process.pid

    def new_directory(self, prefix: str) -> Path:
        """Make a directory that is removed when the guard ends, at the latest."""
        return Path(tempfile.mkdtemp(prefix=f"{prefix}-", dir=self.directory))

    def forget(self) -> None:
        """Close our end of the pipe. In a forked child that leaves the guard waiting for the parent alone."""
        if self.process.stdin is not None:
            self.process.stdin.close()

    def dismiss(self) -> None:
        """Let the guard kill what still runs, remove the directory and exit."""
        self.forget()
        self.process.wait()
        # Again, in case somebody killed the guard itself.
        shutil.rmtree(self.directory, ignore_errors=True)


def get_guard() -> _Guard:
    """Return this process's guard; the first call starts it, and so does one after it died."""
    global _current  # noqa: PLW0603 -- one guard per process is the point
    with _lock:
        if _current is not None and _current.process.poll() is not None:
            _current.dismiss()
            _current = None
        if _current is None:
            directory = Path(tempfile.mkdtemp(prefix="bp-brokers-"))
            process = subprocess.Popen(
                ["/bin/sh", "-c", _SCRIPT, "broker-guard", str(directory)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                process_group=0,
            )
            _current = _Guard(process, directory)
        return _current


def get_guard_pid() -> int | None:
    """Return the guard's process id, if there is a guard."""
    return None if _current is None else _current.process.pid


def _dismiss() -> None:
    if _current is not None:
        _current.dismiss()


def _forget_in_child() -> None:
    global _current, _lock  # noqa: PLW0603 -- a forked child starts with none of its parent's
    _lock = threading.Lock()  # the parent's may have been held at the fork
    if _current is not None:
        _current.forget()
        # It is the parent's child; without a return code, Popen would warn about it when collected.
        _current.process.returncode = 0
        _current = None


atexit.register(_dismiss)
os.register_at_fork(after_in_child=_forget_in_child)
