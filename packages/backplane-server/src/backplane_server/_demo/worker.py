"""The job worker, a process without an event loop: `python -m backplane_server._demo.worker`.

It reads jobs from standard input, one JSON object per line, publishes their progress, and prints a line for each that
is done.
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
    """Do one job: publish its progress after each step."""
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
    """Work until standard input ends."""
    with SyncPublisher(os.environ["BACKPLANE_URL"], channel=os.environ["BACKPLANE_CHANNEL"]) as publisher:
        for line in sys.stdin:
            work(publisher, json.loads(line))
            sys.stdout.write("\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
