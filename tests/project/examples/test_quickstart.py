"""The quickstart prints what its connection got, over every bus."""

from __future__ import annotations

from backplane_testservers import Broker

from tests.project.examples.running import Example

PRINTED = '{"kind":"job_status","state":"done"}\n{"kind":"announcement","text":"Cake at five"}\n'


def test_the_quickstart_needs_no_broker() -> None:
    done = Example("quickstart.py").run()
    assert (done.returncode, done.stdout, done.stderr) == (0, PRINTED, "")


def test_the_quickstart_runs_over_a_broker(shared_broker: Broker) -> None:
    done = Example("quickstart.py").run(shared_broker.url)
    assert (done.returncode, done.stdout, done.stderr) == (0, PRINTED, "")
