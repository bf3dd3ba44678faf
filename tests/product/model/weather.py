"""What a transport's line is like until the next change: `WEATHERS`, by name."""

from __future__ import annotations

from typing import Final

from backplane_core.testing import Faults

__all__ = ["QUIET", "WEATHERS"]

QUIET: Final[dict[str, Faults]] = {
    "calm": Faults(),
    "a little slow": Faults(send_s=0.03, confirm_s=0.03, subscribe_s=0.2, deliver_s=0.03),
    "scattered": Faults(scatter_s=0.8, deliver_s=0.03),
    "nodes": Faults(scatter_s=1.0, nodes=2, deliver_s=0.02),
}
"""Under these nothing is lost, so nobody must hear of a loss."""

WEATHERS: Final[dict[str, Faults]] = {
    **QUIET,
    "slow": Faults(send_s=0.3, confirm_s=0.3, subscribe_s=0.2),
    "cuts": Faults(cut_before=0.15, cut_within=0.2, cut_after=0.2, cut_subscribe=0.2),
    "resets": Faults(deliver_s=0.2, cut_before=0.1, cut_after=0.1, reset=0.7),
    "stragglers": Faults(send_s=0.2, cut_before=0.2, cut_within=0.3, straggle_s=2.0),
    "unconfirmed": Faults(hang_confirm=0.2, cut_after=0.3),
    "no answers": Faults(hang_confirm=1.0),
    "closed doors": Faults(refuse_open=0.5, hang_open=0.2, open_s=0.5, hang_subscribe=0.2),
    "no way in": Faults(refuse_open=1.0),
    "losses": Faults(lose=0.1, deliver_s=0.1),
    "late interest": Faults(subscribe_s=1.0, hang_subscribe=0.2, deliver_s=0.05),
    "scattered cuts": Faults(scatter_s=1.2, cut_before=0.1, cut_after=0.1, cut_subscribe=0.1, deliver_s=0.05),
    "late nodes": Faults(scatter_s=1.5, nodes=2, subscribe_s=0.1, deliver_s=0.1, hang_subscribe=0.05),
}
"""All of them."""
