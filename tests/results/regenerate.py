"""Record the golden files of the report anew; look at the difference before committing it.

python -m tests.results.regenerate
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl

import protocols
from results.report.report import Report, report
from results.tables.formats import PAPER, Page, make, write
from tests.results import recorded_runs

GOLDEN = Path(__file__).parents[1] / "golden" / "report"


def reports(out: Path) -> Iterator[Report | Page]:
    """What is recorded: every protocol, the demo, the options that change the table, the paper."""
    for name in protocols.PROTOCOLS:
        yield report(out, name)
    yield report(out, "zero_shot", demo=True, checkpoint="both")
    page = make([str(out)], PAPER)
    assert isinstance(page, Page)
    yield replace(page, lines=("Zero-shot, trained on K-400: 3 of 5 runs done, 2 missing",))


def versions() -> dict[str, str]:
    """What the plots' bytes depend on besides the code."""
    return {"matplotlib": mpl.__version__}


def main() -> None:
    """Replace the golden files."""
    shutil.rmtree(GOLDEN, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        recorded_runs.write(Path(folder))
        for one in reports(Path(folder)):
            # Problems name the output folder, which is another one each time.
            for path in write(one, GOLDEN):
                path.write_text(path.read_text().replace(folder, "OUT"))
    (GOLDEN / "versions.json").write_text(json.dumps(versions()) + "\n")
    print(f"{len(list(GOLDEN.iterdir()))} files in {GOLDEN}")


if __name__ == "__main__":
    main()
