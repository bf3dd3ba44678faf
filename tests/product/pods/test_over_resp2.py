"""What pods promise holds over RESP2 as well, where a link has two connections: the same tests, on the same Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.product.pods.test_association import (
    test_a_target_stays_heard_until_its_last_connection_leaves,
    test_many_associations_at_once_are_all_confirmed,
    test_random_churn_ends_with_exactly_the_subscriptions_that_are_held,
    test_what_is_published_right_after_associate_returned_true_arrives,
)
from tests.product.pods.test_close import (
    test_closing_sends_what_was_accepted,
    test_closing_twice_and_at_once_is_fine,
    test_connections_end_when_their_backplane_closes,
)
from tests.product.pods.test_reach import (
    test_a_hundred_publishers_at_once_keep_the_order_of_each,
    test_a_publish_on_one_pod_reaches_the_connection_on_another_and_counts_no_local_one,
    test_a_publish_on_the_owning_pod_is_delivered_once_and_its_echo_is_skipped,
    test_an_excluded_connection_is_skipped_on_every_pod,
    test_events_of_the_connection_context_manager_arrive_from_another_pod,
    test_five_thousand_events_in_a_row_arrive_once_each_and_in_order,
    test_two_backplanes_on_different_channels_of_one_broker_never_mix,
    test_two_connections_of_a_user_on_two_pods_and_a_third_in_both_targets_get_a_union_once_each,
)
from tests.product.pods.test_refusals import (
    test_an_event_over_the_limit_reaches_nobody_and_leaves_the_link_up,
    test_an_event_that_is_not_json_reaches_nobody_and_leaves_the_link_up,
)
from tests.support.fleets import Fleet

pytestmark = pytest.mark.thorough  # the same tests over another protocol

__all__ = [
    "test_a_hundred_publishers_at_once_keep_the_order_of_each",
    "test_a_publish_on_one_pod_reaches_the_connection_on_another_and_counts_no_local_one",
    "test_a_publish_on_the_owning_pod_is_delivered_once_and_its_echo_is_skipped",
    "test_a_target_stays_heard_until_its_last_connection_leaves",
    "test_an_event_over_the_limit_reaches_nobody_and_leaves_the_link_up",
    "test_an_event_that_is_not_json_reaches_nobody_and_leaves_the_link_up",
    "test_an_excluded_connection_is_skipped_on_every_pod",
    "test_closing_sends_what_was_accepted",
    "test_closing_twice_and_at_once_is_fine",
    "test_connections_end_when_their_backplane_closes",
    "test_events_of_the_connection_context_manager_arrive_from_another_pod",
    "test_five_thousand_events_in_a_row_arrive_once_each_and_in_order",
    "test_many_associations_at_once_are_all_confirmed",
    "test_random_churn_ends_with_exactly_the_subscriptions_that_are_held",
    "test_two_backplanes_on_different_channels_of_one_broker_never_mix",
    "test_two_connections_of_a_user_on_two_pods_and_a_third_in_both_targets_get_a_union_once_each",
    "test_what_is_published_right_after_associate_returned_true_arrives",
]


@pytest.fixture
async def fleet(leaves_nothing: None, redis_url: str, routing: str, channel: str) -> AsyncIterator[Fleet]:
    fleet = Fleet(f"{redis_url}?protocol=2", {"channel": channel, "routing": routing})
    async with fleet.stack:
        yield fleet
