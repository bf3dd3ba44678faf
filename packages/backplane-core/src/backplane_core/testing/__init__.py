"""The contract kit, a broker in memory.

    @pytest.mark.parametrize("check", LINK_CHECKS, ids=lambda check: check.__name__)
    async def test_the_transport_keeps_its_promises(check):
        await check(MyHarness())

Nothing here imports pytest: any runner, or a loop, does.
"""

from typing import Final

from backplane_core.testing._checks import (
    cancel,
    closing,
    delivery,
    fleet,
    fleet_outage,
    load,
    outage,
    subscription,
)
from backplane_core.testing._checks.cancel import (
    check_a_cancelled_open_leaves_nothing,
    check_a_cancelled_open_without_a_broker_leaves_nothing,
    check_a_cancelled_receive_hides_nothing,
    check_a_cancelled_send_confuses_nothing,
    check_a_cancelled_subscribe_confuses_nothing,
    check_a_cancelled_unsubscribe_confuses_nothing,
)
from backplane_core.testing._checks.closing import (
    check_a_dead_link_closes,
    check_aclose_ends_pending_calls,
    check_aclose_leaves_nothing,
    check_aclose_returns_though_frames_are_unread,
    check_leaving_waits_for_the_brokers_word,
    check_making_a_transport_opens_nothing,
    check_nothing_arrives_after_aclose,
    check_traits_are_sane,
)
from backplane_core.testing._checks.delivery import (
    check_a_batch_arrives_in_few_lists,
    check_a_send_that_nobody_hears_is_confirmed,
    check_an_answer_comes_behind_what_was_delivered,
    check_channels_never_mix,
    check_every_legal_name_works,
    check_every_link_hears_every_frame,
    check_frames_arrive_in_order,
    check_own_frames_come_back,
    check_payloads_arrive_unchanged,
    check_send_returns_once_the_broker_has_it,
    check_the_largest_payload_arrives,
)
from backplane_core.testing._checks.fleet import (
    check_a_confirmed_association_is_heard,
    check_a_connection_iterates_its_events,
    check_a_dissociated_target_is_not_heard,
    check_a_pod_hears_itself,
    check_a_publish_reaches_every_pod_once,
    check_a_union_reaches_each_connection_once,
    check_closed_pods_leave_nothing,
    check_every_kind_of_target_is_reached,
    check_everyone_reaches_all,
    check_excluded_connections_get_nothing,
    check_fleets_on_one_broker_never_mix,
    check_thousands_arrive_in_order,
)
from backplane_core.testing._checks.fleet_outage import (
    check_a_pod_without_a_broker_raises,
    check_an_outage_is_told,
    check_every_target_is_heard_again,
    check_pods_close_during_an_outage,
    check_what_an_outage_costs_lies_in_a_gap,
    check_what_was_unconfirmed_is_sent_again,
)
from backplane_core.testing._checks.load import (
    check_a_slow_consumer_is_not_skipped,
    check_the_loop_keeps_turning,
)
from backplane_core.testing._checks.outage import (
    check_a_cut_ends_receive,
    check_a_dead_link_stays_dead,
    check_a_send_to_a_cut_broker_is_not_confirmed,
    check_calls_on_a_dead_link_raise,
    check_calls_pending_at_the_cut_end,
    check_open_without_a_broker_raises,
    check_open_works_after_an_outage,
)
from backplane_core.testing._checks.subscription import (
    check_a_channel_can_be_heard_again,
    check_a_second_subscriber_changes_nothing_for_the_first,
    check_calls_may_overlap,
    check_empty_calls_change_nothing,
    check_many_channels_in_one_call,
    check_subscribe_returns_once_heard,
    check_unsubscribe_spares_other_channels,
    check_unsubscribe_stops_its_channel,
)
from backplane_core.testing.faulty import Faults, FaultyTransport
from backplane_core.testing.harness import ContractError, FleetCheck, Harness, LinkCheck
from backplane_core.testing.memory import MemoryBroker, MemoryTransport

