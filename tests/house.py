"""The house rules, checked by `make lint`, and the picture of the rooms in docs/architecture.md.

python -m tests.house           # names every rule that is broken; exit 1 if there is one
python -m tests.house --draw    # draws the picture anew, from the imports
Which room may import which, and that there is no circle, import-linter checks (pyproject.toml).
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import grimp

from tests.places import ROOT

MAX_FILE_LINES, MAX_FUNCTION_LINES = 400, 50
#: The command line is held shorter.
MAX_CLI_LINES, MAX_COMMAND_LINES = 350, 40
MAX_MODULES, MAX_MODULES_OF_EXPERIMENTS = 10, 8
MAX_INTRODUCTION = 15
PACKAGES = ("experiments", "results", "tcclip", "protocols")
DOCUMENT = ROOT / "docs" / "architecture.md"
BEGIN, END = "```mermaid\n", "```\n"


def broken_rules() -> Iterator[str]:
    """Every broken rule: where, what is there and what is allowed."""
    for path in [ROOT / "cli.py", *_modules(*PACKAGES, "tests")]:
        yield from _too_long(path)
    for folder in sorted({path.parent for path in _modules(*PACKAGES)}):
        yield from _badly_kept(folder)
    if picture() not in DOCUMENT.read_text():
        yield "docs/architecture.md: the picture is out of date: python -m tests.house --draw"


def _modules(*packages: str) -> list[Path]:
    return sorted(path for name in packages for path in (ROOT / name).rglob("*.py"))


def _too_long(path: Path) -> Iterator[str]:
    cli = path == ROOT / "cli.py"
    most = MAX_CLI_LINES if cli else MAX_FILE_LINES
    text, name = path.read_text(), path.relative_to(ROOT)
    if (lines := len(text.splitlines())) > most:
        yield f"{name}: {lines} lines; at most {most}"
    most = MAX_COMMAND_LINES if cli else MAX_FUNCTION_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > most:
                yield f"{name}: {node.name} has {lines} lines; at most {most}"


def _badly_kept(folder: Path) -> Iterator[str]:
    """A folder with too many modules, or whose introduction is missing or too long."""
    name = folder.relative_to(ROOT)
    most = MAX_MODULES_OF_EXPERIMENTS if name.parts[0] == "experiments" else MAX_MODULES
    modules = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
    if len(modules) > most:
        yield f"{name}: {len(modules)} modules; at most {most}"
    introduction = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
    if not 0 < len(introduction.splitlines()) <= MAX_INTRODUCTION:
        yield f"{name}/__init__.py: an introduction of 1 to {MAX_INTRODUCTION} lines is wanted"


# ---- The picture ----


def picture() -> str:
    """The rooms and who imports whom, in Mermaid's language.

    An arrow that follows from others (a imports b, b imports c, so a may import c) is left out.
    """
    imports = _imports()
    below = {one: _reached(one, imports) for one in imports}
    # The highest first: who imports another, directly or not, reaches more.
    order = sorted(imports, key=lambda one: (-len(below[one]), one))
    arrows = [
        f"    {one} --> {other}"
        for one in order
        for other in order
        if other in imports[one] and not any(other in below[two] for two in imports[one] - {other})
    ]
    groups = []
    for package in PACKAGES[:3]:  # protocols is one room
        rooms = [one for one in order if one.split(".")[0] == package]
        groups += [f"    subgraph {package}", *(f"        {one}" for one in rooms), "    end"]
    return "\n".join(["flowchart TD", *groups, *arrows]) + "\n"


def _imports() -> dict[str, set[str]]:
    """Room -> the rooms it imports. cli.py is no package: its imports are read from its text."""
    graph = grimp.build_graph(*PACKAGES)
    modules = graph.modules - (set(PACKAGES) - {"protocols"})
    found: dict[str, set[str]] = {_room(module): set() for module in modules}
    for module in modules:
        others = graph.find_modules_directly_imported_by(module) & modules
        found[_room(module)] |= {_room(other) for other in others} - {_room(module)}
    found["cli"] = {_room(name) for name in _imported_by_cli() & modules}
    return found


def _imported_by_cli() -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / "cli.py").read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{one.name}" for one in node.names)}
    return found


def _room(module: str) -> str:
    """The package, or the module beside packages, that a module belongs to."""
    package, *rest = module.split(".")
    return package if package == "protocols" else ".".join([package, *rest[:1]])


def _reached(room: str, imports: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    todo = [room]
    while todo:
        for other in imports[todo.pop()] - found:
            found.add(other)
            todo.append(other)
    return found


def draw() -> None:
    """Put the picture in its place in docs/architecture.md."""
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text(f"{before}{BEGIN}{picture()}{END}{after}")


if __name__ == "__main__":
    if "--draw" in sys.argv[1:]:
        draw()
    rules = list(broken_rules())
    print("\n".join(rules) or "house rules: all kept")
    sys.exit(1 if rules else 0)
