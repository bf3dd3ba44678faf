"""What a server's refusals mean for the person who reads the error: one table, for every step of a handshake."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from attrs import frozen
from backplane_core import AuthenticationError, TransportError

__all__ = [
    "KNOWN_CODES",
    "describe_foreign",
    "describe_plain",
    "is_about_rights",
    "is_temporary",
    "is_tls",
    "is_unknown_command",
    "lacks_resp3",
    "make_refusal",
]

KNOWN_CODES: Final = frozenset(
    (
        *("ASK", "BUSY", "CLUSTERDOWN", "CROSSSLOT", "ERR", "LOADING", "MASTERDOWN", "MISCONF", "MOVED", "NOAUTH"),
        *("NOPERM", "NOREPLICAS", "OOM", "READONLY", "TRYAGAIN", "WRONGPASS"),
    )
)
"""Codes that an error may name; any other first word may be a piece of a payload, where a server tears messages."""

_UNKNOWN: Final = (
    r"(?:ERR )?(?:unknown|unsupported|Unknown|Unsupported) (?:sub)?command|ERR .*\bcommand not (?:found|allowed)"
)
_NO_HELLO: Final = rf"NOPROTO|{_UNKNOWN}|ERR (?:syntax|wrong number|Protocol)"
"""Envoy leaves the code ERR out, and knows HELLO without its options since 2026."""
_CLUSTER: Final = r"ERR SELECT is not allowed in cluster mode"


@frozen
class _Meaning:
    """What an error reply means.

    Args:
        pattern: What the reply begins with: its code, and where that says too little, its first words.
        text: For people. `{step}` is the command, `{database}` what was selected.
        retryable: Whether trying again can help.
        is_login: Whether credentials or rights are wrong.
        step: The command that it is about; empty: any.
    """

    pattern: str
    text: str
    retryable: bool = True
    is_login: bool = False
    step: str = ""


_NO_RESP3: Final = (
    "it knows no RESP3 (HELLO 3), which clusters, Sentinel and protocol=3 need: is it a proxy, or a server older than "
    "Redis 6?"
)

# The first that fits counts.
_MEANINGS: Final = (
    _Meaning("NOAUTH", "it asks for a user name or password, and none was given", is_login=True),
    _Meaning("WRONGPASS", "user name or password is wrong or missing", is_login=True),
    _Meaning(
        "ERR .*(?:no password is set|without any password)", "it has no password, and one was given", is_login=True
    ),
    _Meaning(
        "ERR wrong number of arguments", "it knows no user names: give the password alone", is_login=True, step="AUTH"
    ),
    _Meaning("ERR (?:invalid password|AUTH)", "user name or password is wrong or missing", is_login=True),
    _Meaning("NOPERM", "the user lacks +{permission}", is_login=True),
    _Meaning("DENIED", "it runs in protected mode: it wants a password, or clients of its own host", retryable=False),
    _Meaning("ERR max number of clients", "it has reached its maxclients"),
    _Meaning(_NO_HELLO, _NO_RESP3, retryable=False, step="HELLO"),
    _Meaning(
        _CLUSTER,
        "it is a node of a cluster, which has one database: leave {database} out of the URL",
        retryable=False,
        step="SELECT",
    ),
    _Meaning("ERR", "it has no database {database}", retryable=False, step="SELECT"),
    _Meaning("BUSY", "a script of another client keeps it busy (BUSY)"),
    _Meaning("LOADING", "it is loading its data (LOADING)"),
    _Meaning("MASTERDOWN", "it is a replica that lost its master (MASTERDOWN)"),
    _Meaning("TRYAGAIN", "keys of its cluster are being moved (TRYAGAIN)"),
    _Meaning("CLUSTERDOWN", "its cluster is down: a master is missing and not replaced yet (CLUSTERDOWN)"),
    _Meaning("UNBLOCKED", "its role changed while a read waited (UNBLOCKED)"),
    _Meaning("READONLY", "it is a read-only replica (READONLY): connect to the primary"),
    _Meaning("ERR", "it refused {step} (ERR)"),
)
"""No text of the server's is quoted: it may hold the command, and with it the password."""

_RIGHTS: Final = re.compile(f"NOPERM|{_UNKNOWN}")
_LACKS_RESP3: Final = re.compile(_NO_HELLO)
_TEMPORARY: Final = re.compile(r"(?:BUSY|LOADING|MASTERDOWN|TRYAGAIN|CLUSTERDOWN)\b")
_CODE: Final = re.compile("[A-Z]{2,16}")

_FOREIGN: Final[Mapping[bytes, str]] = {
    b"HTTP/": "it speaks HTTP",
    b"SSH-": "it is an SSH server",
    b"INFO {": "it is a NATS server: connect with nats://",
}
"""What the first bytes of other protocols mean."""
_TLS: Final = (b"\x15\x03", b"\x16\x03")


def is_about_rights(text: str) -> bool:
    """Return whether an error reply says that this user, or everybody, may not send a command at all."""
    return _RIGHTS.match(text) is not None


def is_unknown_command(text: str) -> bool:
    """Return whether an error reply says that the server does not know a command."""
    return re.match(_UNKNOWN, text) is not None


def lacks_resp3(text: str) -> bool:
    """Return whether an error reply to HELLO says that the server knows no RESP3."""
    return _LACKS_RESP3.match(text) is not None


def is_temporary(text: str) -> bool:
    """Return whether an error reply is about the state that the server is in now, whatever the command and the user."""
    return _TEMPORARY.match(text) is not None


def make_refusal(what: str, step: str, text: str, *, database: object) -> TransportError:
    """Return the error to raise for an error reply.

    Args:
        what: What could not be done, and where.
        step: The command that was refused.
        text: The error reply, of which nothing is shown but its code.
        database: The one that was to be selected.
    """
    for meaning in _MEANINGS:
        if meaning.step in {"", step} and re.match(meaning.pattern, text):
            said = meaning.text.format(step=step, permission=step.lower().replace(" ", "|"), database=database)
            message = f"{what}: {said}"
            if meaning.is_login:
                return AuthenticationError(message)
            return TransportError(message, retryable=meaning.retryable)
    code = _CODE.fullmatch(text.partition(" ")[0])
    return TransportError(f"{what}: it refused {step}" + (f" ({code[0]})" if code else ""))


def describe_foreign(first_bytes: bytes) -> str:
    """Return what speaks there, if it is not Redis."""
    if is_tls(first_bytes):
        return "it speaks TLS: connect with rediss://"
    return describe_plain(first_bytes) or "what it sends is not the Redis protocol: is the port right?"


def describe_plain(first_bytes: bytes) -> str | None:
    """Return what speaks there in plain text; None if that is not known."""
    return next((text for start, text in _FOREIGN.items() if first_bytes.startswith(start)), None)


def is_tls(first_bytes: bytes) -> bool:
    """Return whether a server's first bytes are those of TLS."""
    return first_bytes.startswith(_TLS)
