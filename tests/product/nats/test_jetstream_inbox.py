"""What a link to JetStream says of how far it has read."""

from __future__ import annotations

from backplane_nats._jetstream.inbox import LogInbox


def test_a_new_link_has_read_nothing_yet_of_what_came_since_the_last_one() -> None:
    inbox = LogInbox()
    assert inbox.received_until == float("-inf")
    inbox.complete(5.0)
    assert inbox.received_until == 5.0
