"""Records with known content, for tests that need finished runs without running them."""

from experiments.grid.spec import RunSpec
from results.records import Measurement, Provenance, Result, Selection

PROVENANCE = Provenance(
    git_commit="0" * 40, git_dirty=False, packages={"torch": "2"}, python="3.11", platform="test",
    device="cpu", world_size=1, micro_batch=4, global_batch=32, precision="fp32",
    started="2026-01-01T00:00:00+00:00", finished="2026-01-01T00:01:00+00:00",
    wall_seconds=60.0, gpu_hours=0.0, digests={}, videos_expected=1,
)  # fmt: skip


def make_result(spec: RunSpec, value: float = 50.0) -> Result:
    """A valid result of `spec`: every suite's raw best top-1 is `value`."""
    measurements = tuple(
        Measurement(
            suite=one.suite,
            dataset=one.dataset,
            split=one.split.name,
            classes=one.labels.classes,
            views=one.views.label,
            weights="raw",
            checkpoint="best",
            metric="top1",
            value=value,
            videos=one.split.videos or 1,
        )
        for one in spec.suites
    )
    return Result(
        run_id=spec.run_id,
        key=spec.key,
        selection=Selection(
            rule=spec.selection, best_epoch=1, best_value=value, last_epoch=1, last_value=value
        ),
        measurements=measurements,
        parameters=1,
        provenance=PROVENANCE,
    )
