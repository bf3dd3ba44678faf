"""A flag wins over the environment, and that over the file; what is shown holds no secret."""

from __future__ import annotations

from pathlib import Path

import pytest
from backplane_server._bus_flags import BusFlags
from backplane_server._commands.masking import mask_url
from backplane_server._commands.settings import BusSettings
from backplane_server._failure import Failure
from hypothesis import given
from hypothesis import strategies as st

from tests.product.server.commands import backplane

FILE = """
url = "redis://file"
channel = "file"
lanes = 8
wait = false
signing_keys = ["0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"]
"""


def read(tmp_path: Path, text: str = FILE, environment: dict[str, str] | None = None, **flags: object) -> BusSettings:
    path = tmp_path / "fleet.toml"
    path.write_text(text)
    return BusSettings.read(BusFlags(config=path, **flags), environment or {})  # type: ignore[arg-type]


def test_the_file_is_read(tmp_path: Path) -> None:
    settings = read(tmp_path)
    assert settings.variables == {
        "BACKPLANE_URL": "redis://file",
        "BACKPLANE_CHANNEL": "file",
        "BACKPLANE_LANES": "8",
        "BACKPLANE_WAIT": "false",
        "BACKPLANE_SIGNING_KEYS": "0123456789abcdef0123456789abcdef,fedcba9876543210fedcba9876543210",
    }


def test_the_environment_wins_over_the_file_and_a_flag_over_both(tmp_path: Path) -> None:
    environment = {"BACKPLANE_URL": "redis://env", "BACKPLANE_CHANNEL": "env", "BACKPLANE_LANES": ""}
    settings = read(tmp_path, environment=environment, channel="flag")
    assert settings.url == "redis://env"
    assert settings.variables["BACKPLANE_CHANNEL"] == "flag"
    assert settings.variables["BACKPLANE_LANES"] == "8", "empty counts as unset"
    sources = {it.name: it.source for it in settings.shown()}
    assert sources["url"] == "BACKPLANE_URL"
    assert sources["channel"] == "--channel"
    assert sources["lanes"] == f"lanes in {tmp_path / 'fleet.toml'}"


def test_a_flag_wins_over_a_kind_of_broker_in_the_environment() -> None:
    environment = {"BACKPLANE": "nats", "BACKPLANE_NATS_URL": "nats://env"}
    assert BusSettings.read(BusFlags(), environment).url is None
    settings = BusSettings.read(BusFlags(bus="redis://flag"), environment)
    assert settings.url == "redis://flag"
    assert "BACKPLANE" not in settings.variables


def test_an_option_of_the_adapter_can_be_given_too(tmp_path: Path) -> None:
    settings = read(tmp_path, 'url = "redis+streams://h"\nretain_s = 60', option=("retain-entries=5",))
    assert settings.variables["BACKPLANE_RETAIN_S"] == "60"
    assert settings.variables["BACKPLANE_RETAIN_ENTRIES"] == "5"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("chanel = 'x'", "chanel"),
        ("channel = {}", "neither text"),
        ("signing_keys = [1]", "neither text"),
        ("channel = 'x'\nkey = s3cret", "line 2, column 7"),
        ("\xff", "not TOML"),
    ],
)
def test_a_mistake_in_the_file_is_named_without_what_stands_there(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(Failure, match=said) as failure:
        read(tmp_path, text)
    assert "s3cret" not in f"{failure.value}{failure.value.advice}"


@given(secret=st.text("abcXYZ0189:/?#@&=%-_.+", min_size=1, max_size=12).map(lambda it: f"S3{it}S3"))
def test_no_part_of_a_password_is_shown(secret: str) -> None:
    assert "S3" not in mask_url(f"redis://user:{secret}@host:6379/0?client_name=pod-1")
    assert "S3" not in mask_url(f"nats://{secret.replace(':', '')}@host")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        (
            "redis://pod:pw@h1:1,h2:2/orders?db=1&sentinel_password=pw",
            "redis://pod:***@h1:1,h2:2/orders?db=1&sentinel_password=***",
        ),
        ("nats://token@h", "nats://***@h"),
        ("redis://:pw@h", "redis://***@h"),
        ("pw", "***"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert mask_url(url) == shown


async def test_config_shows_what_is_in_effect_and_masks_keys(tmp_path: Path) -> None:
    (tmp_path / "backplane.toml").write_text(FILE.replace("redis://file", "redis://pod:s3cret@h"))
    ended = await backplane("config", "--channel", "flag", "--json", folder=tmp_path)
    assert {it["name"]: (it["text"], it["source"]) for it in ended.json} == {
        "url": ("redis://pod:***@h", "url in backplane.toml"),
        "channel": ("flag", "--channel"),
        "lanes": ("8", "lanes in backplane.toml"),
        "wait": ("false", "wait in backplane.toml"),
        "signing_keys": ("***", "signing_keys in backplane.toml"),
    }


async def test_config_finds_a_value_that_is_not_allowed_and_says_where_it_stands(tmp_path: Path) -> None:
    (tmp_path / "backplane.toml").write_text('lanes = "many"')
    ended = await backplane("config", folder=tmp_path)
    assert ended.code == 2
    assert "lanes in backplane.toml holds what is no lanes" in ended.err
