"""The settings from flags, the environment and a file: `BusSettings`."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, cast

from attrs import field, frozen
from backplane_core import Options

from backplane_server._bus_flags import BusFlags
from backplane_server._commands.masking import MASK, mask_url
from backplane_server._commands.transports import option_names
from backplane_server._failure import MISUSED, Failure
from backplane_server._gateway.settings import PREFIX, ServeSettings

__all__ = ["BusSettings", "Setting"]

_PLACE: Final = re.compile(r"\(at (?:line \d+, column \d+|end of document)\)")
DEFAULT_FILE: Final = "backplane.toml"
CALLBACKS: Final = ("on_gap", "on_state", "observer")
NAMES: Final = ("url", *[name for name in Options.__annotations__ if name not in CALLBACKS])
KEYS: Final = "signing_keys"
NO_BUS: Final = Failure(
    "no broker is set, and memory reaches no other process",
    "pass --bus redis://localhost:6379, set BACKPLANE_URL, or write url = ... into backplane.toml",
    MISUSED,
)


@frozen
class Setting:
    """A setting that is not left at its default.

    Args:
        name: Its name.
        text: Its value; a secret is masked.
        source: The flag, variable or file that sets it.
    """

    name: str
    text: str
    source: str


@frozen
class BusSettings:
    """How to reach a fleet: flags override the environment, which overrides the file.

    Args:
        variables: All settings as environment variables, which core reads and checks.
        sources: By variable: the flag or the line of the file that it comes from, unless it is the environment.
        gateway: The settings of a gateway from the environment and the file: by name, the text and its source.
    """

    variables: Mapping[str, str]
    sources: Mapping[str, str] = field(factory=dict[str, str])
    gateway: Mapping[str, tuple[str, str]] = field(factory=dict[str, tuple[str, str]])

    @classmethod
    def read(cls, flags: BusFlags, environment: Mapping[str, str] | None = None) -> BusSettings:
        """Return the settings.

        Args:
            flags: The flags of the command.
            environment: Read instead of `os.environ`.

        Raises:
            Failure: The file can't be read, or it or a flag has an unknown name.
        """
        real = os.environ if environment is None else environment
        variables = {name: text for name, text in real.items() if name.partition("_")[0] == "BACKPLANE"}
        configured = variables.pop("BACKPLANE_CONFIG", "").strip()
        serve = {name: text for name in list(variables) if name.startswith(PREFIX) and (text := variables.pop(name))}
        sources: dict[str, str] = {}
        named = flags.config or (Path(configured) if configured else None)
        path = named or Path(DEFAULT_FILE)
        given = _read_flags(flags)
        written, table = _read_file(path) if named is not None or path.is_file() else ({}, {})
        gateway = {name: (text, f"serve.{name} in {path}") for name, text in table.items()}
        gateway |= {name.removeprefix(PREFIX).lower(): (text, name) for name, text in serve.items()}
        has_bus = bool(variables.get("BACKPLANE", "").strip()) or "BACKPLANE_URL" in variables
        for name, text in written.items():
            variable = f"BACKPLANE_{name.upper()}"
            if has_bus if name == "url" else variables.get(variable, "").strip():
                continue
            variables[variable], sources[variable] = text, f"{name} in {path}"
        for name, (text, source) in given.items():
            if name == "url":
                variables.pop("BACKPLANE", None)  # a kind of broker goes with its own URL
            variables[f"BACKPLANE_{name.upper()}"], sources[f"BACKPLANE_{name.upper()}"] = text, source
        settings = cls(variables, sources, gateway)
        own = option_names(settings.url or "")
        _check_names(written, own, f"in {path}")
        _check_names((name for name, (_, source) in given.items() if source.startswith("--option")), own, "of --option")
        return settings

    @property
    def url(self) -> str | None:
        """The URL in `BACKPLANE_URL`; None: it is in the variable of its kind, or not set."""
        return self.variables.get("BACKPLANE_URL", "").strip() or None

    @property
    def broker_url(self) -> str | None:
        """The URL that is in effect, also if it is in the variable of its kind; None: there is none."""
        kind = self.text_of("").upper()
        return self.url or (self.text_of(f"{kind}_url") or None if kind else None)

    def text_of(self, name: str) -> str:
        """Return the text of an option; empty if it is not set. An empty name means the kind of broker."""
        return self.variables.get(f"BACKPLANE_{name.upper()}" if name else "BACKPLANE", "").strip()

    def require_bus(self) -> None:
        """Raise a `Failure` if no broker is set: in memory there is no other process."""
        kind = self.variables.get("BACKPLANE", "").strip().lower()
        scheme = (self.url or "").partition("://")[0].lower()
        if {kind, scheme} & {"memory", "inmemory"} or not (kind or "BACKPLANE_URL" in self.variables):
            raise NO_BUS

    def explain(self, problem: str) -> str:
        """Return the text, with variables replaced by the flags or lines of the file that they come from."""
        for variable in sorted(self.sources, key=len, reverse=True):
            problem = problem.replace(variable, self.sources[variable])
        return problem

    def serve(self, flags: Mapping[str, str]) -> ServeSettings:
        """Return the settings of a gateway.

        Args:
            flags: The flags that are given, by name: they override the rest.

        Raises:
            Failure: One of them is not allowed.
        """
        texts = {name: text for name, (text, _) in self.gateway.items()} | dict(flags)
        sources = {name: source for name, (_, source) in self.gateway.items()}
        return ServeSettings.of(texts, sources | {name: f"--{name.replace('_', '-')}" for name in flags})

    def shown(self) -> Sequence[Setting]:
        """Return all settings that are set, sorted by name, secrets masked."""
        of_gateway = self.serve({}).shown()
        return [
            *(
                Setting(name, _shown(name, text), self.sources.get(variable, variable))
                for variable, text in sorted(self.variables.items())
                if text.strip() and (name := variable.removeprefix("BACKPLANE_").lower())
            ),
            *(Setting(f"serve.{name}", of_gateway[name], source) for name, (_, source) in sorted(self.gateway.items())),
        ]


def _shown(name: str, text: str) -> str:
    if name.endswith("url"):
        return mask_url(text)
    return text if (name in NAMES and name != KEYS) or name == "backplane" else MASK


def _read_flags(flags: BusFlags) -> dict[str, tuple[str, str]]:
    found = {
        name: (text, flag)
        for name, text, flag in (
            ("url", flags.bus, "--bus"),
            ("channel", flags.channel, "--channel"),
            ("routing", flags.routing, "--routing"),
        )
        if text is not None
    }
    for option in flags.option:
        name, equals, text = option.partition("=")
        if not equals:
            raise Failure(f"--option {name} has no value", f"write --option {name}=...", MISUSED)
        name = name.strip().lower().replace("-", "_")
        if name == KEYS:
            raise Failure(
                "--option signing_keys would show the keys to everyone on this machine",
                "set BACKPLANE_SIGNING_KEYS, or write signing_keys = [...] into the file",
                MISUSED,
            )
        found[name] = (text, f"--option {name}")
    return found


def _read_file(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Return the settings of a file: those of the fleet, and those of a gateway."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Failure(
            f"{path} can't be read: {error.strerror}", "check --config and BACKPLANE_CONFIG", MISUSED
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        place = _PLACE.search(str(error))  # the rest of the text may quote a key
        problem = f"{path} is not TOML{f' {place[0]}' if place else ''}"
    else:
        serve: object = table.pop("serve", {})
        if not isinstance(serve, dict):
            raise Failure(f"serve in {path} is not a table", "write [serve], and its settings below", MISUSED)
        own = {name: _as_text(f"serve.{name}", value, path) for name, value in cast("dict[str, object]", serve).items()}
        return {name: _as_text(name, value, path) for name, value in table.items()}, own
    raise Failure(problem, 'write lines such as url = "redis://localhost:6379"', MISUSED)


def _as_text(name: str, value: object, path: Path) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (str, int, float)):
        return str(value)
    if isinstance(value, list):
        texts = [item for item in cast("list[object]", value) if isinstance(item, str)]
        if len(texts) == len(cast("list[object]", value)):
            return ",".join(texts)
    raise Failure(f"{name} in {path} is neither text, number, true or false, nor a list of texts", code=MISUSED)


def _check_names(names: Iterable[str], own: Sequence[str], where: str) -> None:
    known = [*NAMES, *own]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            advice = f"did you mean {near[0]}?" if near else f"the options are {', '.join(sorted(known))}"
            raise Failure(f"{name} {where} is not an option", advice, MISUSED)
