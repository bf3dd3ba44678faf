"""Build every distribution and use it as its users do: each adapter's wheel in a clean environment of its own.

`uv run scripts/check_wheels.py [--keep DIR]`. Fails if an adapter brings the other client, if metadata or `py.typed`
is missing, if core is not bounded, or if a publish does not reach another pod through the installed wheels.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from email.parser import HeaderParser
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from backplane_testservers import open_broker  # noqa: E402 -- the workspace's own helper, found by the line above

from scripts.releasing.workspace import in_order, read_workspace  # noqa: E402

DISTRIBUTIONS = [it.name for it in in_order(read_workspace(ROOT))]
CLIENTS = {
    "backplane-redis": {"redis", "hiredis"},
    "backplane-nats": {"nats-py"},
    "backplane-channels": {"channels", "django"},
    "backplane-litestar": {"litestar"},
    "backplane-socketio": {"python-socketio"},
}
"""The clients and frameworks that a distribution brings, and no other one."""

SCENARIO = """
import asyncio, sys
from backplane_core import Publisher, Target, connect

async def main(url):
    async with connect(url, channel="wheels") as here, connect(url, channel="wheels") as there:
        async with there.connection("c1", Target.user("u1")) as connection, Publisher(url, channel="wheels") as worker:
            assert await here.publish(Target.user("u1"), {"n": 1}) == 0
            await here.flush(timeout_s=5)
            await worker.publish(Target.user("u1"), {"n": 2})
            async with asyncio.timeout(5):
                assert [(await anext(connection)).value for _ in range(2)] == [{"n": 1}, {"n": 2}]

asyncio.run(main(sys.argv[1]))
"""

IN_MEMORY = """
import asyncio
from backplane_core import AdapterNotInstalledError, Target, connect

async def main():
    async with connect() as backplane:
        async with backplane.connection("c1", Target.user("u1")) as connection:
            assert await backplane.publish(Target.user("u1"), 1) == 1
            assert (await anext(connection)).value == 1
    for url, wanted in (("redis://h", "pip install backplane-redis"), ("nats://h", "pip install backplane-nats")):
        try:
            connect(url)
        except AdapterNotInstalledError as error:
            assert wanted in str(error), error
        else:
            raise AssertionError(url)

asyncio.run(main())
"""

ENDPOINT = """
import asyncio
from backplane_asgi import browser_script, health_endpoint
from backplane_core import connect

async def main():
    answers = []
    async def send(message):
        answers.append(message)
    async with connect() as backplane:
        await health_endpoint(backplane)({"type": "http", "method": "GET", "path": "/ready"}, None, send)
    assert answers[0]["status"] == 200, answers
    assert b"export function connect" in browser_script()

asyncio.run(main())
"""

LITESTAR = """
import asyncio, sys
from backplane_litestar import BackplaneChannelsBackend
from litestar.channels import ChannelsPlugin

def plugin(url):
    return ChannelsPlugin(BackplaneChannelsBackend(url, channel="wheels"), channels=["chat"])

async def main(url):
    async with plugin(url) as here, plugin(url) as there, there.start_subscription("chat") as subscriber:
        await here.wait_published({"n": 1}, "chat")
        async with asyncio.timeout(5):
            assert await anext(subscriber.iter_events()) == b'{"n":1}'

asyncio.run(main(sys.argv[1]))
"""

COMMAND = """
import json, subprocess, sys
from pathlib import Path

def backplane(*arguments):
    command, secret = Path(sys.executable).with_name("backplane"), {"BACKPLANE_SERVE_JWT_SECRET": "0" * 32}
    return subprocess.run([command, *arguments], env=secret, capture_output=True, text=True, check=True).stdout

