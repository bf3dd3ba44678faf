"""`backplane doctor`: connects, inspects the broker, publishes to itself, checks the fleet; says what to change."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

from attrs import asdict, define, field, frozen
from backplane_core import (
    AdapterNotInstalledError,
    BackplaneError,
    BaseBackplane,
    ConfigurationError,
    EnvelopeRejected,
    EventDropped,
    FleetMismatch,
    InspectableTransport,
    OriginCollision,
    PodInfo,
    Record,
    SubscriptionRefused,
    Target,
    TargetDeniedError,
    TransportError,
    connect_from_env,
)

from backplane_server._commands.findings import Finding, Level, show_findings
from backplane_server._commands.masking import mask_url
from backplane_server._commands.opening import check_seconds, pod_name_of
from backplane_server._commands.settings import BusSettings
from backplane_server._commands.showing import plural, show_json
from backplane_server._commands.transports import option_names, transport_factory
from backplane_server._failure import FAILED

__all__ = ["Doctor"]

TRIPS: Final = 20
"""Round trips: enough for a median, and over before anybody has to wait."""


@frozen(kw_only=True)
class Doctor:
    """How to examine a broker and a fleet.

    Args:
        timeout_s: Seconds that each step may take.
        wait_s: Seconds to go on listening.
        as_json: Whether the findings are JSON.
    """

    timeout_s: float
    wait_s: float
    as_json: bool

    async def do(self, settings: BusSettings) -> int:
        """Print what was found, and return the exit code: 1 if something does not work."""
        settings.require_bus()
        check_seconds("--timeout", self.timeout_s)
        logging.getLogger("backplane").setLevel(logging.CRITICAL)  # what it would log is among the findings
        examination = Examination(settings, self.timeout_s, self.wait_s)
        await examination.run()
        ok = all(finding.level != "problem" for finding in examination.findings)
        if self.as_json:
            show_json({"ok": ok, "findings": [asdict(finding) for finding in examination.findings]})
        else:
            show_findings(examination.findings)
        return 0 if ok else FAILED


@define
class Examination:
    """One look at a broker and the fleet on it.

    Args:
        settings: How to reach it.
        timeout_s: Seconds that each step may take.
        wait_s: Seconds to go on listening, at the end.
    """

    _settings: BusSettings
    _timeout_s: float
    _wait_s: float
    findings: list[Finding] = field(factory=list[Finding], init=False)
    _records: list[Record] = field(factory=list[Record], init=False)

    async def run(self) -> None:
        """Take each step, unless one that it needs has failed."""
        mine = pod_name_of("doctor")
        began = time.perf_counter()
        try:
            async with self._pod(mine) as here:
                self._found("ok", "connect", f"connected in {_ms(time.perf_counter() - began)}")
                await self._ask_broker()
                async with self._pod(mine) as there:
                    if await self._send(there, here):
                        await self._look_at_fleet(here, mine)
                    await asyncio.sleep(self._wait_s)
        except (AdapterNotInstalledError, ConfigurationError) as error:
            self._found("problem", "settings", self._settings.explain(str(error)))
        except TransportError as error:
            self._found("problem", "connect", str(error))
        except BackplaneError as error:
            self._found("problem", "pods", self._settings.explain(str(error)))
        self._read_records()

    @asynccontextmanager
    async def _pod(self, name: str) -> AsyncGenerator[BaseBackplane]:
        async with connect_from_env(
            self._settings.variables, pod_name=name, connect_timeout_s=self._timeout_s, observer=self._records.append
        ) as backplane:
            yield backplane

    async def _ask_broker(self) -> None:
        """Have the transport inspect its broker."""
        url = self._settings.broker_url
        factory = None if url is None else transport_factory(url)
        if url is None or factory is None:
            return
        own = {name: text for name in option_names(url) if (text := self._settings.text_of(name))}
        transport = factory(url, **own)
        if not isinstance(transport, InspectableTransport):
            self._found("ok", "broker", f"{mask_url(url)}; its adapter can't inspect it")
            return
        try:
            async with asyncio.timeout(self._timeout_s):
                report = await transport.inspect()
        except TimeoutError:
            self._found("advice", "broker", f"it did not answer the inspection within {self._timeout_s:g} s")
            return
        except TransportError as error:
            self._found("advice", "broker", f"the inspection failed: {error}")
            return
        self._found("ok", "broker", report.server)
        for advice in report.advice:
            self._found("advice", "broker", advice)
        for unasked in report.unasked:
            self._found("advice", "broker", f"not checked, because this user lacks the permission: {unasked}")

    async def _send(self, there: BaseBackplane, here: BaseBackplane) -> bool:
        """Publish on one pod for a connection of the other; return whether it arrives."""
        target = Target("backplane_doctor", pod_name_of("target"))
        took: list[float] = []
        try:
            async with asyncio.timeout(self._timeout_s), here.connection(None, target) as connection:
                for number in range(TRIPS):
                    began = time.perf_counter()
                    await there.publish(target, number)
                    await anext(connection)
                    took.append(time.perf_counter() - began)
        except TargetDeniedError as error:
            self._found("problem", "permissions", str(error))
            return False
        except (TimeoutError, StopAsyncIteration):
            self._found(
                "problem",
                "round trip",
                f"{len(took)} of {TRIPS} events came back within {self._timeout_s:g} s: the broker does not deliver "
                f"on the channel {self._settings.text_of('channel') or 'backplane'}",
            )
            return bool(took)
        took.sort()
        self._found(
            "ok", "round trip", f"{TRIPS} events from pod to pod, {_ms(took[TRIPS // 2])} each, {_ms(took[-1])} at most"
        )
        return True

    async def _look_at_fleet(self, here: BaseBackplane, mine: str) -> None:
        answers = await here.fleet.pods(timeout_s=min(2.0, self._timeout_s))
        pods = [it for it in answers.by_pod.values() if it.name != mine]
        connections = plural(sum(it.connections for it in pods), "connection")
        self._found(
            "ok", "fleet", f"{plural(len(pods), 'other pod')} with {connections}" if pods else "no other pod answers"
        )
        for missing in answers.missing:
            self._found("problem", "fleet", f"{missing.pod} has not answered: {missing.reason}")
        for it in pods:
            if it.state not in {"live", "draining"}:
                self._found("problem", "fleet", f"{it.name} is {it.state}: look at its log")
        own = next((it.routing for it in answers.by_pod.values() if it.name == mine), None)
        for it in pods:
            if own is not None and it.routing != own:
                self._found(
                    "problem",
                    "fleet",
                    f"{it.name} uses routing={it.routing}, and these settings say {own}: "
                    "it must be the same in the whole fleet",
                )
        self._compare_versions(pods)

    def _compare_versions(self, pods: list[PodInfo]) -> None:
        versions = sorted({it.version for it in pods})
        if len(versions) > 1:
            self._found(
                "advice", "fleet", f"its pods run different versions, {', '.join(versions)}: finish the roll-out"
            )

    def _read_records(self) -> None:
        """Turn the records of both pods into findings, one of each kind."""
        texts: dict[str, tuple[str, str]] = {}
        for record in self._records:
            match record:
                case FleetMismatch():
                    texts["mismatch"] = "fleet", f"{record.pod or 'a pod'} has other settings: {record.reason}"
                case EnvelopeRejected():
                    texts["rejected"] = (
                        "fleet",
                        f"frames of other pods are rejected, check signing_keys: {record.reason}",
                    )
                case OriginCollision():
                    texts["collision"] = "fleet", record.reason
                case SubscriptionRefused():
                    texts[f"heard {record.channel}"] = "permissions", record.reason
                case EventDropped() if record.cause == "refused":
                    texts[f"sent {record.channel}"] = "permissions", record.reason or "the broker refuses events"
                case _:
                    pass
        known = {finding.text for finding in self.findings}
        for step, text in texts.values():
            if not any(text in other for other in known):
                self._found("problem", step, text)

    def _found(self, level: Level, step: str, text: str) -> None:
        self.findings.append(Finding(level=level, step=step, text=text))


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"
