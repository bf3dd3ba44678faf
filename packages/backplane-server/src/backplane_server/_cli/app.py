"""The `backplane` command: `main`, and its commands."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated, Final

import typer

from backplane_server._cli.asking import kick, pods, who
from backplane_server._cli.bench import bench
from backplane_server._cli.config import config
from backplane_server._cli.demo import demo
from backplane_server._cli.doctor import doctor
from backplane_server._cli.listen import listen
from backplane_server._cli.publish import publish
from backplane_server._cli.serve import serve
from backplane_server._cli.token import token

__all__ = ["app", "main"]

HELP: Final = """
Publish to a Backplane fleet, listen to it and query it from a shell.

A target is a kind and an id, such as user:u1 or room:42, or everyone. Set the broker with --bus, the variable
BACKPLANE_URL, or `url = "redis://..."` in backplane.toml; a flag overrides the environment, which overrides the file.

\b
  backplane listen user:u1
  backplane publish user:u1 '{"kind":"ready"}'
  backplane who user:u1

Exit codes: 0 on success, 1 on failure, 2 for a wrong argument or setting.
"""

app: Final = typer.Typer(
    name="backplane",
    help=HELP,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # Without Rich: it doubles the time until `--help` is there.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (serve, token, publish, listen, who, pods, kick, doctor, bench, config, demo):
    app.command()(command)


def _show_version(asked: bool) -> None:  # noqa: FBT001 -- Typer's own
    if asked:
        typer.echo(f"backplane {version('backplane-server')}, backplane-core {version('backplane-core')}")
        raise typer.Exit


@app.callback()
def _options(
    shows_version: Annotated[
        bool, typer.Option("--version", help="Show the versions and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the `backplane` command with the arguments of this process, and exit."""
    app(prog_name="backplane")
