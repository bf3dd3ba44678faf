"""What signing costs per event: signing and verifying alone, and through two pods with and without it, in one run.

uv run bench/signing.py [--events 20000] [--rounds 5] [--size 1024]
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import time
from statistics import median

from backplane_core import DistributedBackplane, Target
from backplane_core._protocol.frame import build_frame, frame_prefix
from backplane_core._protocol.signing import Signer, SigningKeys
from backplane_core._runtime.system import System
from backplane_core.testing import MemoryBroker, MemoryTransport

TARGET = Target.connection("c1")


async def _through_two_pods(events: int, text: str, keys: list[bytes] | None = None) -> float:
    """Return the microseconds of this process per event: publish, write, read, deliver."""
    broker = MemoryBroker()
    got: list[object] = []
    done = asyncio.Event()

    def take(event: object) -> None:
        got.append(event)
        if len(got) == events:
            done.set()

    async with (
        DistributedBackplane(MemoryTransport(broker), routing="interest", signing_keys=keys) as here,
        DistributedBackplane(MemoryTransport(broker), routing="interest", signing_keys=keys) as there,
    ):
        await there.attach("c1", take, raw=True)
        started = time.process_time()
        for _ in range(events):
            await here.publish(TARGET, text)
        await done.wait()
        return (time.process_time() - started) / events * 1e6


def _alone(events: int, text: str, keys: list[bytes]) -> tuple[float, float]:
    """Return the microseconds of signing and of verifying one frame."""
    signer = Signer(SigningKeys(keys), 300, System())
    frame = build_frame(frame_prefix("6f1c" * 8), (TARGET,), b'"%b"' % text.encode(), 42, 41)
    started = time.process_time()
    signed = b""
    for _ in range(events):
        signed = signer.sign("backplane", frame)
    between = time.process_time()
    for _ in range(events):
        signer.verify("backplane", signed)
    return (between - started) / events * 1e6, (time.process_time() - between) / events * 1e6


def _main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=1024, help="bytes of an event's JSON")
    arguments = parser.parse_args()
    keys, text = [secrets.token_bytes(32)], "x" * (arguments.size - 2)
    plain: list[float] = []
    signed: list[float] = []
    alone: list[tuple[float, float]] = []
    for _ in range(arguments.rounds):  # they take turns, so that a busy minute of this machine hits both
        plain.append(asyncio.run(_through_two_pods(arguments.events, text)))
        signed.append(asyncio.run(_through_two_pods(arguments.events, text, keys)))
        alone.append(_alone(arguments.events, text, keys))
    ratio = median([one / other for one, other in zip(signed, plain, strict=True)])
    print(f"events of {arguments.size} bytes, medians of {arguments.rounds} rounds, microseconds of processor time")
    signing, verifying = (median(each) for each in zip(*alone, strict=True))
    print(f"signing {signing:.1f}, verifying {verifying:.1f}")
    print(f"through two pods: plain {median(plain):.1f}, signed {median(signed):.1f}, ratio {ratio:.2f}")


if __name__ == "__main__":
    _main()
