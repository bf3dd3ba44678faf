"""Every Python block of every README runs as it stands, against real brokers."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from backplane_testservers import BrokerUnavailable, NatsServer, RedisServer
from backplane_testservers.sentinels import SentinelSet
from backplane_testservers.tls import Certificates

from tests.conftest import StartServer, skip_or_fail
from tests.project.docs.pages import ROOT, blocks, files
from tests.support.warm import run_snippet

pytestmark = pytest.mark.xdist_group("warm")  # one warm interpreter for all that is forked from it

FOLDERS = ("", "packages/*/", "adapters/*/", "docs/", "docs/*/")
PAGES = sorted([page for folder in FOLDERS for page in ROOT.glob(f"{folder}*.md")])

Redirect = Callable[[str], str]


def snippets() -> list[tuple[str, str]]:
    """Blocks that are programs; a single line is shown for the eye and stands in the next block in full.

    Files of a project are none: that project is built and tested whole.
    """
    return [
        (f"{page.relative_to(ROOT)}-{number}", block)
        for page in PAGES
        for number, block in enumerate(blocks(page), 1)
        if "import" in block and block not in files(page).values()
    ]


@pytest.fixture
def redirect(request: pytest.FixtureRequest, start: StartServer, certificates: Certificates) -> Iterator[Redirect]:
    """Puts the URLs of real brokers in the place of those that a reader would put in."""

    def secure(server: NatsServer | RedisServer) -> str:
        return start(server).url

    def watched() -> SentinelSet:
        try:
            return stack.enter_context(SentinelSet(replicas=0, sentinels=1))
        except BrokerUnavailable as error:
            skip_or_fail(error)

    urls: dict[str, Callable[[], str]] = {
        "redis://localhost:6379": lambda: str(request.getfixturevalue("redis_url")),
        "redis-cluster://localhost:7000,localhost:7001": lambda: request.getfixturevalue("shared_redis_cluster").url,
        "nats://localhost:4222": lambda: str(request.getfixturevalue("nats_url")),
        "redis+streams://localhost:6379": lambda: str(request.getfixturevalue("redis_url")).replace(
            "://", "+streams://", 1
        ),
        "nats+jetstream://localhost:4222": lambda: request.getfixturevalue("shared_jetstream").url.replace(
            "://", "+jetstream://", 1
        ),
        "redis+sentinel://localhost:26379/orders": lambda: watched().url,
        "tls://localhost:4222": lambda: secure(NatsServer(tls=certificates.server)),
        # The snippet's credential provider knows user and password.
        "rediss://localhost:6380": lambda: re.sub(
            "//.*@", "//", secure(RedisServer(tls=certificates.server, user="pod", password="secret"))
        ),
    }

    def replace(code: str) -> str:
        for url, real in urls.items():
            if f'"{url}' in code:
                code = code.replace(url, real())
        return code

    with ExitStack() as stack:
        yield replace


def test_the_pages_hold_snippets() -> None:
    pages = {name.rpartition("-")[0] for name, _ in snippets()}
    assert pages >= {"README.md", "adapters/backplane-nats/README.md", "adapters/backplane-redis/README.md"}


@pytest.mark.parametrize("snippet", [code for _, code in snippets()], ids=[name for name, _ in snippets()])
def test_a_snippet_runs(snippet: str, redirect: Redirect, certificates: Certificates, tmp_path: Path) -> None:
    shutil.copy(certificates.server.ca, tmp_path / "ca.pem")
    shutil.copy(certificates.client.cert, tmp_path / "client.pem")
    shutil.copy(certificates.client.key, tmp_path / "client.key")
    ran = run_snippet(redirect(snippet), tmp_path)
    assert ran.code == 0, ran.output
    assert "Traceback" not in ran.output
