"""The job worker, a process without an event loop: `python -m backplane_server._demo.worker`.

It reads jobs from its standard input, a line of JSON each, publishes their progress, and prints a line for each that is
done.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from backplane_core import SyncPublisher, Target

__all__ = ["main"]


def work(publisher: SyncPublisher, job: dict[str, Any]) -> None:
    """Do one job: its steps take their time, and the user's sockets learn how far it is."""
    for step in range(1, job["steps"] + 1):
        time.sleep(job["pause_s"])
        percent = round(100 * step / job["steps"])
        publisher.publish(
            Target.parse(job["target"]),
            {
                "kind": "progress",
                "job": job["job"],
                "percent": percent,
                "from": "worker",
                "sent_at": time.time() * 1000,
            },
        )


def main() -> None:
    """Work until the standard input ends."""
    with SyncPublisher(os.environ["BACKPLANE_URL"], channel=os.environ["BACKPLANE_CHANNEL"]) as publisher:
        for line in sys.stdin:
            work(publisher, json.loads(line))
            sys.stdout.write("\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
