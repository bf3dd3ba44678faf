"""Checks on logs, for transports that keep one; a transport without a log passes them all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, cast

from backplane_core.testing._kit.index import link_check
from backplane_core.testing._kit.open_link import OpenLink, expect_same, new_channel, open_links
from backplane_core.testing._kit.pods import expect_equal
from backplane_core.testing._kit.waiting import expect_return
from backplane_core.testing.harness import ContractError, Harness
from backplane_core.transport import DurableLink, Frame, Lost

CURSOR: Final = re.compile(r"[A-Za-z0-9:/_-]{1,64}")
READ: Final = "DurableLink.read: a page holds what follows on `after`, or what stands before `before`, in order"


@link_check
async def check_a_log_is_read_in_pages(harness: Harness) -> None:
    """A page of a log has the entries behind a cursor, or the last ones before it, in order, with their cursors."""
    if not harness.make().traits.durable:
        return
    channel, expected = new_channel(), [b"%d" % number for number in range(10)]
    async with open_links(harness, 2) as (sender, reader):
        begun = await expect_return(_durable(reader).resume([channel], {}), "resume()", "DurableLink.resume")
        await sender.send(*[(channel, payload) for payload in expected])
        await reader.wait_for_frames(channel, len(expected))
        pages: list[Frame] = []
        after = begun[channel]
        while page := _entries(await _read(sender, channel, 4, after=after)):
            pages += page
            after = _cursors(page)[-1]
            if len(pages) > len(expected):
                break
        expect_same([frame[1] for frame in pages], expected, READ)
        cursors = _cursors(pages)
        expect_equal(cursors, reader.cursors[channel], "the cursors of a page, as of `receive`", READ)
        expect_equal([*filter(CURSOR.fullmatch, cursors)], cursors, "cursors of [A-Za-z0-9:/_-]", READ)
        for limit, before, place in ((3, None, 7), (3, cursors[5], 2), (20, cursors[2], 0)):
            page = _entries(await _read(sender, channel, limit, before=before))
            whole = expected[place : place + limit] if before is None else expected[place : cursors.index(before)]
            # It may be shorter, at its beginning.
            expect_same([frame[1] for frame in page], whole[len(whole) - len(page) :], READ)
            expect_equal(bool(page), bool(whole), "a page has something if there is something", READ)
        for first in (cursors[0], begun[channel]):
            expect_equal([*await _read(sender, channel, 5, before=first)], [], "what is before all", READ)
        expect_equal(_entries(await _read(sender, new_channel(), 5)), [], "what a log has that was never used", READ)


@link_check
async def check_a_cursor_that_no_log_gave_is_reported(harness: Harness) -> None:
    """A page behind a cursor that is none of the log is one `Lost` of the cause `epoch`, whatever the text."""
    if not harness.make().traits.durable:
        return
    async with open_links(harness, 2) as (sender, other):
        channel = new_channel()
        begun = await expect_return(_durable(other).resume([channel], {}), "resume()", "DurableLink.resume")
        await sender.send(*[(channel, b"%d" % number) for number in range(3)])
        await other.wait_for_frames(channel, 3)
        for cursor in ("none", "-", "9" * 64, "1-1-1/1", *other.cursors[channel]):
            # Of a log that was never used, so that it has none of these.
            for page in (
                await _read(sender, new_channel(), 5, after=cursor),
                await _read(sender, new_channel(), 5, before=cursor),
            ):
                causes = [item.cause if isinstance(item, Lost) else "a frame" for item in page]
                expect_equal(causes, ["epoch"], "what is read at a cursor that the log never gave", READ)
        expect_equal(_lost(await _read(sender, channel, 5, after=begun[channel])), [], "what is lost", READ)


def _durable(link: OpenLink) -> DurableLink:
    return cast("DurableLink", link.link)


async def _read(
    link: OpenLink, channel: str, limit: int, *, after: str | None = None, before: str | None = None
) -> Sequence[Frame | Lost]:
    page = await expect_return(_durable(link).read(channel, limit, after=after, before=before), "read()", READ)
    if len(_entries(page)) > limit:
        raise ContractError(f"at most {limit} entries", str(len(page)), READ)
    return page


def _entries(page: Sequence[Frame | Lost]) -> list[Frame]:
    return [item for item in page if not isinstance(item, Lost)]


def _cursors(frames: Sequence[Frame]) -> list[str]:
    return [frame[2] for frame in frames if len(frame) == 3]  # noqa: PLR2004 -- channel, payload, cursor


def _lost(page: Sequence[Frame | Lost]) -> list[Lost]:
    return [item for item in page if isinstance(item, Lost)]
