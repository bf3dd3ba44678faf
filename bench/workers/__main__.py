"""Starts a worker: `python -m bench.workers NAME ROLE LOOP JOB`; `bench.processes` does so."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from importlib import import_module
from typing import Final

import cattrs

from bench.libraries import loop_factory
from bench.workers.worker import Worker

WORKERS: Final = {
    **{name: f"bench.measures.{name}" for name in ("interest", "latency", "memory")},
    **{name: f"bench.workers.{name}" for name in ("fanout", "fleet", "sockets", "throughput")},
}
"""Modules with a `WORKER`, by name. Only the one that is asked for is imported."""


def _main(name: str, role: str, loop: str, job: str) -> None:
    if name not in WORKERS:
        raise SystemExit(f"there is no worker {name!r}; there are {', '.join(sorted(WORKERS))}")
    worker: Worker = import_module(WORKERS[name]).WORKER
    logging.getLogger("backplane").setLevel(logging.CRITICAL)  # it would report each link that a measurement cuts
    with asyncio.Runner(loop_factory=loop_factory(loop)) as runner:
        runner.run(worker.roles[role](cattrs.structure(json.loads(job), worker.job)))


if __name__ == "__main__":
    _main(*sys.argv[1:])
