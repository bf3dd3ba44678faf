"""The gate of a fleet that signs: from a link's sealed frames to the plain ones that the reader takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from backplane_core._protocol.signing import SignatureError, Signer, sealed_prefix, sealed_suffix
from backplane_core._runtime.reporter import Reporter
from backplane_core.errors import EnvelopeError
from backplane_core.observe import EnvelopeRejected
from backplane_core.transport import Frame, Lost

__all__ = ["Verifier"]


class Verifier:
    """Lets in what is signed as it should be; the rest is counted, reported and dropped.

    Args:
        signer: Of the fleet.
        prefix: What our own frames start with, plain.
        beat_suffix: What our own beats end with, plain.
        max_bytes: The most that a sealed frame may have; longer ones are not even looked at.
        reporter: Counts, and gets what was rejected.
    """

    def __init__(self, signer: Signer, prefix: bytes, beat_suffix: bytes, max_bytes: int, reporter: Reporter) -> None:
        self._signer = signer
        self._own, self._own_at = sealed_prefix(prefix)
        self._beat = sealed_suffix(beat_suffix)
        self._max_bytes = max_bytes
        self._counters = reporter.counters
        self._reporter = reporter

    def opened(self, batch: Iterable[Frame | Lost]) -> Iterator[Frame | Lost]:
        """Yield a batch as it would be if nothing was signed; lazily, so that the reader's slices bound it in time."""
        for frame in batch:
            if type(frame) is not tuple:
                yield frame
                continue
            channel, payload = frame[0], frame[1]
            # An echo is dropped, right or wrong, so its signature need not be looked at: only a beat proves something.
            if payload.startswith(self._own, self._own_at) and not payload.endswith(self._beat):
                self._counters.echoed += 1
                continue
            try:
                plain = self._open(channel, payload)
            except EnvelopeError as error:
                self._reporter.report(EnvelopeRejected(channel=channel, reason=str(error)))
            else:
                yield (channel, plain)

    def _open(self, channel: str, payload: bytes) -> bytes:
        try:
            if len(payload) <= self._max_bytes:
                return self._signer.open(channel, payload)
        except SignatureError:
            self._counters.signature_errors += 1
            raise
        except EnvelopeError:
            self._counters.decode_errors += 1
            raise
        self._counters.decode_errors += 1
        raise EnvelopeError(f"not taken: {len(payload)} bytes, the limit is {self._max_bytes}")