__all__ = [  # noqa: RUF022 -- plainly sorted, as everywhere here
    "ContractError",
    "FLEET_CHECKS",
    "Faults",
    "FaultyTransport",
    "FleetCheck",
    "Harness",
    "LINK_CHECKS",
    "LinkCheck",
    "MemoryBroker",
    "MemoryTransport",
    "OUTAGE_CHECKS",
    "check_a_batch_arrives_in_few_lists",
    "check_a_cancelled_open_leaves_nothing",
    "check_a_cancelled_open_without_a_broker_leaves_nothing",
    "check_a_cancelled_receive_hides_nothing",
    "check_a_cancelled_send_confuses_nothing",
    "check_a_cancelled_subscribe_confuses_nothing",
    "check_a_cancelled_unsubscribe_confuses_nothing",
    "check_a_channel_can_be_heard_again",
    "check_a_confirmed_association_is_heard",
    "check_a_connection_iterates_its_events",
    "check_a_cut_ends_receive",
    "check_a_dead_link_closes",
    "check_a_dead_link_stays_dead",
    "check_a_dissociated_target_is_not_heard",
    "check_a_pod_hears_itself",
    "check_a_pod_without_a_broker_raises",
    "check_a_publish_reaches_every_pod_once",
    "check_a_second_subscriber_changes_nothing_for_the_first",
    "check_a_send_that_nobody_hears_is_confirmed",
    "check_a_send_to_a_cut_broker_is_not_confirmed",
    "check_a_slow_consumer_is_not_skipped",
    "check_a_union_reaches_each_connection_once",
    "check_aclose_ends_pending_calls",
    "check_aclose_leaves_nothing",
    "check_aclose_returns_though_frames_are_unread",
    "check_an_answer_comes_behind_what_was_delivered",
    "check_an_outage_is_told",
    "check_calls_may_overlap",
    "check_calls_on_a_dead_link_raise",
    "check_calls_pending_at_the_cut_end",
    "check_channels_never_mix",
    "check_closed_pods_leave_nothing",
    "check_empty_calls_change_nothing",
    "check_every_kind_of_target_is_reached",
    "check_every_legal_name_works",
    "check_every_link_hears_every_frame",
    "check_every_target_is_heard_again",
    "check_everyone_reaches_all",
    "check_excluded_connections_get_nothing",
    "check_fleets_on_one_broker_never_mix",
    "check_frames_arrive_in_order",
    "check_leaving_waits_for_the_brokers_word",
    "check_making_a_transport_opens_nothing",
    "check_many_channels_in_one_call",
    "check_nothing_arrives_after_aclose",
    "check_open_without_a_broker_raises",
    "check_open_works_after_an_outage",
    "check_own_frames_come_back",
    "check_payloads_arrive_unchanged",
    "check_pods_close_during_an_outage",
    "check_send_returns_once_the_broker_has_it",
    "check_subscribe_returns_once_heard",
    "check_the_largest_payload_arrives",
    "check_the_loop_keeps_turning",
    "check_thousands_arrive_in_order",
    "check_traits_are_sane",
    "check_unsubscribe_spares_other_channels",
    "check_unsubscribe_stops_its_channel",
    "check_what_an_outage_costs_lies_in_a_gap",
    "check_what_was_unconfirmed_is_sent_again",
]

LINK_CHECKS: Final[tuple[LinkCheck, ...]] = (
    *delivery.CHECKS,
    *subscription.CHECKS,
    *closing.CHECKS,
    *cancel.CHECKS,
    *load.CHECKS,
    *outage.CHECKS,
)
"""The checks on the seam: `await check(harness)`."""

FLEET_CHECKS: Final[tuple[FleetCheck, ...]] = (*fleet.CHECKS, *fleet_outage.CHECKS)
"""The checks on backplanes over the transport: `await check(harness, routing)`, for both routings."""

OUTAGE_CHECKS: Final[frozenset[LinkCheck | FleetCheck]] = frozenset(
    (
        *outage.CHECKS,
        *fleet_outage.CHECKS,
        check_making_a_transport_opens_nothing,
        check_a_dead_link_closes,
        check_a_cancelled_open_without_a_broker_leaves_nothing,
    )
)
"""Those of both that cut the broker; all others may share it with anybody."""
