"""Signatures, compared in constant time: `is_signed`, `signer_of`, and `request_problem` for requests by HTTP."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Final

from backplane_server._pusher.apps import PusherApp

__all__ = ["WINDOW_S", "is_signed", "request_problem", "signer_of"]

WINDOW_S: Final = 600
"""Seconds by which a request's time-stamp may differ, as Pusher has it: an older one may be a replay."""
VERSION: Final = "1.0"


def signature(secret: str, text: str) -> bytes:
    """Return the signature of a text, in hex."""
    return hmac.new(secret.encode(), text.encode("utf-8", "replace"), hashlib.sha256).hexdigest().encode()


def is_signed(app: PusherApp, text: str, given: str) -> bool:
    """Return whether an app has signed a text.

    Args:
        app: Whose secret it is.
        text: What should be signed.
        given: The signature, in hex.
    """
    return hmac.compare_digest(signature(app.secret, text), given.encode("utf-8", "replace"))


def signer_of(apps: Sequence[PusherApp], auth: str, text: str) -> PusherApp | None:
    """Return which of these apps has signed a text; None: none has.

    Args:
        apps: Those that may.
        auth: `key:signature`.
        text: What should be signed.
    """
    key, _, given = auth.partition(":")
    app = next((app for app in apps if app.key == key), None)
    return app if app is not None and is_signed(app, text, given) else None


def request_problem(  # noqa: PLR0911, PLR0917 -- one for each thing that a forger may have left out
    apps: Sequence[PusherApp], method: str, path: str, query: Mapping[str, str], body: bytes, now: float
) -> str | None:
    """Return why a request is not signed by one of these apps; None: it is.

    Args:
        apps: Those that may.
        method: As it was asked with.
        path: As it was asked for.
        query: Its parameters.
        body: All of it.
        now: Unix time in seconds.
    """
    app = next((app for app in apps if app.key == query.get("auth_key")), None)
    if app is None:
        return "auth_key is none of this app"
    if query.get("auth_version") != VERSION:
        return f"auth_version is not {VERSION}"
    stamp = query.get("auth_timestamp", "")
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) < 16):  # noqa: PLR2004 -- digits of a time
        return "auth_timestamp is no Unix time"
    if abs(now - int(stamp)) > WINDOW_S:
        return f"auth_timestamp differs by more than {WINDOW_S} s from the clock here"
    signed = sorted((name.lower(), value) for name, value in query.items() if name != "auth_signature")
    text = "\n".join([method, path, "&".join(f"{name}={value}" for name, value in signed)])
    if not is_signed(app, text, query.get("auth_signature", "")):
        return "auth_signature is not that of this request"
    digest = query.get("body_md5")
    if digest is None and not body:
        return None
    found = hashlib.md5(body, usedforsecurity=False).hexdigest()
    return None if digest == found else "body_md5 is not that of the body"
