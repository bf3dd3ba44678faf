"""Writes docs/api-report.txt: every public name and signature, so that a change of the API shows in a diff.

`uv run scripts/api_report.py`; with `--check` it writes nothing and fails if the file differs.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import griffe

ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / "docs" / "api-report.txt"
SOURCES = sorted(str(path) for folder in ("packages", "adapters") for path in ROOT.glob(f"{folder}/*/src"))
CHECKS = {"FLEET_CHECKS": "fleet_check", "LINK_CHECKS": "link_check"}
"""The lists of the contract kit, and the decorator by which a check enters each: users select checks by their names."""
MODULES = (
    "backplane_asgi",
    "backplane_asgi.sockets",
    "backplane_channels",
    "backplane_core",
    "backplane_core.otel",
    "backplane_core.sockets",
    "backplane_core.testing",
    "backplane_core.testing.pytest_plugin",
    "backplane_litestar",
    "backplane_nats",
    "backplane_redis",
    "backplane_server",
    "backplane_server.pusher",
    "backplane_socketio",
)
HEAD = "# Every public name, as `uv run scripts/api_report.py` writes it. If a line changes or goes, somebody breaks.\n"
CHANGED = "the public API has changed: review it, then run `uv run scripts/api_report.py`"


def report(sources: Sequence[str] = SOURCES, modules: Sequence[str] = MODULES) -> str:
    """Return the report: one line per name, members indented under their class."""
    loader = griffe.GriffeLoader(search_paths=list(sources))
    for module in modules:
        loader.load(module.partition(".")[0])
    # Its own packages alone: what a base of another library has is not ours to promise.
    loader.resolve_aliases(external=False)
    return HEAD + "".join(f"\n{module}\n{''.join(_module(loader.modules_collection[module]))}" for module in modules)


def _module(module: griffe.Module | griffe.Object | griffe.Alias) -> Iterator[str]:
    # Not of `__all__`, or `import *` would take it for the importing module's own.
    version = {"__version__"} & module.members.keys()
    for name in sorted({*version, *[str(it) for it in module.exports or ()]}):
        member = module.members[name]
        if isinstance(member, griffe.Module):
            # A function that has its module's name, like `connect`: in a running program the function has replaced it.
            member = member.members[name]
        found = list(_object(name, member.final_target if isinstance(member, griffe.Alias) else member, "    "))
        assert found, f"{name} of {module.path} is neither class nor function nor value"
        yield from found
        if name in CHECKS:
            yield from (f"        {check}\n" for check in _checks(module, CHECKS[name]))


def _checks(testing: griffe.Object | griffe.Alias, decorator: str) -> list[str]:
    """Return the names of the checks that the decorator registers."""
    return sorted(
        function.name
        for module in testing.members["_checks"].modules.values()
        for function in module.functions.values()
        if any(str(it.value) == decorator for it in function.decorators)
    )


def _object(name: str, it: griffe.Object | griffe.Alias, indent: str) -> Iterator[str]:
    if isinstance(it, griffe.Class):
        bases = ", ".join([*_bases(it), *[f"{keyword}={value}" for keyword, value in it.keywords.items()]])
        decorators = "".join(f"@{decorator.value} " for decorator in it.decorators)
        yield f"{indent}{decorators}class {name}{f'({bases})' if bases else ''}\n"
        # As written, since the order of attrs fields is that of arguments.
        defaults = _defaults(it)
        for member_name, member in public_members(it).items():
            for line in _object(member_name, member, indent + "    "):
                yield line.replace("\n", f"{defaults.get(member_name, '')}\n")
    elif isinstance(it, griffe.Function):
        yield f"{indent}{_function(name, it)}\n"
    elif isinstance(it, griffe.Attribute):
        annotation = f": {it.annotation}" if it.annotation is not None else ""
        prefix = "property " if "property" in it.labels else ""
        yield f"{indent}{prefix}{name}{annotation}{_value(it)}\n"


def _defaults(it: griffe.Class) -> dict[str, str]:
    """Return the defaults of keywords that a dictionary's class names: they stand in the attrs class next to it."""
    if it.name != "Options":
        return {}
    settings = it.module.members["Settings"]
    return {name: _value(field) for name, field in settings.members.items() if isinstance(field, griffe.Attribute)}


