"""Asks a gateway for what its OpenAPI allows, and for what it forbids: no request may cost more than its own refusal.

`uv run scripts/check_openapi.py [--cases 1000] [--seed 1]`. Schemathesis comes locked, in an environment of its own.
Fails on an answer of 500 or more, on one that the OpenAPI does not name, on a body of another shape than it says, on a
wrong body that was accepted, or a right one that was refused; and if the gateway keeps memory, or does not end as ever.
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil  # type: ignore[import-untyped]  # it has no py.typed
from attrs import frozen

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from backplane_testservers import open_broker  # noqa: E402 -- the workspace's own helper, found by the line above

from scripts.releasing.shell import ReleaseError, run, tools  # noqa: E402

SCHEMA: Final = ROOT / "packages" / "backplane-server" / "src" / "backplane_server" / "openapi.json"
CHECKS: Final = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
)
SECRET: Final = secrets.token_hex(32)
WARM_CASES: Final = 100
"""Cases before its memory is looked at: what it loads and caches once."""
MAX_GROWTH_BYTES: Final = 16 * 1024 * 1024
"""How much it may grow by thousands of requests: what an allocator keeps, and less than 20 KB for each."""
START_S: Final = 60
"""Seconds until it must listen, or have ended, on a starved machine."""


@frozen
class Running:
    """A gateway.

    Args:
        process: Its process.
        url: Where it listens.
        token: What lets a client publish to any target.
    """

    process: subprocess.Popen[str]
    url: str
    token: str

    @property
    def memory(self) -> int:
        """Bytes that it holds."""
        return int(psutil.Process(self.process.pid).memory_info().rss)


@contextmanager
def serving(bus: str, errors: Path) -> Generator[Running]:
    """Run a gateway that is full: a stream of events would never end, and a full one ends it at once."""
    settings = {
        "BACKPLANE_URL": bus,
        "BACKPLANE_SERVE_JWT_SECRET": SECRET,
        "BACKPLANE_SERVE_PUBLISH_RATE": "100000",
        "BACKPLANE_SERVE_MAX_CONNECTIONS": "0",
        "BACKPLANE_SERVE_DRAIN_DELAY_S": "0",
    }
    command = [sys.executable, "-W", "error", "-m", "backplane_server"]
    env = {**{name: text for name, text in os.environ.items() if not name.startswith("BACKPLANE")}, **settings}
    token = subprocess.run(
        [*command, "token", "job", "--publisher"], env=env, check=True, capture_output=True, text=True
    ).stdout.strip()
    serve = [*command, "serve", "--port", "0", "--metrics-port", "0"]
    with (
        errors.open("w") as said,
        subprocess.Popen(serve, env=env, stderr=said, stdout=subprocess.PIPE, text=True) as process,
    ):
        try:
            yield Running(process, _address(process, errors), token)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(START_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _address(process: subprocess.Popen[str], errors: Path) -> str:
    """Return where a gateway listens, once it says so."""
    psutil_process = psutil.Process(process.pid)
    for _ in range(START_S * 10):
        found = re.search(r"listening at (http://\S+?):? ", errors.read_text())
        if found is not None:
            return found[1]
        try:
            psutil_process.wait(0.1)
        except psutil.TimeoutExpired:
            continue
        break
    raise ReleaseError(f"the gateway does not listen: {errors.read_text()}")


def ask(gateway: Running, cases: int, seed: int) -> str:
    """Ask for that many things of each path, and some without a token; return what Schemathesis says of the first."""
    usual = (
        *(tools("openapi", ROOT) / "schemathesis", "run", SCHEMA, "--url", gateway.url),
        *("--header", f"Authorization: Bearer {gateway.token}", "--phases", "examples,coverage,fuzzing"),
        *("--seed", str(seed), "--generation-database", "none", "--request-timeout", "30"),
        *("--no-color", "--warnings", "off"),
    )
    # A stream that is full ends before anyone looks at its token.
    alone = ("--include-path", "/publish", "--checks", "ignored_auth", "--max-examples", "10")
    run(*usual, *alone, cwd=ROOT)
    return run(*usual, "--checks", ",".join(CHECKS), "--max-examples", str(cases), cwd=ROOT)


def check(cases: int, seed: int) -> str:
    """Ask a gateway, and return what was found.

    Raises:
        ReleaseError: It did what it may not; says which request.
    """
    with tempfile.TemporaryDirectory() as folder, open_broker("redis") as redis:
        errors = Path(folder) / "errors"
        with serving(redis.url, errors) as gateway:
            ask(gateway, WARM_CASES, seed)
            before = gateway.memory
            said = ask(gateway, cases, seed + 1)
            growth = gateway.memory - before
        if growth > MAX_GROWTH_BYTES:
            raise ReleaseError(f"the gateway grew by {growth:,} bytes")
        if gateway.process.returncode != 0 or "Traceback" in errors.read_text():
            raise ReleaseError(f"the gateway ended with {gateway.process.returncode}: {errors.read_text()}")
    counted = re.search(r"([\d,]+) generated", said)
    return (
        f"schemathesis: {'?' if counted is None else counted[1]} requests, no finding; memory grew by {growth:,} bytes"
    )


def main() -> None:
    """Check the gateway's answers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1_000, help="requests of each path, about")
    parser.add_argument("--seed", type=int, default=1, help="another one asks for other things")
    arguments = parser.parse_args()
    try:
        print(check(arguments.cases, arguments.seed))
    except ReleaseError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
