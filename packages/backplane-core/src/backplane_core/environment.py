"""What the environment says of a backplane: `Environment`. No error and no warning quotes a value."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, cast, get_origin

from attrs import Attribute, fields, frozen

from backplane_core._runtime.logging import logger
from backplane_core.adapters import MEMORY, TLS_SCHEMES, family_of, installed, scheme_of
from backplane_core.errors import ConfigurationError
from backplane_core.options import ConnectOptions, Settings, allowed_values

__all__ = ["Environment"]

_KEYS: Final = "signing_keys"
_OPTIONS: Final = tuple(attribute.name for attribute in fields(Settings) if attribute.name != _KEYS)
_KINDS: Final = ("redis", "valkey", "nats")
"""Kinds whose variables are known whether their adapter is installed or not."""

_SWITCHES: Final = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}
"""How text says True and False, in upper or lower case."""

_OTHERS: Final = re.compile("BACKPLANE_(?:CONFIG|TRACEBACKS|PLAIN_FUTURES|(?:SERVE|TEST|REQUIRE|SOAK)_.*)")
"""Variables that are read elsewhere, always under these names: for debugging, by the command and by test suites."""

_OF_KUBERNETES: Final = re.compile(
    r".*(?:_SERVICE_HOST|_SERVICE_PORT(?:_.*)?|_PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_\w+)?)?)"
)
"""What Kubernetes sets for each service that runs in the namespace, one called `backplane` included."""

_MOST_NAMED: Final = 10
"""Unknown variables that are named: a warning is a line, no page."""


@frozen
class Environment:
    """The variables that begin with a prefix.

    Args:
        variables: All of the process, or a test's.
        prefix: `BACKPLANE`, unless a host has one of its own.
    """

    variables: Mapping[str, str]
    prefix: str

    def url(self) -> str | None:
        """Return the URL that is chosen; None: in memory.

        Raises:
            ConfigurationError: The kind is unknown, kind and URL disagree, or there is no URL.
            AdapterNotInstalledError: The kind's adapter is not installed; says what to `pip install`.
        """
        prefix = self.prefix
        kind, url = self._read(prefix).lower(), self._read(f"{prefix}_URL")
        if not kind and not url:
            if f"{prefix}_URL" in self.variables:
                raise ConfigurationError(
                    f"{prefix}_URL is set and empty, which reaches no other process: unset it, or set {prefix}=memory"
                )
            ignored = [name for name in self._names_of_urls() if self._read(name)]
            if ignored:
                logger.warning("%s is set but %s is not: working in memory", " and ".join(ignored), prefix)
            return None
        if not kind:
            return url
        if kind not in MEMORY:
            return self._url_for(kind)
        if url and scheme_of(url) not in MEMORY:
            raise ConfigurationError(
                f"{prefix}={kind} and the {scheme_of(url)}:// URL in {prefix}_URL disagree: drop one"
            )
        return None

    def options(self, given: ConnectOptions, own: Iterable[str]) -> ConnectOptions:
        """Return the options that are given, and those that are not but have a variable.

        Args:
            given: The caller's, which win.
            own: Names of the adapter's own options.

        Raises:
            ConfigurationError: A value is not allowed; names the variable and says what is.
        """
        options: dict[str, Any] = dict(given)
        for name in _OPTIONS:
            if name not in options and (text := self._read(variable := self._variable(name))):
                options[name] = _checked(variable, name, text)
        if _KEYS not in options and self._variable(_KEYS) in self.variables:
            options[_KEYS] = self._keys()
        texts = {name: text for name in own if name not in options and (text := self._read(self._variable(name)))}
        if texts:
            options["transport_options"] = {**texts, **(options.get("transport_options") or {})}
        return cast("ConnectOptions", options)

    def warn_of_unknown(self, own: Iterable[str]) -> None:
        """Log the variables that begin with the prefix and mean nothing, and the ones that may be meant.

        Args:
            own: Names of the adapter's own options.
        """
        start = f"{self.prefix}_"
        known = [
            name.removeprefix(start)
            for name in (*map(self._variable, (*_OPTIONS, _KEYS, *own)), f"{self.prefix}_URL", *self._names_of_urls())
        ]
        hints: list[str] = []
        for variable in sorted(self.variables):
            name = variable.removeprefix(start)
            if name == variable or name in known or _OTHERS.fullmatch(variable) or _OF_KUBERNETES.fullmatch(variable):
                continue
            near = difflib.get_close_matches(name, known, n=1)
            # A prefix that a host shares with settings of its own is no reason to warn of those.
            if near or self.prefix.endswith("BACKPLANE"):
                hints.append(f"{variable} (did you mean {start}{near[0]}?)" if near else variable)
        if hints:
            more = f" and {len(hints) - _MOST_NAMED} more" if len(hints) > _MOST_NAMED else ""
            logger.warning(
                "the environment sets variables that no option reads: %s%s", ", ".join(hints[:_MOST_NAMED]), more
            )

    def _variable(self, option: str) -> str:
        return f"{self.prefix}_{option.upper()}"

    def _read(self, name: str) -> str:
        """Return a variable without white space around it; empty if it is not set."""
        return self.variables.get(name, "").strip()

    def _names_of_urls(self) -> list[str]:
        return list(dict.fromkeys([self._name_of_url(scheme) for scheme in (*_KINDS, *sorted(installed()))]))

    def _names_for(self, kind: str, schemes: Iterable[str]) -> list[str]:
        """Return the variables that may hold the URL for a kind, the first one first."""
        return list(dict.fromkeys([f"{self.prefix}_URL", *map(self._name_of_url, (kind, *schemes))]))

    def _name_of_url(self, scheme: str) -> str:
        # No shell sets a variable with a sign in its name.
        return f"{self.prefix}_{re.sub('[^A-Z0-9]', '_', scheme.upper())}_URL"

    def _keys(self) -> list[str]:
        name = self._variable(_KEYS)
        keys = [key for part in self._read(name).split(",") if (key := part.strip())]
        if not keys:
            raise ConfigurationError(f"{name} is set and holds no key: unset it for a fleet that does not sign")
        return keys

    def _url_for(self, kind: str) -> str:
        """Return the URL for a kind."""
        prefix, family = self.prefix, family_of(kind, self.prefix)
        found = next(((name, value) for name in self._names_for(kind, family) if (value := self._read(name))), None)
        fitting = [scheme for scheme in family if (scheme in TLS_SCHEMES) is (kind in TLS_SCHEMES)]
        if found is None:
            names = " or ".join(self._names_for(kind, fitting))
            raise ConfigurationError(f"{prefix}={kind} needs a URL: set {names}, for example {kind}://localhost")
        name, url = found
        if scheme_of(url) not in family:
            schemes = ", ".join([f"{scheme}://" for scheme in fitting])
            raise ConfigurationError(
                f"{prefix}={kind} and the {scheme_of(url)}:// URL in {name} disagree: {kind} takes {schemes}"
            )
        if scheme_of(url) not in fitting:
            means, other = ("asks for TLS", "has none") if kind in TLS_SCHEMES else ("means no TLS", "asks for it")
            raise ConfigurationError(
                f"{prefix}={kind} {means}, and the {scheme_of(url)}:// URL in {name} {other}: they disagree; take the "
                f"scheme that is meant in both, or leave {prefix} out"
            )
        return url


def _checked(variable: str, name: str, text: str) -> str | bool:
    """Return the value of an option that was written as text, for `Settings.of`."""
    attribute: Attribute[Any] = getattr(fields(Settings), name)
    value: str | bool = text
    if attribute.type is bool:
        value = _SWITCHES.get(text.lower(), text)
    elif get_origin(attribute.type) is Literal:
        value = text.lower()
    try:
        Settings.of({name: value})
    except ConfigurationError:
        problem = f"{variable} holds what is no {name}: allowed is {allowed_values(name)}"
    else:
        return value
    raise ConfigurationError(problem)  # out here, where no `__context__` carries the text
