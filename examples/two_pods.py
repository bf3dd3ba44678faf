"""Two pods and a job worker, each a process of its own, over a real broker: which event arrives where?

uv run examples/two_pods.py                          starts a NATS server for the run
uv run examples/two_pods.py --bus redis              starts a Redis server
uv run examples/two_pods.py --bus redis://localhost  uses yours, on a channel of its own
uv run examples/two_pods.py --bus memory             no broker, one process

`pod`, `socket` and `worker` are what a service does with Backplane. The rest chooses what they publish (_scenario.py)
and compares what arrived with what should have. Exit codes: 0 if every expected delivery arrived and nothing else,
1 if not, 2 if the example could not run.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, cast
from uuid import uuid4

# A script has only its own folder on the path; the helpers are named from the root.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from backplane_core import BaseBackplane, ConfigurationError, Gap, SyncPublisher, Target, connect

from examples._broker import NAMES, Kind, NoBrokerError, broker
from examples._processes import ChildFailedError, Children, Parent
from examples._report import Came, Report
from examples._scenario import PODS, PUBLICATIONS, WORKER, Held, Publication, end_of, expected
from examples._screen import Screen

CONNECT_TIMEOUT_S: Final = 3.0
START_TIMEOUT_S: Final = 20.0
"""Three interpreters start in half a second; this leaves room for a machine that is starved of CPU."""
DELIVERY_TIMEOUT_S: Final = 5.0
MEMORY: Final = "memory://"

# What a service does


async def pod(name: str, url: str, channel: str, connections: Held, parent: Parent) -> None:
    """Hold connections, and publish what the parent asks for."""
    with parent.notified_of_failure():
        async with (
            connect(url, channel=channel, connect_timeout_s=CONNECT_TIMEOUT_S) as backplane,
            asyncio.TaskGroup() as sockets,
        ):
            for conn_id, targets in connections.items():
                sockets.create_task(socket(backplane, conn_id, targets, parent))
            while (what := asked_of(name, await asyncio.to_thread(parent.asks))) is not None:
                await backplane.publish(what.to, what.event, exclude=what.exclude)
            await backplane.aclose()  # ends the loop of each connection, and so the group


async def socket(backplane: BaseBackplane, conn_id: str, targets: Sequence[Target], parent: Parent) -> None:
    """Serve one client, as a WebSocket or SSE handler does."""

    def missed(gap: Gap) -> None:  # in a service: make the client reload
        parent.send(missed=f"{conn_id} may have missed events: {gap.reason}")

    async with backplane.connection(conn_id, *targets, on_gap=missed) as connection:
        parent.send(ready=conn_id)
        async for event in connection:  # in a service: await websocket.send_text(event.text)
            parent.send(on=conn_id, event=event.value)


def worker(name: str, url: str, channel: str, parent: Parent) -> None:
    """Publish what the parent asks for, without connections and without an event loop."""
    with (
        parent.notified_of_failure(),
        SyncPublisher(url, channel=channel, connect_timeout_s=CONNECT_TIMEOUT_S) as publisher,
    ):
        parent.send(ready=name)
        while (what := asked_of(name, parent.asks())) is not None:
            publisher.publish(what.to, what.event, exclude=what.exclude)


# What this example does with them


def asked_of(name: str, message: Mapping[str, object]) -> Publication | None:
    """Return what a process must publish next, or None if there is nothing left."""
    number = message["publish"]
    if number == "end":
        return end_of(name)
    return None if number is None else PUBLICATIONS[cast("int", number)]


def cast_for(url: str, swap: Sequence[str]) -> Mapping[str, Held]:
    """Return the pods and their connections: in memory, which reaches no other process, one pod holds them all."""
    everything = {conn_id: targets for held in PODS.values() for conn_id, targets in held.items()}
    pods = {"pod": everything} if url == MEMORY else PODS
    if not swap:
        return pods
    other = {swap[0]: swap[1], swap[1]: swap[0]}
    return {name: {key: everything[other.get(key, key)] for key in held} for name, held in pods.items()}


def start(children: Children, names: Sequence[str], url: str, swap: Sequence[str]) -> None:
    """Start the processes."""
    # Through the environment: anyone on the machine can read a command line, and the URL may contain a password.
    environment = {"TWO_PODS_URL": url, "TWO_PODS_CHANNEL": f"two-pods:{uuid4().hex}"}
    for name in names:
        children.start(name, [sys.executable, __file__, "--be", name, "--swap", *swap], environment)


def be(name: str, swap: Sequence[str]) -> None:
    """Run as one of the processes."""
    url, channel = os.environ["TWO_PODS_URL"], os.environ["TWO_PODS_CHANNEL"]
    if name == WORKER:
        worker(name, url, channel, Parent())
    else:
        asyncio.run(pod(name, url, channel, cast_for(url, swap)[name], Parent()))


def until_ready(children: Children, report: Report) -> None:
    """Return once every connection is open, so that each publication from now on must reach it.

    Raises:
        ChildFailedError: A process could not connect.
        TimeoutError: The machine is too slow for this.
    """
    awaited = {conn_id for held in report.pods.values() for conn_id in held}
    awaited |= set(report.publishers) - set(report.pods)
    deadline = time.monotonic() + START_TIMEOUT_S
    while awaited:
        _, message = children.hear(deadline)
        awaited.discard(message.get("ready", ""))


def exchange(children: Children, report: Report, came: Came) -> list[str]:
    """Publish everything, and count what arrives until the last event of each process is everywhere.

    Returns:
        What went wrong, apart from events that did not arrive or should not have.

    Raises:
        ChildFailedError: A process could not publish, or ended.
    """
    for number, publication in enumerate(PUBLICATIONS):
        children.ask(report.publisher(publication), publish=number)
    for name in report.publishers:
        children.ask(name, publish="end")
    trouble: list[str] = []
    published = [publication.event for publication in PUBLICATIONS]
    ends = {(name, conn_id) for name in report.publishers for held in report.pods.values() for conn_id in held}
    deadline = time.monotonic() + DELIVERY_TIMEOUT_S
    while ends:
        try:
            _, message = children.hear(deadline)
        except TimeoutError:
            return [*trouble, *[f"the end of {name} did not reach {conn_id}" for name, conn_id in sorted(ends)]]
        if "missed" in message:
            trouble.append(message["missed"])
        elif (event := message["event"]) in published:
            came[event["kind"], message["on"]] += 1
        elif event["kind"] == "end" and (end := (event["of"], message["on"])) in ends:
            ends.remove(end)
        else:
            trouble.append(f"not as published, or once too often, on {message['on']}: {event}")
    return trouble


def run(bus: str, swap: Sequence[str], screen: Screen) -> bool:
    """Run the whole example, and return whether it went as expected."""
    with ExitStack() as stack:
        url, where = bus, f"your {bus.partition('://')[0]}:// broker"  # not the rest, which may contain a password
        if bus in NAMES:
            kind = cast("Kind", bus)
            with screen.doing(f"Starting a {NAMES[kind]} server"):
                url = where = stack.enter_context(broker(kind))
        pods = cast_for(url, swap)
        names = [*pods, WORKER] if len(pods) > 1 else [*pods]
        report = Report(screen, pods, names)
        if len(names) > 1:
            doing = f"Starting {', '.join(names)}: {len(names)} processes on {where}"
        else:
            doing = "Starting one pod that holds and publishes all: memory reaches no other process"
        children = stack.enter_context(Children())
        with screen.doing(doing):
            start(children, names, url, swap)
            until_ready(children, report)
        print("", *report.fleet(), "", sep="\n", flush=True)
        came = Came()
        trouble = exchange(children, report, came)
        print(*report.table(came), "", sep="\n", flush=True)
        for name in names:
            children.ask(name, publish=None)
        for name in names:
            children.wait(name, time.monotonic() + DELIVERY_TIMEOUT_S)
    print(*report.verdict(came, trouble), sep="\n", flush=True)
    return came == expected() and not trouble


def bus_from(text: str) -> str:
    """Return the bus that the user chose: the name of a server to start, or a URL.

    Raises:
        ArgumentTypeError: It is neither, or no installed adapter serves it.
    """
    if text in NAMES:
        return text
    if text.partition("://")[0] in {"memory", "inmemory"}:
        return MEMORY
    if "://" not in text:
        raise argparse.ArgumentTypeError("give nats, redis, memory, or a broker's URL such as nats://localhost:4222")
    try:
        connect(text)  # opens nothing yet
    except ConfigurationError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def main() -> int:
    """Run what the command line asks for."""
    what, _, usage = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=what, epilog=usage, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--bus", type=bus_from, default="nats", metavar="nats|redis|memory|URL", help="default: nats")
    parser.add_argument("--be", help=argparse.SUPPRESS)
    parser.add_argument("--swap", nargs="*", default=(), help=argparse.SUPPRESS)  # for tests: see it go wrong
    arguments = parser.parse_args()
    if arguments.be is not None:
        be(arguments.be, arguments.swap)
        return 0
    try:
        return 0 if run(arguments.bus, arguments.swap, Screen.here()) else 1
    except NoBrokerError as error:
        print(error, file=sys.stderr)
    except ChildFailedError as error:
        print(f"{error}\nIs the broker up, and the URL right? Without --bus this starts one.", file=sys.stderr)
    except TimeoutError:
        print(f"The processes did not start within {START_TIMEOUT_S:g} s. Try --bus memory.", file=sys.stderr)
    except KeyboardInterrupt:
        print("Interrupted; what was started is stopped.", file=sys.stderr)
        return 130
    return 2


if __name__ == "__main__":
    sys.exit(main())
