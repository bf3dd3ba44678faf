"""The base of all measurements: `Measure` has the options of the command line, the figures, and what they come to."""

from __future__ import annotations

import argparse
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final, Generic, Protocol, Self, TypeVar

from attrs import evolve, field, fields, frozen
from backplane_testservers import Kind

from bench.findings import Findings

__all__ = ["BUSES", "NAMES", "Measure", "Progress", "option"]

F = TypeVar("F")

BUSES: Final[Mapping[str, tuple[Kind, ...]]] = {"redis": ("redis",), "nats": ("nats",), "both": ("redis", "nats")}
NAMES: Final[Mapping[str, str]] = {"redis": "Redis", "nats": "NATS"}


class Progress(Protocol):
    """Shows how far a measurement is."""

    def expect(self, steps: int) -> None:
        """From now on so many steps follow."""
        ...

    def step(self, what: str) -> None:
        """The next step begins."""
        ...


def option(default: Any, about: str, choices: Iterable[str] | None = None) -> Any:  # noqa: ANN401 -- as attrs'
    """Return a field that is an option of the command line too; numbers are positive.

    Args:
        default: Also says the type; of a tuple, that of its items.
        about: For `--help`.
        choices: What it may be.
    """
    given: Any = default
    many = isinstance(default, tuple)
    first: Any = given[0] if many else given
    known = None if choices is None else tuple(choices)
    metadata: dict[str, Any] = {"about": about, "choices": known, "of": type(first), "many": many}
    return field(default=given, metadata=metadata)


@frozen(kw_only=True)
class Measure(ABC, Generic[F]):
    """One measurement at some size. A subclass is an attrs class whose fields are made by `option`.

    Attributes:
        name: Of the measurement, in commands and files.
        title: Its heading on the page.
        figures: The type of what it measures, fit for cattrs.
        quick: Options of a short run, which shows that all works.
        usual_s: About how many seconds it takes on two cores.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    figures: ClassVar[type[Any]]
    quick: ClassVar[Mapping[str, Any]]
    usual_s: ClassVar[float]

    @abstractmethod
    def measure(self, progress: Progress) -> F:
        """Measure.

        Raises:
            BrokerUnavailable: There is no Redis or no NATS here.
            LibraryMissing: The dependency group `bench` is not installed.
            ProcessFailed: A process failed; it has said why.
        """

    @classmethod
    @abstractmethod
    def findings(cls, figures: F) -> Findings:
        """Return what these figures come to."""

    @classmethod
    def about(cls) -> str:
        """Return one line on what is measured."""
        return (cls.__doc__ or "").partition("\n")[0]

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        """Let a parser take the options of this measurement."""
        for one in fields(cls):
            default: Any = one.default
            many = one.metadata["many"]
            of: type[Any] = one.metadata["of"]
            parser.add_argument(
                f"--{one.name.replace('_', '-')}",
                default=None,  # not given, so that --quick sees what was
                type=str if of is str else _positive(of),
                nargs="+" if many else None,
                choices=one.metadata["choices"],
                metavar=one.name.upper() if one.metadata["choices"] is None else None,
                help=f"{one.metadata['about']} (default: {' '.join(map(str, default)) if many else default})",
            )

    @classmethod
    def of(cls, given: argparse.Namespace, *, quick: bool) -> Self:
        """Return the measurement with these options; what was not given is as usual, or as in a short run."""
        chosen: dict[str, Any] = {one.name: getattr(given, one.name) for one in fields(cls)}
        made = cls.sized(quick=quick)
        for one in fields(cls):
            if (value := chosen[one.name]) is not None:
                made = evolve(made, **{one.name: tuple(value) if one.metadata["many"] else value})
        return made

    @classmethod
    def sized(cls, *, quick: bool) -> Self:
        """Return the measurement as usual, or a short one."""
        return cls(**cls.quick) if quick else cls()


def _positive(of: type[Any]) -> Any:  # noqa: ANN401 -- a type of argparse
    def parse(text: str) -> Any:  # noqa: ANN401 -- of that type
        value = of(text)
        if not value > 0:
            raise argparse.ArgumentTypeError("must be more than 0")
        return value

    parse.__name__ = of.__name__  # in argparse's messages
    return parse
