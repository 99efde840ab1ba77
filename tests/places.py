"""Folders that tests read from."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden"
#: Real clips and published lists, which are not part of the project; tests skip without them.
SHARED = Path(os.environ.get("TCCLIP_SHARED", ROOT.parent / "shared"))
