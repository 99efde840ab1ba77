"""A few-shot run on real clips of two published data sets. Skipped where they are not at hand."""

from dataclasses import replace
from pathlib import Path

import pytest

from experiments.datasets.paths import DataPaths
from experiments.grid.plan import expand
from experiments.store.ledger import Ledger
from tcclip.config import Execution
from tests.experiments.datasets.own.test_yaml_file import grid
from tests.experiments.sweeping import run_sweep
from tests.places import SHARED

CLIPS = {
    "cartwheel": ["hmdb51_cartwheel_Turnk_Pippi_6.avi"],
    "wave": ["hmdb51_wave_RATRACE_37.avi", "hmdb51_wave_SchoolRules_0.avi"],
    "SoccerJuggling": ["ucf101_SoccerJuggling_g23_c01.avi"],
    "Basketball": ["ucf101_Basketball_g01_c01.avi"],
    "ApplyEyeMakeup": ["ucf101_ApplyEyeMakeup_g01_c01.avi"],
    "BaseballPitch": ["ucf101_BaseballPitch_g01_c01.avi"],
}


@pytest.mark.skipif(not (SHARED / "videos").is_dir(), reason="no real clips (TCCLIP_SHARED)")
def test_a_few_shot_list_of_real_clips_runs_to_its_result(tmp_path: Path) -> None:
    names = "".join(f"{label},{name}\n" for label, name in enumerate(CLIPS))
    (tmp_path / "labels.csv").write_text(f"id,name\n{names}")
    for split, times in (("train_2shot", 2), ("val", 1)):
        lines = [f"{clips[i % len(clips)]} {label}\n" for label, clips in enumerate(CLIPS.values())
                 for i in range(times)]  # fmt: skip
        (tmp_path / f"{split}.txt").write_text("".join(lines))
    (tmp_path / "real.yaml").write_text(
        f"name: real\nvideos: {SHARED / 'videos'}\nlabels: labels.csv\n"
        "splits: {train_2shot: train_2shot.txt, val: val.txt}\n"
    )
    data_paths = DataPaths.find(own=[tmp_path / "real.yaml"])
    asked = grid(**{"train.global_batch": 4, "train.schedule_batch": 4})
    (spec,) = expand(replace(asked, datasets=("real",)), data_paths.datasets())
    summary = run_sweep(
        [spec], tmp_path / "out", data_paths, Execution(device="cpu", micro_batch=4)
    )
    assert summary.exit_code == 0, summary.failed
    result = Ledger(tmp_path / "out").folder(spec.run_id).read_result()
    assert result is not None
    assert result.provenance.videos_unreadable == 0
    assert sum(result.provenance.readers.values()) == len(CLIPS)
    assert result.selection.last_epoch == 2
