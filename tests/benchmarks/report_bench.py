"""How long a report over many run folders takes, and how much memory.

    python -m tests.benchmarks.report_bench [protocol] [folders]

Expected on 2 CPU cores: 10,000 folders collected and reported in under 10 s, under 1 GB.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import protocols
from tests.results import builder

#: Seeds of every point of the grid; what does not fit in the protocol's grid are override rows.
_SEEDS = 10


def write_folders(out: Path, name: str, folders: int) -> None:
    """`folders` runs of a protocol; one in a hundred failed, the others finished."""
    protocol = protocols.get(name)
    points = protocol.axis_values or (None,)
    for number in range(folders):
        rest, seed = divmod(number, _SEEDS)
        rest, point = divmod(rest, len(points))
        row, data = divmod(rest, len(protocol.datasets))
        axis = {protocol.axis: points[point]} if protocol.axis else {}
        of = builder.key(
            protocol, dataset=protocol.datasets[data], seed=seed, **axis,
            overrides=(f"train.lr={row + 1}e-6",) if row else (),
        )  # fmt: skip
        if number % 100 == 99:
            builder.write_failure(out, of, "RuntimeError: CUDA out of memory")
            continue
        result = builder.result(protocol, of, lambda *_: 50.0, prov={"digests": _digests()})
        builder.write_result(out, result)


def _digests() -> dict[str, str]:
    return {f"hmdb51/datasets_splits/hmdb_splits/list{i}.txt": f"{i:064x}" for i in range(10)}


def measure(out: Path, name: str) -> tuple[float, float, int]:
    """(seconds, peak MB, runs) of collecting and printing, in this process."""
    begin = time.perf_counter()
    from results.report.report import report
    from results.tables.formats import render

    shown = report(out, name)
    for format in ("terminal", "md", "json", "csv"):
        render(shown, format)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return time.perf_counter() - begin, peak, len(shown.finished)


def main() -> None:
    """Build the folders, then measure in a process of its own: its peak is the report's."""
    name = sys.argv[1] if len(sys.argv) > 1 else "zero_shot"
    folders = int(sys.argv[2]) if len(sys.argv) > 2 else 10_000
    with tempfile.TemporaryDirectory() as folder:
        write_folders(Path(folder), name, folders)
        code = (
            "import sys; from pathlib import Path; from tests.benchmarks import report_bench as b;"
            "print('%.2f s, %.0f MB peak, %d runs' % b.measure(Path(sys.argv[1]), sys.argv[2]))"
        )
        subprocess.run([sys.executable, "-c", code, folder, name], check=True)


if __name__ == "__main__":
    main()
