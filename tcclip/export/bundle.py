"""One Python file from the sources of several modules: what one of them needs, and no more.

Definitions keep their text, their comments and their order. So what an exported file computes is
what this package computes, without a second implementation of anything.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path

PACKAGE = "tcclip"
STAND_IN = "tcclip.export.plain_settings"
#: What the file has from there instead: (module, name).
REPLACED = {
    ("tcclip.config", "FrozenModel"),
    ("pydantic", "Field"),
    ("pydantic", "field_validator"),
    ("tcclip.model.merging.gpu", "kernel_match"),
}
#: Packages without which the file can be imported all the same.
OPTIONAL = ("av",)

#: A module's name and that of something defined in it.
Place = tuple[str, str]


@dataclass(frozen=True)
class _Module:
    """A module's source. By the name that is known in it: `statements` define it, `ours` is where
    it is imported from, `others` how it is imported from other packages."""

    name: str
    tree: ast.Module
    lines: list[str]
    statements: dict[str, ast.stmt] = field(default_factory=dict)
    ours: dict[str, Place] = field(default_factory=dict)
    others: dict[str, tuple[str, str]] = field(default_factory=dict)


@cache
def bundle(root: str, introduction: str) -> str:
    """The text of a file that holds all of module `root` and what it needs.

    `introduction`: the file's docstring. ValueError if two modules use one name for two things.
    Made once a process: it takes a second.
    """
    sources = _Sources()
    source = _module(root)
    for name in source.statements:
        sources.require((root, name))
    order = sources.order(root)
    sources.check_names(order)
    parts = [f'"""{introduction}"""', "from __future__ import annotations", sources.imports()]
    parts += [sources.text(name) for name in order]
    parts += [_text(source, one) for one in source.tree.body if _is_main(one)]
    return "\n\n".join(part for part in parts if part) + "\n"


class _Sources:
    """What is needed of the modules."""

    def __init__(self) -> None:
        self._needed: dict[str, set[str]] = {}
        self._imports: dict[str, tuple[str, str]] = {}

    def require(self, place: Place) -> None:
        """Take a definition, and all that it uses."""
        todo = [place]
        while todo:
            module, name = todo.pop()
            source = _module(module)
            if (module, name) in REPLACED:
                todo.append((STAND_IN, name))
            elif name in source.ours:
                todo.append(source.ours[name])
            elif name in source.others:
                wanted = source.others[name]
                present = self._imports.setdefault(name, wanted)
                if present != wanted:
                    raise ValueError(
                        f"{name} is imported from {present[0]} and {wanted[0]}: rename one"
                    )
            elif name in source.statements and name not in self._needed.setdefault(module, set()):
                self._needed[module].add(name)
                todo += [(module, used) for used in _used(source.statements[name])]

    def order(self, root: str) -> list[str]:
        """The needed modules, each after those that it imports from."""
        found: dict[str, None] = {}
        seen = set[str]()  # a package and its modules may import each other

        def add(name: str) -> None:
            if name not in seen:
                seen.add(name)
                source = _module(name)
                below = [place[0] for place in source.ours.values()]
                for other in (*below, STAND_IN) if name != STAND_IN else ():
                    add(other)
                found[name] = None

        add(root)
        return [name for name in found if self._needed.get(name)]

    def check_names(self, modules: list[str]) -> None:
        """ValueError for a name that would be two things in one file."""
        owners = {name: f"the import from {module}" for name, (module, _) in self._imports.items()}
        for module in modules:
            for name in sorted(self._needed[module]):
                if name in owners:
                    raise ValueError(f"{name} is in {module} and in {owners[name]}: rename one")
                owners[name] = module

    def imports(self) -> str:
        """The imports of other packages: the standard library's, then others', optional last."""
        groups: list[list[str]] = [[], [], []]
        for module in sorted({module for module, _ in self._imports.values()}):
            whole = sorted({text for at, text in self._imports.values() if at == module})
            names = [text for text in whole if not text.startswith("import ")]
            lines = [text for text in whole if text.startswith("import ")]
            lines += [f"from {module} import {', '.join(names)}"] if names else []
            package = module.split(".")[0]
            at = 2 if package in OPTIONAL else 0 if package in sys.stdlib_module_names else 1
            groups[at] += lines
        parts = ["\n".join(lines) for lines in groups[:2]]
        if groups[2]:
            # Annotations are not evaluated, so nothing misses these until a video is read.
            optional = "\n".join(f"    {line}" for line in groups[2])
            parts.append(f"try:\n{optional}\nexcept ImportError:\n    pass  # see read_frames")
        return "\n\n".join(part for part in parts if part)

    def text(self, name: str) -> str:
        """The needed definitions of a module, under its introduction as a comment."""
        source = _module(name)
        about = (ast.get_docstring(source.tree) or "").splitlines()
        path = name.replace(".", "/") + ".py"
        head = "\n".join([f"# ---- {path} ----", "#", *(f"# {line}".rstrip() for line in about)])
        parts, seen = [head], set[int]()
        for one in source.tree.body:
            if set(_defined(one)) & self._needed[name] and one.lineno not in seen:
                seen.add(one.lineno)
                parts.append(_text(source, one))
        return "\n\n".join(parts)


@cache
def _module(name: str) -> _Module:
    spec = find_spec(name)
    assert spec is not None and spec.origin is not None, name
    text = Path(spec.origin).read_text(encoding="utf-8")
    source = _Module(name, ast.parse(text), text.splitlines())
    for one in source.tree.body:
        for imported in _imports(one):
            _add_import(source, imported)
        source.statements.update(dict.fromkeys(_defined(one), one))
    return source


def _imports(one: ast.stmt) -> Iterator[ast.Import | ast.ImportFrom]:
    """Imports of a statement; those for type checkers alone count."""
    if isinstance(one, ast.Import | ast.ImportFrom):
        yield one
    elif isinstance(one, ast.If) and not _is_main(one):
        for inner in one.body:
            yield from _imports(inner)


def _add_import(source: _Module, one: ast.Import | ast.ImportFrom) -> None:
    for alias in one.names:
        known = alias.asname or alias.name
        renamed = f"{alias.name} as {alias.asname}" if alias.asname else alias.name
        if isinstance(one, ast.Import):
            source.others[known.split(".")[0]] = (alias.name, f"import {renamed}")
        elif (one.module, alias.name) in REPLACED:
            source.ours[known] = (STAND_IN, alias.name)
        elif one.module and one.module.split(".")[0] == PACKAGE:
            assert alias.asname is None, f"{source.name}: {renamed} cannot be put into one file"
            source.ours[known] = (one.module, alias.name)
        elif one.module != "__future__":
            source.others[known] = (str(one.module), renamed)


def _defined(one: ast.stmt) -> list[str]:
    """The names that a statement of a module defines."""
    if isinstance(one, ast.FunctionDef | ast.ClassDef):
        return [one.name]
    targets = one.targets if isinstance(one, ast.Assign) else []
    targets = [one.target] if isinstance(one, ast.AnnAssign) else targets
    names = [node for target in targets for node in ast.walk(target)]
    return [node.id for node in names if isinstance(node, ast.Name)]


def _used(one: ast.stmt) -> set[str]:
    return {node.id for node in ast.walk(one) if isinstance(node, ast.Name)}


def _is_main(one: ast.stmt) -> bool:
    return isinstance(one, ast.If) and "__name__" in _used(one)


def _text(source: _Module, one: ast.stmt) -> str:
    """A statement as it is written, with its decorators and the comment above it."""
    decorators = getattr(one, "decorator_list", [])
    first = min([one.lineno, *(node.lineno for node in decorators)]) - 1
    while first and source.lines[first - 1].startswith("#"):
        first -= 1
    return "\n".join(source.lines[first : one.end_lineno])
