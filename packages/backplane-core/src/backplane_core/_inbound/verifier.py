"""From the signed frames of a link to the plain ones that the reader takes, in a fleet that signs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from backplane_core._inbound.refusals import Refusals
from backplane_core._inbound.stale_frame import StaleFrame
from backplane_core._protocol.own_frames import OwnFrames
from backplane_core._protocol.signing import SIGNED_HEAD_BYTES, ForgedError, SignatureError, Signer, StaleError
from backplane_core._runtime.logging import logger
from backplane_core._runtime.reporter import Reporter
from backplane_core.observe import EnvelopeRejected
from backplane_core.transport import Frame, Lost

__all__ = ["Verifier"]


class Verifier:
    """Passes on frames with a valid signature. Everything else is counted, reported and dropped.

    Args:
        signer: The signer of the fleet.
        own: How this pod's own frames are recognized.
        max_frame_bytes: The limit for a plain frame, in bytes; signatures of longer ones are not computed.
        reporter: Counts echoes and rejected frames, and is notified of rejected ones.
        refusals: Notes what is refused.
    """

    def __init__(
        self,
        *,
        signer: Signer,
        own: OwnFrames,
        max_frame_bytes: int,
        reporter: Reporter,
        refusals: Refusals,
    ) -> None:
        self._signer = signer
        self._prefix = own.prefix
        self._beat_suffix = own.beat_suffix
        self._max_bytes = max_frame_bytes + SIGNED_HEAD_BYTES
        self._counters = reporter.counters
        self._reporter = reporter
        self._refusals = refusals

    def verified(self, batch: Iterable[Frame | Lost]) -> Iterator[Frame | Lost | StaleFrame | None]:
        """Yield a batch as it would be if nothing were signed; lazily, so that the reader's slices bound the time."""
        for frame in batch:
            if type(frame) is not tuple:
                yield frame
                continue
            channel, payload = frame[0], frame[1]
            is_own = payload.startswith(self._prefix, SIGNED_HEAD_BYTES)
            # An echo is dropped whatever its signature, so it is not checked: only a beat proves anything.
            if is_own and not payload.endswith(self._beat_suffix):
                self._counters.echoed += 1
                continue
            if len(payload) > self._max_bytes:
                self._counters.decode_errors += 1
                reason = f"{len(payload)} bytes, the limit is {self._max_bytes}"
                self._refused(channel, payload, SignatureError(f"not taken: {reason}"), is_own=is_own)
                yield Lost(channel, f"a frame was too large for this pod: {reason}")
                continue
            try:
                plain = self._signer.verify(channel, payload)
            except SignatureError as error:
                self._counters.signature_errors += 1
                self._refused(channel, payload, error, is_own=is_own)
                is_late = isinstance(error, StaleError) and not is_own
                yield StaleFrame(channel, payload[SIGNED_HEAD_BYTES:], str(error)) if is_late else None
            else:
                yield (channel, plain)

    def _refused(self, channel: str, payload: bytes, error: SignatureError, *, is_own: bool) -> None:
        reason = str(error)
        self._reporter.report(EnvelopeRejected(channel=channel, reason=reason))
        if is_own:
            return  # a beat of ours that is refused is an old one, sent again by somebody
        if not isinstance(error, ForgedError) and self._refusals.note(payload, reason):
            logger.warning("frames of another pod are refused, counted in stats() and logged once: %s", reason)
