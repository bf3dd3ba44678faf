"""Keys that a NATS server trusts: `user_key` for an nkey login, `Operator` for a creds file."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import time
from collections.abc import Mapping
from math import ceil
from typing import Final

from attrs import field, frozen
from nacl.signing import SigningKey

__all__ = ["Key", "Operator", "user_key"]

_SEED: Final = 18 << 3
_OPERATOR: Final = 14 << 3
_ACCOUNT: Final = 0
_USER: Final = 20 << 3


@frozen
class Key:
    """An Ed25519 key in NATS's own notation."""

    prefix: int = field(repr=False)
    signing: SigningKey = field(factory=SigningKey.generate, repr=False)

    @property
    def public(self) -> str:
        """The public key, as it stands in a server's configuration."""
        return _encode(bytes([self.prefix]) + bytes(self.signing.verify_key))

    @property
    def seed(self) -> str:
        """The secret, as it stands in a seed file."""
        return _encode(bytes([_SEED | self.prefix >> 5, (self.prefix & 31) << 3]) + bytes(self.signing))

    @classmethod
    def from_seed(cls, seed: str) -> Key:
        """Read a seed as it stands in a seed or creds file."""
        data = base64.b32decode(seed + "=" * (-len(seed) % 8))
        return cls((data[0] & 7) << 5 | data[1] >> 3, SigningKey(data[2:34]))


def user_key() -> Key:
    """Make a fresh user key: `public` is for the server, `seed` for the client."""
    return Key(_USER)


@frozen
class Operator:
    """An operator with one account; `new_credentials()` lets a user in."""

    _key: Key = field(factory=lambda: Key(_OPERATOR), init=False, repr=False)
    _account: Key = field(factory=lambda: Key(_ACCOUNT), init=False, repr=False)

    @property
    def account(self) -> str:
        """The account's public key."""
        return self._account.public

    @property
    def jwt(self) -> str:
        """The operator's own statement, for the server's configuration."""
        return _jwt(self._key, self._key.public, {"type": "operator"})

    @property
    def account_jwt(self) -> str:
        """The operator's statement that the account may do everything, for the server's configuration."""
        unlimited = {
            "subs": -1,
            "data": -1,
            "payload": -1,
            "conn": -1,
            "leaf": -1,
            "imports": -1,
            "exports": -1,
        }
        return _jwt(self._key, self.account, {"type": "account", "limits": unlimited | {"wildcards": True}})

    def new_credentials(self, *, valid_s: float | None = None) -> str:
        """Return the text of a creds file for a new user.

        Args:
            valid_s: Seconds after which the server cuts the user; it counts whole seconds of the wall clock. None: it
                never does.
        """
        user = user_key()
        claims: dict[str, object] = {"type": "user", "subs": -1, "data": -1, "payload": -1}
        jwt = _jwt(self._account, user.public, claims, None if valid_s is None else ceil(time.time() + valid_s))
        return (
            f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
        )


def _encode(data: bytes) -> str:
    checksum = binascii.crc_hqx(data, 0).to_bytes(2, "little")
    return base64.b32encode(data + checksum).decode().rstrip("=")


def _jwt(issuer: Key, subject: str, claims: dict[str, object], expires_at: int | None = None) -> str:
    body: dict[str, object] = {"iss": issuer.public, "sub": subject, "name": "test", "iat": 0}
    if expires_at is not None:
        body["exp"] = expires_at
    body["nats"] = claims | {"version": 2}
    body["jti"] = base64.b32encode(hashlib.sha256(json.dumps(body).encode()).digest()).decode().rstrip("=")
    signed = f"{_segment({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{_segment(body)}"
    return f"{signed}.{_base64(issuer.signing.sign(signed.encode()).signature)}"


def _segment(value: Mapping[str, object]) -> str:
    return _base64(json.dumps(value).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
