"""Run an example as a person does, and find what it left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # it has no py.typed
from attrs import field, frozen

from tests.support.waiting import wait_until

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"

RUN_S = 60.0
"""A run takes one to two seconds; this is for a machine that is starved of CPU."""

_MARK = "EXAMPLE_UNDER_TEST"


@frozen
class Example:
    """One run of an example. Its processes can be told from all others: they inherit a mark."""

    name: str
    mark: str = field(factory=lambda: uuid.uuid4().hex)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, str(EXAMPLES / self.name), *arguments]

    def environment(self, changes: Mapping[str, str]) -> dict[str, str]:
        plain = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
        return {**plain, "TERM": "xterm", "PYTHONIOENCODING": "utf-8", **changes, _MARK: self.mark}

    def run(self, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            env=self.environment(changes),
            capture_output=True,
            encoding="utf-8",
            timeout=RUN_S,
            check=False,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start it as a shell does, in a process group of its own."""
        return subprocess.Popen(
            self.command(*arguments),
            env=self.environment({}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            process_group=0,
        )

    def processes(self) -> list[psutil.Process]:
        """All processes of this run that live, whoever their parent is by now."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def assert_gone(self) -> None:
        wait_until(lambda: not self.processes(), lambda: f"these are left behind: {self.processes()}")

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            # A zombie has no environment: it is over, and waits for its new parent only.
            return bool(process.environ().get(_MARK) == self.mark)
        except (psutil.Error, OSError):
            return False
