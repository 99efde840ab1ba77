"""Why a report has no row where there are finished runs."""

from pathlib import Path

import protocols
from results.report.report import report
from tests.results import builder


def test_runs_that_are_there_and_not_shown_are_counted(tmp_path: Path) -> None:
    protocol = protocols.get("few_shot", demo=True)
    of = builder.key(protocol, shots=4)
    builder.write_result(tmp_path, builder.result(protocol, of, lambda *_: 50.0))
    for options, said in (
        ({"demo": True, "weights": "ensembled"}, "without ensembled weights of the best epoch: 1"),
        ({"demo": False}, "Finished runs here that are of the demo: 1; give --demo"),
    ):
        made = report([tmp_path], "few_shot", **options)  # type: ignore[arg-type]
        assert not made.rows
        assert said in " ".join(made.general)
    assert len(report([tmp_path], "few_shot", demo=True).rows) == 1
