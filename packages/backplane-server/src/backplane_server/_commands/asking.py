"""`backplane who`, `pods` and `kick`: queries and orders to all pods."""

from __future__ import annotations

import json

import attrs
import typer
from attrs import frozen

from backplane_server._commands.opening import check_seconds, opened, pod_name_of, read_targets
from backplane_server._commands.settings import BusSettings
from backplane_server._commands.showing import (
    missing_as_json,
    plural,
    show_counts,
    show_json,
    show_missing,
    show_table,
    since,
)
from backplane_server._failure import MISUSED, Failure

__all__ = ["Kick", "Pods", "Who"]


@frozen(kw_only=True)
class Who:
    """Whose connections are to be listed.

    Args:
        targets: As text.
        limit: How many are listed.
        timeout_s: Seconds to wait for answers.
        as_json: Whether the answer is JSON.
    """

    targets: list[str]
    limit: int
    timeout_s: float
    as_json: bool

    async def do(self, settings: BusSettings) -> int:
        """Print the connections, and return the exit code."""
        wanted = read_targets(self.targets)
        check_seconds("--timeout", self.timeout_s)
        async with opened(settings, "who") as backplane:
            answers = await backplane.fleet.connections(wanted, limit=self.limit, timeout_s=self.timeout_s)
        found = sorted((it for listed in answers.by_pod.values() for it in listed), key=lambda it: (it.pod, it.since))
        if self.as_json:
            show_json(
                {
                    "total": answers.total,
                    "connections": [attrs.asdict(it) for it in found],
                    "missing": missing_as_json(answers.missing),
                    "complete": answers.complete,
                }
            )
        else:
            typer.echo(f"{plural(answers.total, 'connection')} of {' '.join(self.targets)}")
            rows = [
                [it.pod, it.conn_id, since(it.since), "" if it.info is None else json.dumps(it.info)] for it in found
            ]
            show_table([["POD", "CONNECTION", "SINCE", "INFO"], *rows] if rows else [])
            if len(found) < answers.total:
                typer.echo(f"{len(found)} are listed; raise --limit to list more", err=True)
        show_missing(answers.missing)
        return 0


@frozen(kw_only=True)
class Pods:
    """Which pods there are.

    Args:
        timeout_s: Seconds to wait for answers.
        as_json: Whether the answer is JSON.
    """

    timeout_s: float
    as_json: bool

    async def do(self, settings: BusSettings) -> int:
        """Print the pods of the fleet, and return the exit code."""
        check_seconds("--timeout", self.timeout_s)
        mine = pod_name_of("pods")
        async with opened(settings, "pods", pod_name=mine) as backplane:
            answers = await backplane.fleet.pods(timeout_s=self.timeout_s)
        found = sorted((it for it in answers.by_pod.values() if it.name != mine), key=lambda it: (it.name, it.since))
        if self.as_json:
            missing = missing_as_json(answers.missing)
            show_json({"pods": [attrs.asdict(it) for it in found], "missing": missing, "complete": answers.complete})
        else:
            typer.echo(f"{plural(len(found), 'pod')} with {plural(sum(it.connections for it in found), 'connection')}")
            rows = [
                [it.name, it.state, str(it.connections), str(it.targets), it.routing, it.version, since(it.since)]
                for it in found
            ]
            show_table(
                [["POD", "STATE", "CONNECTIONS", "TARGETS", "ROUTING", "VERSION", "SINCE"], *rows] if rows else []
            )
        show_missing(answers.missing)
        return 0


@frozen(kw_only=True)
class Kick:
    """Whose connections are to be closed.

    Args:
        targets: As text.
        code: The close code.
        reason: For people.
        timeout_s: Seconds to wait for answers.
        as_json: Whether the answer is JSON.
        sure: Whether it may close all connections of the fleet.
    """

    targets: list[str]
    code: int
    reason: str
    timeout_s: float
    as_json: bool
    sure: bool

    async def do(self, settings: BusSettings) -> int:
        """Close the connections, print how many, and return the exit code."""
        whom = read_targets(self.targets)
        check_seconds("--timeout", self.timeout_s)
        if "everyone" in self.targets and not self.sure:
            raise Failure("that closes every connection of the fleet", "add --yes if you mean it", MISUSED)
        async with opened(settings, "kick") as backplane:
            answers = await backplane.fleet.close(whom, code=self.code, reason=self.reason, timeout_s=self.timeout_s)
        show_counts(answers, "closed", "closed", as_json=self.as_json)
        return 0
