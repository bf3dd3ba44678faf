"""Child processes that talk with their parent in JSON lines and never outlive it: `Children`, `Parent`."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

from backplane_core import BackplaneError

__all__ = ["ChildFailedError", "Children", "Message", "Parent"]

Message: TypeAlias = dict[str, Any]

STOP_TIMEOUT_S: Final = 3.0
"""A child exits within milliseconds; this leaves room for a machine that is starved of CPU."""


class ChildFailedError(Exception):
    """A child reported why it can't continue, or ended silently.

    Args:
        name: The child.
        reason: What it reported; None if nothing.
    """

    def __init__(self, name: str, reason: str | None) -> None:
        super().__init__(name, reason)
        self.name = name
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.name} {'ended unexpectedly' if self.reason is None else f'failed: {self.reason}'}"


class Children:
    """Child processes. Leaving the block ends them all."""

    def __init__(self) -> None:
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._inbox: queue.SimpleQueue[tuple[str, Message | None]] = queue.SimpleQueue()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for process in self._processes.values():
            assert process.stdin is not None
            with suppress(BrokenPipeError):
                process.stdin.close()
        for process in self._processes.values():
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start a child."""
        process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Ctrl-C reaches a terminal's whole process group; only the parent must react to it.
            process_group=0,
        )
        self._processes[name] = process
        threading.Thread(target=self._listen, args=(name, process), daemon=True).start()

    def ask(self, name: str, **message: object) -> None:
        """Send a message to a child."""
        stdin = self._processes[name].stdin
        assert stdin is not None
        with suppress(BrokenPipeError):  # it ended, and `hear` reports that
            stdin.write(json.dumps(message) + "\n")
            stdin.flush()

    def hear(self, deadline: float) -> tuple[str, Message]:
        """Return the next message and the name of its sender.

        Args:
            deadline: How long to wait for it, as a time of `time.monotonic`.

        Raises:
            TimeoutError: No message came in time.
            ChildFailedError: A child reported that it failed, or ended.
        """
        try:
            name, message = self._inbox.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise TimeoutError from None
        if message is None or "failed" in message:
            raise ChildFailedError(name, None if message is None else message["failed"])
        return name, message

    def wait(self, name: str, deadline: float) -> None:
        """Return once a child that was asked to stop is gone.

        Raises:
            ChildFailedError: It did not exit in time, or exited with an error.
        """
        process = self._processes[name]
        try:
            code = process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise ChildFailedError(name, "it does not stop") from None
        if code != 0:
            raise ChildFailedError(name, f"it stopped with exit code {code}")

    def _listen(self, name: str, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                self._inbox.put((name, json.loads(line)))
        self._inbox.put((name, None))


class Parent:
    """The process that started this one. When it ends, even by SIGKILL, this one ends at once."""

    def __init__(self) -> None:
        self._asked: queue.SimpleQueue[Message] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def send(self, **message: object) -> None:
        """Send a message to the parent."""
        try:
            print(json.dumps(message), flush=True)
        except BrokenPipeError:
            os._exit(1)

    def asks(self) -> Message:
        """Wait for the parent's next message."""
        return self._asked.get()

    @contextmanager
    def notified_of_failure(self) -> Generator[None]:
        """Notify the parent if the block fails, and end this process."""
        try:
            yield
        except BackplaneError as error:
            self.send(failed=str(error))
            raise SystemExit(1) from None
        except Exception as error:
            self.send(failed=type(error).__name__)
            raise

    def _listen(self) -> None:
        for line in sys.stdin:
            self._asked.put(json.loads(line))
        # Only the parent holds the other end of this pipe.
        os._exit(1)
