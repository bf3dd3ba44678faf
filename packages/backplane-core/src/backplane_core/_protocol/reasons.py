"""Why a pod is missing among the answers, for people: what questions and presence both say of it."""

from __future__ import annotations

from typing import Final

__all__ = ["CUT_OFF", "OTHER_REASON", "REFUSED", "TOO_OLD"]

CUT_OFF: Final = "this pod is cut off from the others: its link to the broker is down"
TOO_OLD: Final = "it can't answer: an older version, or a pod in another language"
REFUSED: Final = "it takes no questions: remote_control=False"
OTHER_REASON: Final = "it does not answer, and this version does not know why"
