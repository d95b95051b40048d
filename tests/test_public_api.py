"""The public API is whole: what a public call takes, gives or raises can be imported from `napari_dala`.

The walk begins at the names in `napari_dala.__all__` and follows the annotations of their parameters, attributes and
methods to every class of this package.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import re
import sys
import textwrap
import typing
from functools import cache, cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import napari_dala

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

NOT_PUBLIC: dict[str, str] = {}
"""Classes, as "module.name", that a walk may find and that are not to be imported from the package, and why."""


def test_every_class_that_a_public_call_takes_or_gives_can_be_imported() -> None:
    found = _reachable()
    public = {getattr(napari_dala, name) for name in napari_dala.__all__}
    missing = {_path(one): by for one, by in found.items() if one not in public and _path(one) not in NOT_PUBLIC}
    assert not missing, "\n".join(f"{name}: by way of {by}" for name, by in missing.items())


def test_what_is_not_public_is_still_reached() -> None:
    assert set(NOT_PUBLIC) <= {_path(one) for one in _reachable()}


def test_every_error_can_be_imported() -> None:
    from napari_dala import errors

    for one in vars(errors).values():
        if isinstance(one, type):
            assert getattr(napari_dala, one.__name__, None) is one


def test_every_error_named_in_a_docstring_can_be_imported_and_is_one_for_users() -> None:
    wrong = []
    for where, one in _documented():
        text = inspect.cleandoc(one.__doc__ or "")
        for name in {*_section(text, "Raises"), *re.findall(r"\b[A-Z]\w*Error\b", text)}:
            error = getattr(builtins, name, None) or getattr(napari_dala, name, None)
            builtin = error is not None and error.__module__ == "builtins"
            if not (builtin or (isinstance(error, type) and issubclass(error, napari_dala.DalaError))):
                wrong.append(f"{where}: {name}")
    assert not wrong


def test_everything_public_has_a_docstring_that_names_its_parameters() -> None:
    wrong = []
    for where, one in _documented():
        text = inspect.cleandoc(one.__doc__ or "")
        if not text:
            wrong.append(f"{where}: no docstring")
        named = _section(text, "Parameters")
        if inspect.isfunction(one) and (named or "." not in where):  # a method may say all in one line
            parameters = {name.lstrip("*") for name in inspect.signature(one).parameters} - {"self", "cls"}
            wrong += [f"{where}: {name}" for name in sorted(parameters ^ {name.lstrip("*") for name in named})]
    assert not wrong


def test_the_stub_is_the_list_of_public_names() -> None:
    stub = ast.parse(Path(napari_dala.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    listed = {alias.name for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert listed == set(napari_dala.__all__) - {"__version__"}
    assert all(getattr(napari_dala, name).__name__ == name for name in listed)


@cache
def _reachable() -> dict[type, str]:
    """Return every class of this package that the public names lead to, and by which way."""
    found: dict[type, str] = {}

    def visit(one: Any, by: str) -> None:
        if isinstance(one, type):
            if one in found:
                return
            found[one] = by or one.__name__
        for name, hint in _hints(one):
            for leads_to in _classes_in(hint):
                visit(leads_to, f"{by} > {one.__name__}.{name}".removeprefix(" > "))

    for name in napari_dala.__all__:
        if name != "__version__":
            visit(getattr(napari_dala, name), "")
    return found


def _hints(one: Any) -> Iterator[tuple[str, object]]:
    """Yield what is annotated on a function, or on a class, its bases of this package and their public members."""
    if not isinstance(one, type):
        yield from _resolved(one.__annotations__, one.__module__).items()
        return
    for owner in one.__mro__:
        if _is_ours(owner):
            yield from _bases(owner)
            annotated = {**vars(owner).get("__annotations__", {}), **_annotated_on_self(owner)}
            public = {name: hint for name, hint in annotated.items() if not name.startswith("_")}
            yield from _resolved(public, owner.__module__).items()
            for name, function in _methods(owner):
                for hint in _resolved(function.__annotations__, owner.__module__).values():
                    yield name, hint


def _bases(owner: type) -> Iterator[tuple[str, object]]:
    yield from (("base", base) for base in owner.__bases__ if _is_ours(base))


def _methods(owner: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield a class's own public functions and properties, `__init__`, `__call__` and their like among them."""
    for name, member in vars(owner).items():
        if isinstance(member, property):
            member = member.fget
        elif isinstance(member, cached_property):
            member = member.func
        elif isinstance(member, (classmethod, staticmethod)):
            member = member.__func__
        public = not name.startswith("_") or name.startswith("__")
        if public and inspect.isroutine(member):
            function = inspect.unwrap(member)
            if inspect.isfunction(function) and function.__code__.co_filename == inspect.getfile(owner):
                yield name, function  # not what `dataclass` made


def _annotated_on_self(owner: type) -> dict[str, str]:
    """Return the attributes that a class's functions annotate, as in ``self.name: str = ...``."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(owner)))
    assigned = [node for node in ast.walk(tree) if isinstance(node, ast.AnnAssign)]
    return {to.attr: ast.unparse(node.annotation) for node in assigned if isinstance(to := node.target, ast.Attribute)}


def _resolved(annotations: dict[str, Any], module: str) -> dict[str, Any]:
    return typing.get_type_hints(SimpleNamespace(__annotations__=annotations), _names_of(module))


@cache
def _names_of(module: str) -> dict[str, Any]:
    """Return a module's names, those too that it imports for the type checker only."""
    names = dict(vars(sys.modules[module]))
    for node in _type_checking(sys.modules[module]):
        exec(compile(ast.Module(node.body, []), module, "exec"), names)
    return names


def _type_checking(module: ModuleType) -> list[ast.If]:
    body = ast.parse(inspect.getsource(module)).body
    return [node for node in body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]


def _classes_in(hint: object) -> Iterator[type]:
    if _is_ours(hint):
        yield hint
    for part in hint if isinstance(hint, list) else typing.get_args(hint):  # a list: what a Callable takes
        yield from _classes_in(part)


def _is_ours(one: object) -> typing.TypeGuard[type]:
    return isinstance(one, type) and one.__module__.partition(".")[0] == "napari_dala"


def _path(one: type) -> str:
    return f"{one.__module__}.{one.__name__}"


def _documented() -> Iterator[tuple[str, Any]]:
    """Yield everything public that must have a docstring: functions and classes, and the classes' methods."""
    for name in napari_dala.__all__:
        if name == "__version__":
            continue
        one = getattr(napari_dala, name)
        yield name, one
        if isinstance(one, type):
            members = [pair for owner in one.__mro__ if _is_ours(owner) for pair in _methods(owner)]
            yield from ((f"{name}.{member}", function) for member, function in members if member[0] != "_")


def _section(text: str, title: str) -> list[str]:
    """Return the names that a section of a numpy docstring explains."""
    _, _, rest = f"\n{text}\n".partition(f"\n{title}\n{'-' * len(title)}\n")
    lines = rest.splitlines()
    names = []
    for number, line in enumerate(lines):
        if set("".join(lines[number + 1 : number + 2])) == {"-"}:  # the next section
            break
        if line and not line[0].isspace():
            names += line.partition(" : ")[0].split(", ")
    return names
