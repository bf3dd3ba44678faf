"""What must hold after every run: the promises of the README, exactly, against the ledger."""

from __future__ import annotations

from tests.product.model.ledger import Ledger
from tests.product.model.plan import Plan
from tests.product.model.promises.connections import check_connection
from tests.product.model.promises.losses import check_losses
from tests.product.model.promises.pods import check_pod
from tests.product.model.promises.quiet import check_quiet

__all__ = ["check"]


def check(ledger: Ledger, plan: Plan) -> list[str]:
    """Return what was promised and does not hold, for people; empty if all does."""
    found = list(ledger.violations)
    for life in ledger.lives:
        found += check_connection(life, ledger, plan)
        found += check_losses(life, ledger, plan)
    for pod in ledger.pods:
        found += check_pod(pod, ledger, plan)
    if plan.quiet:
        found += check_quiet(ledger)
    return found
