"""What the log says of a pod's link: a start, each outage and its end, at levels that match."""

from __future__ import annotations

import logging

import pytest
from backplane_core._link.outage_log import OutageLog

from tests.support.fleets import MemoryFleet

PLACE = "Transport('x://h'), channel 'c', broadcast"


@pytest.fixture
def written(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, "backplane")
    return caplog


def said(log: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    return [(record.levelno, record.getMessage()) for record in log.records]


def test_a_start_is_one_line(written: pytest.LogCaptureFixture) -> None:
    OutageLog("web-3", PLACE).live(1.0, 0)
    assert said(written) == [(logging.INFO, f"pod 'web-3': live on {PLACE}")]


def test_the_end_of_an_outage_has_the_level_of_its_beginning(written: pytest.LogCaptureFixture) -> None:
    log = OutageLog("web-3", PLACE)
    log.live(1.0, 0)
    written.clear()
    log.lost(10.0, "cut")
    log.failed(10.1, "refused", retryable=True)
    log.failed(10.2, "refused", retryable=True)
    log.live(14.2, 3)
    assert said(written) == [
        (logging.WARNING, "pod 'web-3': the link is lost, local delivery goes on: cut"),
        (logging.WARNING, "pod 'web-3': live again after 4.2 s; 3 connections were notified of a gap"),
    ]


def test_what_does_not_fix_itself_is_an_error_once_an_outage(written: pytest.LogCaptureFixture) -> None:
    log = OutageLog("web-3", PLACE)
    for start in (0.0, 100.0):
        written.clear()
        for moment in (1.0, 6.0, 12.0):
            log.failed(start + moment, "wrong password", retryable=False)
            log.failed(start + moment + 0.5, "nothing listens", retryable=True)
        (level, line), *more = said(written)
        assert level == logging.ERROR
        assert line.endswith("wrong password")
        assert more == []
        log.live(start + 20.0, 1)
        level, line = said(written)[-1]
        assert level == logging.WARNING
        assert line.endswith("after 19.0 s; 1 connection was notified of a gap")


async def test_it_counts_the_connections_that_were_notified_each_once(written: pytest.LogCaptureFixture) -> None:
    fleet = MemoryFleet("interest")
    async with fleet.stack:
        pod = await fleet.pod()
        for number in range(3):
            await fleet.socket(pod, f"c{number}")
        await pod.attach("without a callback", print)
        for _ in range(2):
            written.clear()
            fleet.broker.drop_links()
            await pod.wait_for_state("degraded", timeout_s=5)
            await pod.wait_for_state("live", timeout_s=5)
            again = [line for _, line in said(written) if "live again" in line]
            assert len(again) == 1
            assert again[0].endswith("; 3 connections were notified of a gap")
