"""Options: typed, bounded, and an error that says what is allowed."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from attrs import fields
from backplane_core import ConfigurationError, InMemoryBackplane, Publisher, SyncPublisher, connect
from backplane_core.options import Settings

from tests.support.texts import stable_id

DEFAULTS = {
    "connect_timeout_s": 5.0,
    "wait": True,
    "probe_interval_s": 15.0,
    "beat_s": 1.0,
    "outbox_max_messages": 100_000,
    "outbox_overflow": "drop_newest",
    "outbox_max_bytes": 32 * 1024 * 1024,
    "publish_wait_s": 0.005,
    "resend_s": 10.0,
    "resend_max_bytes": 32 * 1024 * 1024,
    "resume_max_bytes": 64 * 1024 * 1024,
    "resume_concurrency": 8,
    "event_id_window_s": 120.0,
    "event_ids_max": 65_536,
    "stale_after_s": 10.0,
    "max_event_bytes": 1024 * 1024,
    "origin_ttl_s": 300.0,
    "unnumbered_pods": False,
    "member_ttl_s": None,
    "presence_linger_s": 5.0,
    "remote_control": True,
    "routing": "broadcast",
    "lanes": 1,
    "channel": "backplane",
    "pod_name": None,
    "signing_keys": None,
}


NOT_TEXT: list[Any] = [None, [], b"1", object()]


def test_the_defaults_are_the_ones_that_are_written_down() -> None:
    settings = Settings.of({})
    assert {name: getattr(settings, name) for name in DEFAULTS} == DEFAULTS
    assert {attribute.name for attribute in fields(Settings)} == set(DEFAULTS)


def test_an_unknown_option_names_all_that_are_allowed() -> None:
    with pytest.raises(ConfigurationError) as error:
        InMemoryBackplane(prob_interval_s=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue] -- the mistake it is about
    for name in (*DEFAULTS, "on_gap", "on_state", "observer", "'prob_interval_s'"):
        assert name in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(name, value) for name in ("connect_timeout_s", "beat_s", "origin_ttl_s") for value in (0, -1)],
        *[(name, float("nan")) for name in ("connect_timeout_s", "probe_interval_s", "publish_wait_s")],
        *[(name, float("inf")) for name in ("connect_timeout_s", "probe_interval_s", "publish_wait_s")],
        *[(name, value) for name in ("beat_s", "lanes", "channel", "routing") for value in NOT_TEXT],
        *[
            (name, value)
            for name in ("outbox_max_messages", "lanes", "max_event_bytes")
            for value in (0, -1, 1.5, True)
        ],
        *[(name, value) for name in ("outbox_max_bytes", "lanes", "connect_timeout_s") for value in ("", "x", "1_0x")],
        ("connect_timeout_s", True),
        ("probe_interval_s", 0.4),
        ("publish_wait_s", -0.001),
        ("outbox_max_bytes", 1023),
        ("routing", "Broadcast"),
        ("routing", "unicast"),
        *[("channel", value) for value in ("", ":", "a:", ":a", "a::b", "a b", "a.b", "a*", "a>", "a@b", "ä", "a\n")],
        ("channel", "x" * 201),
    ],
    ids=stable_id,
)
def test_a_wrong_value_names_the_option_and_what_is_allowed(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError) as error:
        Settings.of({name: value})
    assert name in str(error.value)
    assert error.value.__cause__ is None


@pytest.mark.parametrize(
    ("name", "value", "taken"),
    [
        ("probe_interval_s", 0.5, 0.5),
        ("probe_interval_s", "2.5", 2.5),
        ("connect_timeout_s", 1, 1.0),
        ("publish_wait_s", 0, 0.0),
        ("lanes", "4", 4),
        ("outbox_max_messages", 1, 1),
        ("channel", "smooth-operator:backplane", "smooth-operator:backplane"),
        ("channel", "x" * 200, "x" * 200),
        ("routing", "interest", "interest"),
    ],
    ids=stable_id,
)
def test_a_right_value_is_taken_also_as_text_from_an_environment(name: str, value: Any, taken: Any) -> None:
    assert getattr(Settings.of({name: value}), name) == taken
    assert type(getattr(Settings.of({name: value}), name)) is type(taken)


def test_lanes_and_interest_routing_exclude_each_other() -> None:
    with pytest.raises(ConfigurationError, match="lanes"):
        Settings.of({"routing": "interest", "lanes": 2})


def test_callbacks_are_taken_from_the_options() -> None:
    seen: list[Any] = []
    backplane = InMemoryBackplane(on_state=seen.append, observer=seen.append, on_gap=seen.append)
    assert "live" in seen
    assert backplane.on_gap is not None


async def notice(_: object) -> None:
    """A mistake: nobody would await what it returns."""


class Notices:
    """Another one."""

    async def __call__(self, _: object) -> None:
        """Do nothing."""


@pytest.mark.parametrize("name", ["on_gap", "on_state", "observer"])
@pytest.mark.parametrize("callback", [5, "print", notice, Notices()], ids=["number", "text", "async", "async object"])
async def test_what_can_not_be_called_in_the_loop_is_no_callback(name: str, callback: Any) -> None:
    options: dict[str, Any] = {name: callback}
    for make in (
        connect,
        partial(connect, "redis://h"),
        partial(Publisher, "redis://h"),
        partial(SyncPublisher, "nats://h"),
    ):
        with pytest.raises(ConfigurationError, match=f"{name} is.*plain callable"):
            make(**options)
    async with connect() as backplane:
        if name == "on_gap":
            with pytest.raises(ConfigurationError, match="on_gap is a plain callable"):
                backplane.connection(None, on_gap=callback)
            for wrong in ({"on_gap": callback}, {"on_close": callback}):
                with pytest.raises(ConfigurationError, match=r"on_(gap|close) is a plain callable"):
                    await backplane.attach("c1", print, **wrong)
        with pytest.raises(ConfigurationError, match=f"{name} is a plain callable"):
            setattr(backplane, name, callback)
        assert backplane.connection_count == 0


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("chanel", "channel"),
        ("probe_interval", "probe_interval_s"),
        ("address_maps", "address_map"),
        ("on_gaps", "on_gap"),
        ("signing_key", "signing_keys"),
        ("zzz", None),
    ],
)
def test_a_misspelt_option_says_which_one_may_be_meant(name: str, meant: str | None) -> None:
    options: dict[str, Any] = {name: 1}
    for make in (connect, partial(connect, "redis://h"), partial(SyncPublisher, "nats://h")):
        with pytest.raises(ConfigurationError) as error:
            make(**options)
        assert (f"unknown option {name!r} (did you mean {meant!r}?)" in str(error.value)) is (meant is not None)
        assert f"unknown option {name!r}" in str(error.value)
