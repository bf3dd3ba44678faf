"""The `backplane` command."""

from typing import TYPE_CHECKING

from backplane_server._cli.app import main

__all__ = ["main"]

__version__: str
"""The version of the installed distribution."""

if not TYPE_CHECKING:  # a checker would take every name for one of this package

    def __getattr__(name: str) -> str:
        # Read when it is asked for: an import would pay for it each time.
        if name == "__version__":
            from importlib.metadata import version  # noqa: PLC0415

            return version("backplane-server")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