assert "Usage: backplane" in backplane("--help")
fleet = ("--bus", sys.argv[1], "--channel", "wheels", "--json")
assert json.loads(backplane("publish", "user:u1", "1", *fleet))["complete"]
assert json.loads(backplane("pods", *fleet))["pods"] == []
assert backplane("token", "ann").count(".") == 2
gateway = subprocess.run(
    [Path(sys.executable).with_name("backplane"), "serve", "--port", "0"], env={}, capture_output=True, text=True
)
assert (gateway.returncode, "--insecure-dev" in gateway.stderr) == (2, True), gateway
command = [Path(sys.executable).with_name("backplane"), "serve", "--insecure-dev", "--traces"]
untraced = subprocess.run(command, env={}, capture_output=True, text=True)
assert (untraced.returncode, "backplane-server[otel]" in untraced.stderr) == (2, True), untraced
"""

CHANNELS = """
import asyncio, sys
from backplane_channels import BackplaneChannelLayer

async def main(url):
    here, there = (BackplaneChannelLayer(url, prefix="wheels") for _ in range(2))
    name = await here.new_channel()
    await here.group_add("chat", name)
    there.publisher.group_send("chat", {"type": "hello"})
    async with asyncio.timeout(5):
        assert await here.receive(name) == {"type": "hello"}
    await here.close()
    await there.close()

asyncio.run(main(sys.argv[1]))
"""

SOCKETIO = """
import asyncio, sys, socketio
from backplane_socketio import AsyncBackplaneManager, BackplaneManager

async def main(url):
    here, there = [AsyncBackplaneManager(url, "wheels") for _ in range(2)]
    servers = [socketio.AsyncServer(async_mode="asgi", client_manager=manager) for manager in (here, there)]
    await here.open()
    await there.open()
    got = asyncio.get_running_loop().create_future()
    there._handle_emit = lambda message: asyncio.sleep(0, got.set_result(message["event"]))
    await servers[0].emit("hello", {"n": 1})
    async with asyncio.timeout(5):
        assert await got == "hello"
    BackplaneManager(url, "other", write_only=True).emit("bye", {})
    await here.aclose()
    await there.aclose()

