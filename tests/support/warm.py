"""Run programs and test suites of a page in children forked from one warm interpreter.

Each child is a process of its own, as a reader's would be, but needs no second to import what all of them import.
"""

from __future__ import annotations

import ast
import asyncio
import atexit
import gc
import inspect
import multiprocessing
import os
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from attrs import frozen

__all__ = ["Ran", "run_pytest", "run_snippet"]

ROOT: Final = Path(__file__).resolve().parents[2]

DEADLINE_S: Final = 100.0
"""What is run here takes a second or two; the rest is for a starved machine."""

_CONTEXT: Final = multiprocessing.get_context("forkserver")
# Not plugins of pytest: it wants to import those itself.
_CONTEXT.set_forkserver_preload(
    ["pytest", "fastapi.testclient", "backplane_core.testing", "backplane_redis", "backplane_nats", __name__]
)


@frozen
class Ran:
    """What came of a child: its exit code, and all that it wrote."""

    code: int
    output: str


def run_snippet(code: str, folder: Path) -> Ran:
    """Run a program in a folder, where a warning is an error; `await` may stand at its top, as on a page."""
    return _run(_snippet, code, folder)


def run_pytest(folder: Path, *arguments: str) -> Ran:
    """Run pytest in a folder."""
    return _run(_pytest, arguments, folder)


def _run(target: Callable[[Any], int], argument: Any, folder: Path) -> Ran:
    with tempfile.NamedTemporaryFile() as output:
        child = _CONTEXT.Process(target=_child, args=(target, argument, folder, output.name))
        child.start()
        child.join(DEADLINE_S)
        late = child.exitcode is None
        if late:
            child.kill()
            child.join()
        said = Path(output.name).read_text()
        assert not late, f"not within {DEADLINE_S:g} s:\n{said}"
        assert child.exitcode is not None
        return Ran(child.exitcode, said)


def _child(target: Callable[[Any], int], argument: Any, folder: Path, output: str) -> None:
    descriptor = os.open(output, os.O_WRONLY | os.O_APPEND)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    os.close(descriptor)
    # As from the reader's own shell.
    os.chdir(folder)
    for name in [name for name in os.environ if name.startswith(("PYTEST", "COV"))]:
        del os.environ[name]
    sys.path[:] = [str(folder), *[path for path in sys.path if path not in {"", str(ROOT)}]]
    sys.argv = ["program"]
    code = target(argument)
    # What a process does at its end, and a forked child doesn't.
    atexit._run_exitfuncs()  # pyright: ignore[reportPrivateUsage]
    gc.collect()
    sys.exit(code)


def _snippet(text: str) -> int:
    warnings.simplefilter("error")
    try:
        code = compile(text, "<snippet>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        names = {"__name__": "__main__"}
        if code.co_flags & inspect.CO_COROUTINE:
            asyncio.run(eval(code, names))
        else:
            exec(code, names)
    except BaseException:  # noqa: BLE001 -- as the interpreter does
        traceback.print_exc()
        return 1
    return 0


def _pytest(arguments: Sequence[str]) -> int:
    import pytest  # noqa: PLC0415 -- in the child alone

    # A plugin that is here already can't have its own assertions explained, and the page's settings make that an error.
    return int(pytest.main(["-q", "-W", "ignore::pytest.PytestAssertRewriteWarning", *arguments]))
