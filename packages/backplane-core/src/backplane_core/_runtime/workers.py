"""Whether this process is one of several that serve the same thing: `find_workers`."""

from __future__ import annotations

import multiprocessing
import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Final

__all__ = ["find_workers"]

_OPTION: Final = re.compile(r"(?:--workers|--processes|-w)(?:[= ]|(?<=-w))(\d+)")
"""As uvicorn, gunicorn, hypercorn, granian and uWSGI take it; between options stands a space."""

_SEVERAL: Final = re.compile(r".*[a-z]-(?:[2-9]|\d\d+)")
"""How multiprocessing calls a process that is not the first of its kind: `SpawnProcess-2`."""


def find_workers(
    arguments: Sequence[str] | None = None, environment: Mapping[str, str] | None = None, process: str | None = None
) -> str | None:
    """Return what shows that this process is one of several workers; None if nothing does.

    Args:
        arguments: The command line; None: this process's, which a server's workers inherit.
        environment: Its variables; None: this process's.
        process: What multiprocessing calls it; None: this process's name.
    """
    arguments = sys.argv if arguments is None else arguments
    environment = os.environ if environment is None else environment
    line, more = " ".join(arguments), environment.get("GUNICORN_CMD_ARGS", "")
    for text in (line, " ".join(shlex.split(more)) if more.count('"') % 2 == more.count("'") % 2 == 0 else ""):
        found = _OPTION.search(text)
        if found and int(found[1]) > 1:
            return found[0]
    count = environment.get("WEB_CONCURRENCY", "")
    if count.isdecimal() and int(count) > 1:
        return f"WEB_CONCURRENCY={count}"
    process = multiprocessing.current_process().name if process is None else process
    # A server that reloads on changes starts one worker after the other.
    return process if "--reload" not in arguments and _SEVERAL.fullmatch(process) else None
