"""Arguments and flags that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["AsJson", "Targets", "Timeout"]

Targets = Annotated[
    list[str],
    typer.Argument(metavar="TARGET...", help="A kind and an id, such as user:u1, or everyone.", show_default=False),
]
Timeout = Annotated[float, typer.Option(help="Seconds to wait for the pods' answers.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one line of JSON, for programs.")]
