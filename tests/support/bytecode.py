"""Let the hundreds of interpreters of a test run compile each module once, and not each of them again."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

__all__ = ["share_bytecode"]

FOLDER: Final = Path(__file__).resolve().parents[2] / ".pytest_cache" / "bytecode"


def share_bytecode() -> None:
    """Where bytecode may not be written beside the sources, keep it with what pytest keeps."""
    if not sys.dont_write_bytecode:
        return
    temporary = Path(tempfile.gettempdir())
    # That of projects which an earlier run made and threw away.
    shutil.rmtree(FOLDER / temporary.relative_to(temporary.anchor), ignore_errors=True)
    sys.dont_write_bytecode, sys.pycache_prefix = False, str(FOLDER)
    # For workers, and for all that tests start.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(FOLDER)
