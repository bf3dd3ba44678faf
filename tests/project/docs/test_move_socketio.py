"""The line that changes in a Socket.IO or Flask-SocketIO app, as the pages have it, makes what the app needs."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import flask
import flask_socketio  # type: ignore[import-untyped]
import pytest
import socketio  # type: ignore[import-untyped]
from backplane_socketio import AsyncBackplaneManager, BackplaneManager

from tests.project.docs.pages import ROOT

DIFF = re.compile(r"^```diff\n(.*?)^```", re.MULTILINE | re.DOTALL)


def after(diff: str) -> str:
    """Return the code of a diff once it is applied."""
    return "\n".join(line[1:] for line in diff.splitlines() if line[:1] in {"+", " "})


def diffs(page: str) -> list[str]:
    found = DIFF.findall((ROOT / "docs/how-to" / page).read_text())
    assert found
    return [after(diff) for diff in found]


def names() -> dict[str, Any]:
    return {
        "socketio": socketio,
        "app": flask.Flask(__name__),
        "SocketIO": partial(flask_socketio.SocketIO, async_mode="threading"),
        "AsyncBackplaneManager": AsyncBackplaneManager,
        "BackplaneManager": BackplaneManager,
    }


def test_a_socketio_server_has_the_manager() -> None:
    found = names()
    (code,) = diffs("move-socketio.md")
    exec(code, found)
    assert isinstance(found["server"].manager, AsyncBackplaneManager)


@pytest.mark.parametrize("number", [0, 1])
def test_a_flask_app_and_its_worker_have_the_manager(number: int) -> None:
    found = names()
    code = diffs("move-flask-socketio.md")[number]
    assert ("emit" in code) == bool(number)
    exec("\n".join(line for line in code.splitlines() if ".emit(" not in line), found)
    assert isinstance(found["socketio"].server.manager, BackplaneManager)
    assert found["socketio"].server.manager.write_only == bool(number)
