"""Which broken transport is caught by which checks: `MUTANTS`."""

from __future__ import annotations

from attrs import frozen
from backplane_core import Transport
from backplane_core.testing import MemoryBroker

from tests.product.contract.broken_delivery import (
    ConfirmsByTheOrderOfCalls,
    ConfirmsEqualFramesAtOnce,
    ConfirmsTooEarly,
    CutsNames,
    CutsPayloads,
    DeliversBehindAnswers,
    DropsEverySeventh,
    Duplicates,
    EndsPayloadsAtNul,
    FoldsCase,
    HasNoEcho,
    HearsAllChannels,
    HearsOnlyItself,
    HearsPrefixes,
    HearsTwiceWhenBack,
    IgnoresUnsubscribe,
    LosesAFrameAfterUnsubscribe,
    MergesEqualFrames,
    SharesFramesOut,
    SkipsEmptyPayloads,
    SubscribesInsteadOfBefore,
    SubscribesTooEarly,
    SubscribesToSome,
    SwapsNeighbours,
    TakesPayloadsForText,
    UnsubscribesAllOfNothing,
    UnsubscribesOthers,
    WaitsForEachFrame,
    WaitsForTheLastAlone,
    WantsListeners,
    YieldsByteArrays,
    YieldsOneByOne,
)
from tests.product.contract.broken_lateness import (
    EndsTheNextWhenConfirmedLate,
    GivesUpWhenConfirmedLate,
    SendsAgainWhenConfirmedLate,
)
from tests.product.contract.broken_lives import (
    BlocksTheLoop,
    ClosesOnceAllIsRead,
    ComesBackLater,
    ConfusedByACancelledCall,
    ConnectsWhenMade,
    DropsWhenTheConsumerIsSlow,
    EndsWithoutAWord,
    HangsInAclose,
    HangsInOpenWhileCut,
    HangsInSendWhenDead,
    HangsWhenDead,
    HasNoProof,
    HasOneReceiveAlone,
    HasOtherTraits,
    HidesThatItLeaves,
    IsNotClosed,
    LeaksATask,
    LeaksATaskWhenOpenFails,
    LeavesAnErrorWhenOpenIsCancelled,
    LeavesReceiveHanging,
    LeavesUnasked,
    NeverTriesAgain,
    ProvesTooMuch,
    RaisesForeignErrors,
    RaisesForeignErrorsInOpen,
    RaisesInAcloseWhenDead,
    Resurrects,
    SaysThatTryingAgainIsUseless,
    SendsAgainWhenDead,
    SwallowsSendsWhenDead,
    TakesItsProofBack,
)
from tests.product.contract.broken_logs import (
    EndsWhatIsTaken,
    ForgetsToExtend,
    HandsOutTwice,
    KeepsWhatIsFinished,
    TakesAnyCursor,
    TurnsPagesRound,
)
from tests.product.contract.sound import Sound, SoundTransport


@frozen
class Mutant:
    """One broken transport.

    Args:
        fault: Its class, of links or of transports.
        caught_by: The checks that must catch it.
        routing: For those on fleets.
    """

    fault: type[Sound | SoundTransport]
    caught_by: tuple[str, ...]
    routing: str = "broadcast"

    def transport(self, broker: MemoryBroker) -> Transport:
        if issubclass(self.fault, SoundTransport):
            return self.fault(broker)
        return SoundTransport(broker, self.fault)


MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        DropsEverySeventh,
        ("check_frames_arrive_in_order", "check_calls_may_overlap", "check_thousands_arrive_in_order"),
    ),
    Mutant(SwapsNeighbours, ("check_frames_arrive_in_order",)),
    Mutant(Duplicates, ("check_frames_arrive_in_order", "check_own_frames_come_back")),
    Mutant(MergesEqualFrames, ("check_equal_frames_all_arrive",)),
    Mutant(WaitsForEachFrame, ("check_equal_frames_all_arrive",)),
    Mutant(ConfirmsEqualFramesAtOnce, ("check_equal_frames_all_arrive",)),
    Mutant(CutsPayloads, ("check_the_largest_payload_arrives",)),
    Mutant(EndsPayloadsAtNul, ("check_payloads_arrive_unchanged",)),
    Mutant(TakesPayloadsForText, ("check_payloads_arrive_unchanged",)),
    Mutant(SkipsEmptyPayloads, ("check_payloads_arrive_unchanged",)),
    Mutant(YieldsByteArrays, ("check_payloads_arrive_unchanged",)),
    Mutant(DeliversBehindAnswers, ("check_a_confirmation_follows_earlier_frames",)),
    Mutant(YieldsOneByOne, ("check_a_batch_arrives_in_few_lists",)),
    Mutant(HasNoEcho, ("check_own_frames_come_back", "check_a_pod_hears_itself")),
    Mutant(
        HearsOnlyItself,
        (
            "check_frames_arrive_in_order",
            "check_a_publish_reaches_every_pod_once",
            "check_every_kind_of_target_is_reached",
            "check_a_union_reaches_each_connection_once",
            "check_excluded_connections_get_nothing",
            "check_an_intersection_reaches_those_with_all_targets",
            "check_everyone_reaches_every_connection",
            "check_every_pod_answers",
            "check_who_is_present_is_heard",
            "check_an_order_keeps_its_place",
            "check_a_confirmed_association_is_heard",
            "check_a_dissociated_target_is_not_heard",
            "check_a_connection_iterates_its_events",
            "check_closed_pods_leave_nothing",
        ),
    ),
    Mutant(SharesFramesOut, ("check_every_link_hears_every_frame",)),
    Mutant(FoldsCase, ("check_channels_never_mix",)),
    Mutant(HearsPrefixes, ("check_channels_never_mix",)),
    Mutant(CutsNames, ("check_every_legal_name_works",)),
    Mutant(HearsAllChannels, ("check_channels_never_mix", "check_fleets_on_one_broker_never_mix")),
    Mutant(
        ConfirmsTooEarly, ("check_send_returns_once_the_broker_has_it", "check_a_send_to_a_cut_broker_is_not_confirmed")
    ),
    Mutant(WantsListeners, ("check_a_send_that_nobody_hears_is_confirmed",)),
    Mutant(
        SubscribesTooEarly,
        ("check_subscribe_returns_once_heard", "check_a_confirmed_association_is_heard"),
        routing="interest",
    ),
    Mutant(SubscribesToSome, ("check_many_channels_in_one_call",)),
    Mutant(SubscribesToSome, ("check_every_target_is_heard_again",), routing="interest"),
    Mutant(WaitsForTheLastAlone, ("check_each_call_waits_for_its_own_channels", "check_many_channels_in_one_call")),
    Mutant(ConfirmsByTheOrderOfCalls, ("check_each_call_waits_for_its_own_channels",)),
    Mutant(SubscribesInsteadOfBefore, ("check_calls_may_overlap", "check_a_cancelled_subscribe_confuses_nothing")),
    Mutant(HearsTwiceWhenBack, ("check_a_channel_can_be_heard_again",)),
    Mutant(IgnoresUnsubscribe, ("check_unsubscribe_stops_its_channel", "check_many_channels_in_one_call")),
    Mutant(UnsubscribesAllOfNothing, ("check_empty_calls_change_nothing",)),
    Mutant(LosesAFrameAfterUnsubscribe, ("check_unsubscribe_spares_other_channels",)),
    Mutant(UnsubscribesOthers, ("check_a_second_subscriber_changes_nothing_for_the_first",)),
    Mutant(
        LeaksATask,
        ("check_aclose_leaves_nothing", "check_closed_pods_leave_nothing", "check_pods_close_during_an_outage"),
    ),
    Mutant(LeavesUnasked, ("check_leaving_waits_for_the_broker",)),
    Mutant(HangsInAclose, ("check_aclose_leaves_nothing", "check_a_dead_link_closes")),
    Mutant(RaisesInAcloseWhenDead, ("check_a_dead_link_closes",)),
    Mutant(IsNotClosed, ("check_nothing_arrives_after_aclose", "check_aclose_ends_pending_calls")),
    Mutant(LeavesReceiveHanging, ("check_aclose_ends_pending_calls",)),
    Mutant(ClosesOnceAllIsRead, ("check_aclose_returns_with_frames_unread",)),
    Mutant(BlocksTheLoop, ("check_the_loop_keeps_turning",)),
    Mutant(DropsWhenTheConsumerIsSlow, ("check_a_slow_consumer_is_not_skipped",)),
    Mutant(
        ConfusedByACancelledCall,
        (
            "check_a_cancelled_subscribe_confuses_nothing",
            "check_a_cancelled_unsubscribe_confuses_nothing",
            "check_a_cancelled_send_confuses_nothing",
        ),
    ),
    Mutant(GivesUpWhenConfirmedLate, ("check_a_late_confirmation_is_waited_for",)),
    Mutant(SendsAgainWhenConfirmedLate, ("check_a_late_confirmation_is_waited_for",)),
    Mutant(EndsTheNextWhenConfirmedLate, ("check_a_late_confirmation_ends_no_other_send",)),
    Mutant(HasOneReceiveAlone, ("check_a_cancelled_receive_hides_nothing",)),
    Mutant(HangsWhenDead, ("check_a_cut_ends_receive",)),
    Mutant(EndsWithoutAWord, ("check_a_cut_ends_receive",)),
    Mutant(
        Resurrects,
        (
            "check_a_cut_ends_receive",
            "check_an_outage_is_reported",
            "check_what_an_outage_costs_is_covered_by_a_gap",
            "check_unconfirmed_events_are_sent_again",
            "check_every_target_is_heard_again",
        ),
    ),
    Mutant(ComesBackLater, ("check_a_dead_link_stays_dead",)),
    Mutant(SendsAgainWhenDead, ("check_a_dead_link_stays_dead", "check_calls_on_a_dead_link_raise")),
    Mutant(RaisesForeignErrors, ("check_calls_on_a_dead_link_raise", "check_a_send_to_a_cut_broker_is_not_confirmed")),
    Mutant(HangsInSendWhenDead, ("check_calls_pending_at_the_cut_end", "check_calls_on_a_dead_link_raise")),
    Mutant(
        SwallowsSendsWhenDead, ("check_a_send_to_a_cut_broker_is_not_confirmed", "check_calls_on_a_dead_link_raise")
    ),
    Mutant(HasOtherTraits, ("check_traits_are_sane",)),
    Mutant(HasNoProof, ("check_traits_hold",)),
    Mutant(HidesThatItLeaves, ("check_traits_hold",)),
    Mutant(ProvesTooMuch, ("check_what_is_proven_was_yielded",)),
    Mutant(TakesItsProofBack, ("check_what_is_proven_was_yielded",)),
    Mutant(ConnectsWhenMade, ("check_making_a_transport_opens_nothing",)),
    Mutant(HangsInOpenWhileCut, ("check_open_without_a_broker_raises", "check_open_works_after_an_outage")),
    Mutant(RaisesForeignErrorsInOpen, ("check_open_without_a_broker_raises",)),
    Mutant(SaysThatTryingAgainIsUseless, ("check_open_without_a_broker_raises",)),
    Mutant(
        LeaksATaskWhenOpenFails,
        (
            "check_open_without_a_broker_raises",
            "check_a_cancelled_open_leaves_nothing",
            "check_a_pod_without_a_broker_raises",
        ),
    ),
    Mutant(LeavesAnErrorWhenOpenIsCancelled, ("check_a_cancelled_open_without_a_broker_leaves_nothing",)),
    Mutant(TurnsPagesRound, ("check_a_log_is_read_in_pages",)),
    Mutant(TakesAnyCursor, ("check_a_cursor_that_no_log_gave_is_reported",)),
    Mutant(HandsOutTwice, ("check_each_job_goes_to_one_worker",)),
    Mutant(ForgetsToExtend, ("check_an_extended_job_stays_with_its_worker",)),
    Mutant(KeepsWhatIsFinished, ("check_an_extended_job_stays_with_its_worker",)),
    Mutant(EndsWhatIsTaken, ("check_an_unfinished_job_comes_again",)),
    Mutant(NeverTriesAgain, ("check_open_works_after_an_outage",)),
)
