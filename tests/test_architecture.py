"""docs/architecture.md is true: the path it names exists, and imports run that way."""

from __future__ import annotations

import ast
import re

from tests.house import DOCUMENT
from tests.places import ROOT

MAX_TERMS = 30
#: A step of the path: its file, and what is named in it.
STEP = re.compile(r"^\d+\. `([\w/]+\.py)`: (.*)$", re.MULTILINE)


def steps() -> list[tuple[str, str]]:
    return STEP.findall(DOCUMENT.read_text())


def test_the_path_to_the_loss_is_short_and_its_names_exist() -> None:
    assert [file for file, _ in steps()][:1] == ["cli.py"] and len(steps()) <= 8
    for file, text in steps():
        tree = ast.parse((ROOT / file).read_text())
        defined = {
            node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)
        }
        named = set(re.findall(r"`(\w+)`", text))
        assert named, f"nothing of {file} is named"
        assert named <= defined, f"{file} does not define {sorted(named - defined)}"


def test_every_file_of_the_path_is_imported_by_one_before_it() -> None:
    imported: set[str] = set()
    for file, _ in steps():
        module = file.removesuffix(".py").replace("/", ".")
        assert module == "cli" or module in imported, f"{file}: nothing before it imports it"
        for node in ast.walk(ast.parse((ROOT / file).read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                imported |= {node.module, *(f"{node.module}.{one.name}" for one in node.names)}


def test_the_glossary_is_short() -> None:
    glossary = DOCUMENT.read_text().partition("## Words\n")[2].partition("\n## ")[0]
    assert 0 < len(re.findall(r"\*\*.+?\*\*", glossary)) <= MAX_TERMS
