"""YAML files that users write: grid files, own data sets, the configuration file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from experiments.errors import UserError


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. UserError if it is missing, is not YAML or is no mapping."""
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError as error:
        raise UserError(f"{path} is not there") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected `name: value` lines, got {type(content).__name__}")
    return content
