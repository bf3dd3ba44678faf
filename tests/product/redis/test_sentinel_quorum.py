"""What a link concludes from what its sentinels say: who the master is, and until when that is certain."""

from __future__ import annotations

from backplane_redis._sentinel.quorum import NEWS_S, Answer, Views
from backplane_redis._url import Address

OLD: Address = ("old", 1)
NEW: Address = ("new", 1)


def linked(count: int = 3, epoch: int = 4) -> Views:
    """A link to the old master, confirmed by all at 10."""
    views = Views(count, 0.0)
    for number in range(count):
        views.heard(number, Answer(10.0, OLD, epoch))
    views.chosen(OLD)
    return views


def test_a_master_is_certain_until_shortly_before_a_majority_confirmed_it() -> None:
    views = linked()
    assert views.sure_until == 10.0 - NEWS_S
    views.heard(0, Answer(20.0, OLD, 4))
    assert views.sure_until == 10.0 - NEWS_S, "one alone may be cut off from the others"
    views.heard(1, None)
    views.heard(2, Answer(19.0, OLD, 4))
    assert views.sure_until == 19.0 - NEWS_S
    views.heard(0, None)
    views.heard(2, None)
    assert views.sure_until == 19.0 - NEWS_S, "what was confirmed stays a fact"
    assert views.moved_to is None


def test_of_two_sentinels_one_is_no_majority() -> None:
    views = Views(2, 5.0)
    views.heard(0, Answer(10.0, OLD, 4))
    views.chosen(OLD)
    assert views.sure_until == 5.0


def test_the_newest_word_moves_a_link_whoever_says_it() -> None:
    views = linked()
    views.heard(2, Answer(11.0, NEW, 5))
    assert views.newest == NEW
    assert views.moved_to == NEW


def test_old_news_of_a_sentinel_that_was_cut_off_moves_nobody() -> None:
    views = linked()
    views.heard(2, Answer(11.0, NEW, 3))
    assert views.moved_to is None
    views.heard(0, None)
    views.heard(1, None)
    assert views.newest == NEW
    assert views.moved_to is None, "alone too: the link is at a later epoch"


def test_a_service_that_was_made_anew_moves_the_link_once_most_say_so() -> None:
    views = linked()
    views.heard(0, Answer(11.0, NEW, 0))
    assert views.moved_to is None
    views.heard(1, Answer(11.0, NEW, 0))
    assert views.moved_to is None, "the third still tells of a later epoch, and may be right"
    views.heard(2, Answer(11.0, NEW, 0))
    assert views.moved_to == NEW


def test_a_service_that_is_forgotten_moves_nobody() -> None:
    views = linked()
    for number in range(3):
        views.heard(number, Answer(11.0, None))
    assert views.newest is None
    assert views.moved_to is None
    assert views.sure_until == 10.0 - NEWS_S
