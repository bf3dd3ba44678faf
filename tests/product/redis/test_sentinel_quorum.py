"""What a link concludes from what its sentinels say: who the master is, and until when that is certain."""

from __future__ import annotations

from backplane_redis._sentinel.quorum import NEWS_S, Answer, SentinelQuorum
from backplane_redis._url import Address

OLD: Address = ("old", 1)
NEW: Address = ("new", 1)


def linked(count: int = 3, epoch: int = 4) -> SentinelQuorum:
    """A link to the old master, confirmed by all at 10."""
    quorum = SentinelQuorum(count, 0.0)
    for number in range(count):
        quorum.record(number, Answer(10.0, OLD, epoch))
    quorum.link_to(OLD)
    return quorum


def test_a_master_is_certain_until_shortly_before_a_majority_confirmed_it() -> None:
    quorum = linked()
    assert quorum.sure_until == 10.0 - NEWS_S
    quorum.record(0, Answer(20.0, OLD, 4))
    assert quorum.sure_until == 10.0 - NEWS_S, "one alone may be cut off from the others"
    quorum.record(1, None)
    quorum.record(2, Answer(19.0, OLD, 4))
    assert quorum.sure_until == 19.0 - NEWS_S
    quorum.record(0, None)
    quorum.record(2, None)
    assert quorum.sure_until == 19.0 - NEWS_S, "what was confirmed stays a fact"
    assert quorum.replaced_by is None


def test_of_two_sentinels_one_is_no_majority() -> None:
    quorum = SentinelQuorum(2, 5.0)
    quorum.record(0, Answer(10.0, OLD, 4))
    quorum.link_to(OLD)
    assert quorum.sure_until == 5.0


def test_the_newest_word_moves_a_link_whoever_says_it() -> None:
    quorum = linked()
    quorum.record(2, Answer(11.0, NEW, 5))
    assert quorum.newest == NEW
    assert quorum.replaced_by == NEW


def test_old_news_of_a_sentinel_that_was_cut_off_moves_nobody() -> None:
    quorum = linked()
    quorum.record(2, Answer(11.0, NEW, 3))
    assert quorum.replaced_by is None
    quorum.record(0, None)
    quorum.record(1, None)
    assert quorum.newest == NEW
    assert quorum.replaced_by is None, "alone too: the link is at a later epoch"


def test_a_service_that_was_made_anew_moves_the_link_once_most_say_so() -> None:
    quorum = linked()
    quorum.record(0, Answer(11.0, NEW, 0))
    assert quorum.replaced_by is None
    quorum.record(1, Answer(11.0, NEW, 0))
    assert quorum.replaced_by is None, "the third still tells of a later epoch, and may be right"
    quorum.record(2, Answer(11.0, NEW, 0))
    assert quorum.replaced_by == NEW


def test_a_service_that_is_forgotten_moves_nobody() -> None:
    quorum = linked()
    for number in range(3):
        quorum.record(number, Answer(11.0, None))
    assert quorum.newest is None
    assert quorum.replaced_by is None
    assert quorum.sure_until == 10.0 - NEWS_S
