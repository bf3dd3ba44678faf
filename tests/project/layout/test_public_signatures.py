"""What stands in a public signature can be imported from a public place, and no public class shows what is internal."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import griffe
import pytest

from scripts.api_report import MODULES, ROOT, SOURCES, public_members

OURS = {module.partition(".")[0] for module in MODULES}
INTERNAL = re.compile(r"internal|for subclasses|for tests|other files of this package", re.IGNORECASE)


class Api:
    """The public names of our packages, as a tool sees them that reads the sources."""

    def __init__(self, sources: Sequence[str], modules: Sequence[str]) -> None:
        self._loader = griffe.GriffeLoader(search_paths=list(sources))
        for package in {module.partition(".")[0] for module in modules}:
            self._loader.load(package)
        self._loader.resolve_aliases(external=False)
        self.public = dict(self._public(modules))

    def _public(self, modules: Sequence[str]) -> Iterator[tuple[str, griffe.Object]]:
        """Yield each public name's own path, and what it stands for."""
        for path in modules:
            module = self._loader.modules_collection[path]
            for name in map(str, module.exports or ()):
                member = module.members[name]
                if isinstance(member, griffe.Module):  # a function that has its module's name
                    member = member.members[name]
                target = member.final_target if isinstance(member, griffe.Alias) else member
                yield target.path, target

    def signatures(self) -> Iterator[tuple[str, griffe.Expr | str]]:
        """Yield each annotation and alias of the public names, and where it stands."""
        for path, it in self.public.items():
            yield from _annotations(path, it)

    def private_types(self) -> list[str]:
        """Return each type of ours in a signature that is not public, and where it stands."""
        return sorted(
            {
                f"{name.canonical_path} in {where}"
                for where, annotation in self.signatures()
                if isinstance(annotation, griffe.Expr)
                for name in annotation.iterate(flat=True)
                if isinstance(name, griffe.ExprName) and self._is_hidden(name.canonical_path)
            }
        )

    def _is_hidden(self, path: str) -> bool:
        if path.partition(".")[0] not in OURS or path in self.public:
            return False
        found = self._loader.modules_collection[path]
        target = found.final_target if isinstance(found, griffe.Alias) else found
        # A type variable stands for whatever its user says.
        is_variable = isinstance(target, griffe.Attribute) and str(target.value).startswith("TypeVar(")
        return target.path not in self.public and not is_variable

    def internal_members(self) -> list[str]:
        """Return the members of public classes whose docstring says that they are not for users."""
        return [
            member.path
            for it in self.public.values()
            if isinstance(it, griffe.Class)
            for member in public_members(it).values()
            if member.docstring is not None and INTERNAL.search(member.docstring.value)
        ]

    def durations(self) -> Iterator[griffe.Parameter]:
        """Yield the parameters of public functions and methods that are seconds."""
        for it in self.public.values():
            functions = public_members(it).values() if isinstance(it, griffe.Class) else [it]
            for function in functions:
                if isinstance(function, griffe.Function) and function.name != "__init__":
                    yield from (parameter for parameter in function.parameters if parameter.name.endswith("_s"))


def _annotations(path: str, it: griffe.Object | griffe.Alias) -> Iterator[tuple[str, griffe.Expr | str]]:
    if isinstance(it, griffe.Class):
        for member in public_members(it).values():
            yield from _annotations(member.path, member)
    elif isinstance(it, griffe.Function):
        for parameter in it.parameters:
            if parameter.annotation is not None:
                yield path, parameter.annotation
        if it.returns is not None:
            yield path, it.returns
    elif isinstance(it, griffe.Attribute):
        if it.annotation is not None:
            yield path, it.annotation
        if it.value is not None and str(it.annotation) == "TypeAlias":
            yield path, it.value


@pytest.fixture(scope="module")
def api() -> Api:
    return Api(SOURCES, MODULES)


def test_there_is_something_to_look_at(api: Api) -> None:
    assert len(api.public) > 60
    assert len(list(api.signatures())) > 300


def test_every_type_in_a_public_signature_can_be_imported_from_a_public_place(api: Api) -> None:
    assert api.private_types() == []


def test_no_public_class_shows_what_is_internal(api: Api) -> None:
    assert api.internal_members() == []


def test_seconds_are_passed_by_name(api: Api) -> None:
    durations = list(api.durations())
    assert {"timeout_s", "drain_s"} <= {parameter.name for parameter in durations}
    assert [it for it in durations if it.kind is not griffe.ParameterKind.keyword_only] == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("def ready(self) -> Readiness:", "def ready(self) -> Holding:"),
        ("def flush(self, *, timeout_s: float", "def flush(self, holding: Holding, *, timeout_s: float"),
    ],
)
def test_a_private_type_in_a_public_signature_is_seen(tmp_path: Path, old: str, new: str) -> None:
    shutil.copytree(ROOT / "packages/backplane-core/src/backplane_core", tmp_path / "backplane_core")
    path = tmp_path / "backplane_core" / "base.py"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    (found,) = Api([str(tmp_path)], ["backplane_core"]).private_types()
    assert found.startswith("backplane_core._pod.holding.Holding in backplane_core.base.BaseBackplane.")


def test_a_method_that_is_not_for_users_is_seen(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "packages/backplane-core/src/backplane_core", tmp_path / "backplane_core")
    path = tmp_path / "backplane_core" / "memory.py"
    path.write_text(f'{path.read_text()}\n    def lease(self) -> None:\n        """For tests."""\n')
    assert Api([str(tmp_path)], ["backplane_core"]).internal_members() == [
        "backplane_core.memory.InMemoryBackplane.lease"
    ]
