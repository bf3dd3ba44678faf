"""A pod's deafness: the span that is told holds every moment that may have been missed, and no more than it must."""

from __future__ import annotations

from backplane_core._inbound.watermark import Watermark
from hypothesis import given, settings
from hypothesis import strategies as st

STEPS = ["beat", "lost", "live", "frame", "asked", "answered", "end", "end, settling"]


@settings(max_examples=500)
@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 3)), max_size=60))
def test_a_span_begins_where_all_was_last_known_to_be_heard(plan: list[tuple[str, int]]) -> None:
    now = 100.0
    watermark = Watermark(now)
    # What is certain: up to here nothing is missing; from here on something was asked for in vain.
    complete, asked, begun = now, None, now
    spans: list[float | None] = [begun]
    framed, deaf = False, True
    for step, passed in plan:
        now += passed
        span = spans[-1]
        if step == "beat":
            watermark.advance(now - passed)
            complete = max(complete, now - passed)
        elif step == "asked":
            watermark.asked(now)
            asked = now if asked is None else asked
            if deaf and span is None:
                spans.append(now)
        elif step == "answered":
            watermark.settled()
            asked = None
        elif step == "lost":
            watermark.lost("why")
            spans.append(min(moment for moment in (span, complete, asked) if moment is not None))
            asked, framed, deaf = None, False, True
            assert watermark.deaf_since is not None
            assert watermark.reason == "why"
        elif step == "live":
            assert watermark.live(now) is (span is not None)
            assert watermark.deaf_since is None
            deaf = False
        elif step == "frame":
            assert watermark.ends_with_frame() is (span is not None and not framed)
            framed = framed or span is not None
        else:
            settling = step == "end, settling"
            assert watermark.end(now, settling=settling) == (now if span is None else span)
            complete = now
            spans.append(now if settling else None)


def test_a_batch_that_was_read_late_does_not_shorten_the_span() -> None:
    watermark = Watermark(0.0)
    watermark.live(1.0)
    watermark.end(1.0, settling=False)
    watermark.advance(2.0)
    watermark.heard_at = 9.0  # read now, after the loop was blocked for seconds; the link died behind it at 3
    watermark.lost("cut")
    assert watermark.deaf_since == 9.0
    watermark.live(9.5)
    assert watermark.end(9.5, settling=False) == 2.0


def test_an_association_that_was_not_confirmed_yet_begins_the_span() -> None:
    watermark = Watermark(0.0)
    watermark.live(1.0)
    watermark.end(1.0, settling=False)
    watermark.asked(2.0)
    watermark.advance(5.0)
    watermark.lost("cut")
    watermark.live(6.0)
    assert watermark.end(6.0, settling=False) == 2.0


def test_a_link_that_fell_deaf_between_its_first_frame_and_its_last_confirmation_lost_what_came_meanwhile() -> None:
    watermark = Watermark(0.0)
    assert watermark.ends_with_frame()
    watermark.end(1.0, settling=False)
    assert watermark.live(5.0) is False
    watermark.lost("deaf")
    watermark.live(9.0)
    assert watermark.end(9.0, settling=False) == 1.0


def test_what_is_asked_for_between_a_links_first_frame_and_its_being_live_has_a_span_of_its_own() -> None:
    watermark = Watermark(0.0)
    assert watermark.ends_with_frame()
    assert watermark.end(1.0, settling=False) == 0.0
    watermark.asked(2.0)
    assert not watermark.ends_with_frame()
    assert watermark.live(5.0)
    assert watermark.end(5.0, settling=False) == 2.0
    watermark.asked(6.0)
    watermark.lost("cut")
    watermark.live(7.0)
    watermark.end(7.0, settling=False)
    # It falls deaf after its first frame: what was asked for later does not make the span shorter.
    watermark.lost("cut")
    watermark.ends_with_frame()
    watermark.end(8.0, settling=False)
    watermark.asked(9.0)
    watermark.lost("deaf")
    watermark.live(10.0)
    assert watermark.end(10.0, settling=False) == 8.0
