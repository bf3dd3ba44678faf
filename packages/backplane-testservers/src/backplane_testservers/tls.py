"""Certificates for tests that speak TLS: `Certificates`."""

from __future__ import annotations

from pathlib import Path

import trustme
from attrs import frozen

from backplane_testservers.process import Tls

__all__ = ["Certificates"]


@frozen
class Certificates:
    """PEM files of a throw-away CA: a server's certificate for localhost and 127.0.0.1, and a client's."""

    server: Tls
    client: Tls
    strangers_ca: Path
    """A CA that signed none of them, for a client that does not trust the server."""

    @classmethod
    def create(cls, directory: Path) -> Certificates:
        """Write all files into this directory."""
        ca = trustme.CA()
        ca_path = directory / "ca.pem"
        ca.cert_pem.write_to_path(ca_path)
        strangers_ca = directory / "strangers-ca.pem"
        trustme.CA().cert_pem.write_to_path(strangers_ca)
        return cls(
            server=_write(ca.issue_cert("localhost", "127.0.0.1"), ca_path, directory / "server"),
            client=_write(ca.issue_cert("client@example.org"), ca_path, directory / "client"),
            strangers_ca=strangers_ca,
        )


def _write(issued: trustme.LeafCert, ca: Path, base: Path) -> Tls:
    cert, key = base.with_suffix(".pem"), base.with_suffix(".key")
    for index, blob in enumerate(issued.cert_chain_pems):
        blob.write_to_path(cert, append=index > 0)
    issued.private_key_pem.write_to_path(key)
    return Tls(ca=ca, cert=cert, key=key)