def _value(it: griffe.Attribute) -> str:
    """Return the value where it is part of the promise: a field's default, or what an alias stands for."""
    if it.value is None or "property" in it.labels:
        return ""
    if isinstance(it.parent, griffe.Class):
        # Not what `__init__` computes.
        return _field_value(it.value) if "class-attribute" in it.labels else ""
    return f" = {it.value}" if it.annotation is None or str(it.annotation) == "TypeAlias" else ""


def _field_value(value: str | griffe.Expr) -> str:
    """Return a field's default, without what else attrs does; a field that is no argument says so."""
    if not isinstance(value, griffe.ExprCall) or str(value.function) != "field":
        return f" = {_resolved(value)}"
    given = {it.name: it.value for it in value.arguments if isinstance(it, griffe.ExprKeyword)}
    if str(given.get("init")) == "False":
        return "  (no argument)"
    return f" = {_resolved(given['default'])}" if "default" in given else ""


def _resolved(value: str | griffe.Expr) -> str:
    """Return a value, that of one of our own constants in place of its name: else its change would not be seen."""
    if isinstance(value, griffe.ExprName) and isinstance(value.parent, (griffe.Module, griffe.Class)):
        try:
            constant = value.parent.modules_collection[value.canonical_path]
        except KeyError:
            return str(value)
        if isinstance(constant, griffe.Attribute) and constant.value is not None:
            return str(constant.value)
    return str(value)


def public_members(it: griffe.Class) -> dict[str, griffe.Object | griffe.Alias]:
    """Return the public members; those of private bases too, since a user sees them only here, or at a public base."""
    members: dict[str, griffe.Object | griffe.Alias] = {}
    shown = {base.path for public in it.mro() if not _is_private(public.path) for base in public.mro()}
    for base in reversed(it.mro()):
        if _is_private(base.path) and base.path not in shown:
            members |= base.members
    members |= it.members
    return {name: member for name, member in members.items() if _is_public(name)}


def _bases(it: griffe.Class) -> Iterator[str]:
    """Yield the bases as written, but those of our own that users can't import."""
    for base in it.bases:
        if isinstance(base, str) or not _is_private(base.canonical_path):
            yield str(base)


def _is_private(path: str) -> bool:
    """Whether a class is of a private file or folder, or has a private name itself."""
    return path.startswith("backplane_") and "._" in path


def _is_public(name: str) -> bool:
    dunders = {"__init__", "__call__", "__aenter__", "__aexit__", "__enter__", "__exit__", "__await__", "__aiter__"}
    return not name.startswith("_") or name in dunders | {"__anext__", "__iter__", "__next__", "__bool__"}


def _function(name: str, it: griffe.Function) -> str:
    labels = {"classmethod", "staticmethod", "async", "abstractmethod"} & it.labels
    prefix = "".join(f"{label} " for label in sorted(labels))
    returns = f" -> {it.returns}" if it.returns is not None else ""
    return f"{prefix}def {name}({', '.join(_parameters(it))}){returns}"


def _parameters(it: griffe.Function) -> Iterator[str]:
    kind = griffe.ParameterKind
    seen_positional_only = seen_star = False
    for parameter in it.parameters:
        if parameter.name in {"self", "cls"}:
            continue
        if seen_positional_only and parameter.kind is not kind.positional_only:
            yield "/"
        seen_positional_only = parameter.kind is kind.positional_only
        if parameter.kind is kind.keyword_only and not seen_star:
            yield "*"
        seen_star = seen_star or parameter.kind in {kind.keyword_only, kind.var_positional}
        yield _parameter(parameter)
    if seen_positional_only:
        yield "/"


def _parameter(parameter: griffe.Parameter) -> str:
    stars = {griffe.ParameterKind.var_positional: "*", griffe.ParameterKind.var_keyword: "**"}
    annotation = f": {parameter.annotation}" if parameter.annotation is not None else ""
    star = "" if parameter.kind is None else stars.get(parameter.kind, "")
    default = f" = {_resolved(parameter.default)}" if parameter.default is not None and not star else ""
    return f"{star}{parameter.name}{annotation}{default}"


def main() -> None:
    """Write the report, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="fail if the file differs")
    found = report()
    if not parser.parse_args().check:
        REPORT.parent.mkdir(exist_ok=True)
        REPORT.write_text(found)
        return
    written = REPORT.read_text() if REPORT.exists() else ""
    if written != found:
        diff = difflib.unified_diff(written.splitlines(), found.splitlines(), "committed", "now", lineterm="", n=1)
        sys.exit("\n".join([CHANGED, *diff]))


if __name__ == "__main__":
    main()
