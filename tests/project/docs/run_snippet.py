"""Runs the Python on its standard input; `await` may stand at the top, as in a README."""

from __future__ import annotations

import ast
import asyncio
import inspect
import sys

code = compile(sys.stdin.read(), "<snippet>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
names = {"__name__": "__main__"}
if code.co_flags & inspect.CO_COROUTINE:
    asyncio.run(eval(code, names))
else:
    exec(code, names)
