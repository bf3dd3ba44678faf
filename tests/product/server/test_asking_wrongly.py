"""A command that can't be done says what is wrong and what to do next, in a line each, and shows no secret."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from backplane_testservers import RedisServer, free_port

from tests.conftest import StartServer
from tests.product.server.commands import backplane

HEAVY = ("backplane_core", "msgspec", "uvicorn", "starlette", "rich", "redis", "nats", "jwt")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("publish", "ann", "1"), 2, "user:ann"),
        (("publish", "User:ann", "1"), 1, "[a-z]"),
        (("publish", "user:ann", "{secret"), 2, '\'{"kind":"ready"}\''),
        (("publish", "user:ann", "1", "--timeout", "0"), 2, "seconds above 0"),
        (("publish", "user:ann"), 2, "Try 'backplane publish -h'"),
        (("listen", "user:ann", "--count", "0"), 2, "at least 1"),
        (("who", "user:ann", "--routing", "secret"), 2, "--routing holds what is no routing: allowed is 'broadcast'"),
        (("who", "user:ann", "-o", "chanel=x"), 2, "did you mean channel?"),
        (("who", "user:ann", "-o", "lanes"), 2, "write --option lanes="),
        (("who", "user:ann", "-o", "signing_keys=secret"), 2, "BACKPLANE_SIGNING_KEYS"),
        (("who", "user:ann", "--config", "nowhere.toml"), 2, "check --config"),
        (("who", "user:ann", "--bus", "memory://"), 2, "pass --bus"),
        (("who", "user:ann", "--bus", "redsi://:secret@h"), 2, "did you mean redis://?"),
        (("kick", "user:ann", "--code", "1"), 2, "1000"),
    ],
)
async def test_what_was_asked_for_wrongly_is_named_with_what_to_do(
    redis_url: str, arguments: tuple[str, ...], code: int, said: str, tmp_path: Path
) -> None:
    ended = await backplane(*arguments, url=redis_url, folder=tmp_path)
    assert (ended.code, ended.out) == (code, "")
    assert said in ended.err
    assert "secret" not in ended.err
    assert "Traceback" not in ended.err


async def test_without_a_broker_a_command_says_how_to_name_one(tmp_path: Path) -> None:
    ended = await backplane("pods", folder=tmp_path)
    assert ended.code == 2
    assert "--bus redis://localhost:6379" in ended.err


async def test_a_broker_that_is_not_there_is_an_error_and_no_traceback(tmp_path: Path) -> None:
    nowhere = f"redis://127.0.0.1:{free_port()}"
    ended = await backplane("pods", "-o", "connect_timeout_s=0.5", url=nowhere, folder=tmp_path)
    assert ended.code == 1
    assert "nothing listens there" in ended.err
    assert "Traceback" not in ended.err


async def test_a_wrong_password_is_not_shown(start: StartServer, tmp_path: Path) -> None:
    server = start(RedisServer(password="right"))
    ended = await backplane("pods", url=server.url.replace("right", "s3cret"), folder=tmp_path)
    assert ended.code == 1
    assert "s3cret" not in ended.err + ended.out


@pytest.mark.parametrize(
    "command", ["", "serve", "token", "publish", "listen", "who", "pods", "kick", "doctor", "bench", "config"]
)
def test_help_names_the_flags_and_waits_for_nothing_heavy(command: str) -> None:
    code = (
        "import sys, backplane_server\n"
        f"sys.argv = ['backplane', *{command!r}.split(), '--help']\n"
        "try:\n    backplane_server.main()\nfinally:\n"
        f"    print('loaded:', [it for it in {HEAVY} if it in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("loaded: []\n")
    assert f"Usage: backplane {command}".strip() in done.stdout
    assert ("--bus" if command else "publish") in done.stdout


def test_a_shell_completes_commands() -> None:
    words = {"_BACKPLANE_COMPLETE": "complete_bash", "COMP_WORDS": "backplane li", "COMP_CWORD": "1"}
    done = subprocess.run(
        [str(Path(sys.executable).with_name("backplane"))], env=words, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["listen"]
