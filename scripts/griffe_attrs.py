"""Shows Griffe the constructor of a class made by attrs: an extension in mkdocs.yml, for the reference.

Griffe reads sources and does not run them. It knows the `__init__` of dataclasses; this adds that of attrs classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from griffe import (
    Alias,
    AliasResolutionError,
    Attribute,
    Class,
    Expr,
    ExprCall,
    ExprKeyword,
    ExprSubscript,
    Extension,
    Function,
    Module,
    Parameter,
    ParameterKind,
    Parameters,
)

MAKERS: Final = {"attrs.frozen", "attrs.define"}


class Attrs(Extension):
    """Gives each class decorated with `@frozen` or `@define` the `__init__` that it will have."""

    def on_package(self, *, pkg: Module, **_: Any) -> None:  # noqa: ANN401 -- Griffe's own
        """Add an `__init__` made from the fields, now that all modules are read, whose classes may be their bases."""
        for cls in _classes(pkg):
            _add_constructor(cls)


def _add_constructor(cls: Class) -> None:
    made_by = _maker(cls)
    if made_by is None or "__init__" in cls.members:
        return
    kind = (
        ParameterKind.keyword_only
        if _keywords(made_by).get("kw_only") == "True"
        else ParameterKind.positional_or_keyword
    )
    self_ = Parameter("self", kind=ParameterKind.positional_or_keyword)
    parameters = Parameters(self_, *_parameters(cls, kind))
    init = Function("__init__", parameters=parameters, returns="None", parent=cls, lineno=cls.lineno)
    cls.set_member("__init__", init)


def _parameters(cls: Class, kind: ParameterKind) -> Iterator[Parameter]:
    for base in _bases(cls):
        yield from _parameters(base, kind)
    for name, member in cls.members.items():
        if isinstance(member, Attribute) and member.annotation is not None and "property" not in member.labels:
            is_field = _callee(member.value) == "attrs.field"
            given = _keywords(member.value) if is_field else {}
            if given.get("init") != "False":
                default = given.get("default") if is_field else member.value
                argument = given.get("alias", name).strip("'\"").lstrip("_")
                yield Parameter(argument, annotation=member.annotation, kind=kind, default=default)


def _bases(cls: Class) -> Iterator[Class]:
    """Yield the base classes whose fields it has too."""
    for base in cls.bases:
        name = base.left if isinstance(base, ExprSubscript) else base
        found = cls.parent.members.get(str(name)) if cls.parent else None
        if isinstance(found, Alias):
            try:
                found = found.final_target
            except AliasResolutionError:
                continue  # of another package
        if isinstance(found, Class) and _maker(found) is not None:
            yield found


def _classes(module: Module) -> Iterator[Class]:
    for member in list(module.members.values()):
        if isinstance(member, Class):
            yield member
        elif isinstance(member, Module):
            yield from _classes(member)


def _maker(cls: Class) -> str | Expr | None:
    """Return its decorator of attrs; None if it has none."""
    return next((it.value for it in cls.decorators if _callee(it.value) in MAKERS), None)


def _callee(value: str | Expr | None) -> str | None:
    function = value.function if isinstance(value, ExprCall) else value
    return function.canonical_path if isinstance(function, Expr) else None


def _keywords(value: str | Expr | None) -> dict[str, str]:
    if not isinstance(value, ExprCall):
        return {}
    return {it.name: str(it.value) for it in value.arguments if isinstance(it, ExprKeyword)}