asyncio.run(main(sys.argv[1]))
"""

USES = {"backplane-asgi": ENDPOINT}
"""Programs that use a distribution as it is."""
USES_OVER_A_BROKER = {
    "backplane-channels": CHANNELS,
    "backplane-litestar": LITESTAR,
    "backplane-server": COMMAND,
    "backplane-socketio": SOCKETIO,
}
"""Programs that use a distribution with its extras, `redis` and `nats`, over the broker of a URL."""


def run(*command: str | Path, text: str | None = None) -> str:
    """Run a command from the workspace's root; its output is shown only when it fails."""
    done = subprocess.run(list(map(str, command)), cwd=ROOT, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"failed: {' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def check_metadata(wheel: Path) -> None:
    """Fail unless the wheel says what an index shows and a type checker needs."""
    with ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = HeaderParser().parsestr(
            archive.read(next(name for name in names if name.endswith(".dist-info/METADATA"))).decode()
        )
    name = str(metadata["Name"])
    required = [str(value) for value in metadata.get_all("Requires-Dist") or []]
    assert f"{name.replace('-', '_')}/py.typed" in names, f"{wheel.name}: no py.typed"
    assert metadata["Requires-Python"] == ">=3.11", f"{wheel.name}: {metadata['Requires-Python']}"
    assert metadata["License-Expression"] == "MIT", f"{wheel.name}: no licence"
    assert any(name.endswith("licenses/LICENSE") for name in names), f"{wheel.name}: no LICENSE"
    assert len(metadata.get_all("Project-URL") or []) >= 4, f"{wheel.name}: no URLs"  # noqa: PLR2004 -- home, docs, source, issues
    assert len(str(metadata.get_payload())) > 200, f"{wheel.name}: no README"  # noqa: PLR2004 -- more than a title
    if name != "backplane-core":
        bound = next(value for value in required if value.startswith("backplane-core"))
        assert "<" in bound, f"{wheel.name}: core is not bounded: {bound}"
        assert ">=" in bound, f"{wheel.name}: core is not bounded: {bound}"


def installed(python: Path) -> set[str]:
    """Return the names of the distributions in an environment."""
    return {entry["name"] for entry in json.loads(run("uv", "pip", "list", "--format=json", "--python", python))}


def check_distribution(name: str, wheels: Path, environment: Path, urls: Sequence[str]) -> None:
    """Install one distribution in a clean environment, check what came with it, and use it."""
    version = next(wheels.glob(f"{name.replace('-', '_')}-*.whl")).name.split("-")[1]
    run("uv", "venv", "--quiet", environment)
    python = environment / "bin" / "python"
    run("uv", "pip", "install", "--quiet", "--python", python, "--find-links", wheels, f"{name}=={version}")
    run("uv", "pip", "check", "--python", python)
    came = installed(python)
    assert "backplane-core" in came, f"{name} does not bring core"
    own = CLIENTS.get(name, set[str]())
    others = set[str]().union(*CLIENTS.values()) - own
    assert own <= came, f"{name} lacks {own - came}"
    assert not others & came, f"{name} brings {others & came}"
    for url in urls:
        run(python, "-I", "-W", "error", "-c", SCENARIO, url)
    if not urls:
        run(python, "-I", "-W", "error", "-c", IN_MEMORY)
    if name in USES:
        run(python, "-I", "-W", "error", "-c", USES[name])
    if name == "backplane-asgi":
        assert not {"uvicorn", "websockets"} & came, "backplane-asgi brings a server"
        wanted = f"{name}[uvicorn]=={version}"
        run("uv", "pip", "install", "--quiet", "--python", python, "--find-links", wheels, wanted)
        run(python, "-I", "-c", "from backplane_asgi.uvicorn import PreparedHttpProtocol, PreparedProtocol")
    print(f"{name}: {', '.join(sorted(came))}")


def check_extras(name: str, wheels: Path, environment: Path, urls: Mapping[str, str]) -> None:
    """Install a distribution's extras, named after the brokers, where it is installed already, and use it over each."""
    python = environment / "bin" / "python"
    version = next(wheels.glob(f"{name.replace('-', '_')}-*.whl")).name.split("-")[1]
    for extra, url in urls.items():
        whole = f"{name}[{extra}]=={version}"
        run("uv", "pip", "install", "--quiet", "--python", python, "--find-links", wheels, whole)
        run("uv", "pip", "check", "--python", python)
        run(python, "-I", "-W", "error", "-c", USES_OVER_A_BROKER[name], url)
    print(f"{name}: its extras, {', '.join(urls)}")


def check_demo(wheels: Path, environment: Path) -> None:
    """Install what the demo needs where its distribution is installed already; it checks itself over each broker."""
    python = environment / "bin" / "python"
    version = next(wheels.glob("backplane_server-*.whl")).name.split("-")[1]
    wanted = f"backplane-server[demo]=={version}"
    run("uv", "pip", "install", "--quiet", "--python", python, "--find-links", wheels, wanted)
    run("uv", "pip", "check", "--python", python)
    for broker in ("nats", "redis"):
        run(python, "-I", "-W", "error", "-m", "backplane_server", "demo", "--check", "--broker", broker)
    print("backplane-server: its demo")


def main() -> None:
    """Build every distribution, check it, install it, and use it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, help="keep the wheels and sdists here")
    keep: Path | None = parser.parse_args().keep
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        wheels = keep or scratch / "dist"
        for name in DISTRIBUTIONS:
            run("uv", "build", "--quiet", "--package", name, "--out-dir", wheels)
        built = sorted(wheels.glob("*.whl"))
        assert len(built) == len(list(wheels.glob("*.tar.gz"))) == len(DISTRIBUTIONS), built
        for wheel in built:
            check_metadata(wheel)
        redis = stack.enter_context(open_broker("redis")).url
        nats = stack.enter_context(open_broker("nats")).url
        urls = {"backplane-redis": [redis, redis.replace("redis", "valkey")], "backplane-nats": [nats]}
        for name in DISTRIBUTIONS:
            check_distribution(name, wheels, scratch / name, urls.get(name, ()))
        for name in USES_OVER_A_BROKER:
            check_extras(name, wheels, scratch / name, {"redis": redis, "nats": nats})
        check_demo(wheels, scratch / "backplane-server")
    print("all wheels are whole")


if __name__ == "__main__":
    main()
