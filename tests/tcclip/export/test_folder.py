"""An exported folder is the model, without this package."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard

import tcclip
from tcclip.config import Views
from tcclip.export import bundle, folder
from tcclip.export.card import About, Number, card
from tcclip.export.folder import write_folder
from tcclip.model import create_model
from tests.tcclip.model.builders import NAMES, SMALL, small_model
from tests.tcclip.predict.made import AUGMENT, make_clips

NUMBERS = [
    Number("hmdb51", "HMDB-51", ("val1", "val2", "val3"), "top-1", 54.25, 0.71, 0, 3, "splits",
           4590, "2x1", "run-1"),
    Number("ucf101", "UCF-101", ("val1",), "top-1", 80.0, None, 0, 1, "single run", 3783, "2x1",
           "run-1"),
]  # fmt: skip
#: Runs in the folder, where nothing of this project can be imported.
ALONE = """
import re, sys
ours = ("tcclip", "experiments", "results", "protocols", "cli")
sys.modules.update(dict.fromkeys(ours))
import torch
torch.set_num_threads(1)
try:
    import tcclip
except ImportError:
    pass
else:
    raise SystemExit("our package can be imported")
exec(re.search(r"```python\\n(.*?)```", open("README.md").read(), re.DOTALL)[1])
names = [None, ["one", "another thing"]]
found = [model.logits(model.views(sys.argv[1], 2, 3), one) for one in names]
torch.save([found, model.predict(sys.argv[1])], sys.argv[2])
"""


def write(path: Path, *, about: About | None = None, **settings: Any) -> Path:
    model = small_model(**settings).eval()
    about = about or About("TC-CLIP of a test", {"Seed": "3"}, NUMBERS, "openai")
    write_folder(
        model, path, about, augment=AUGMENT, precision="fp32",
        start={"clip_weights": "openai", "seed": 3},
    )  # fmt: skip
    return path


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("export") / "model")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clips(tmp_path_factory.mktemp("clips"), 1)[0]


def imported(path: Path) -> ModuleType:
    """The folder's code, in this process."""
    spec = importlib.util.spec_from_file_location(f"exported_{path.name}", path / folder.CODE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_alone_it_gives_the_same_logits_and_its_card_s_code_runs(
    exported: Path, clip: Path, tmp_path: Path
) -> None:
    out = tmp_path / "found.pt"
    done = subprocess.run(
        [sys.executable, "-c", ALONE, clip, out], cwd=exported, capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    printed = re.findall(r"\('(.+?)', (0\.\d+)\)", done.stdout)
    assert len(printed) == 3 and {name for name, _ in printed} <= set(NAMES)
    (own, others), top = torch.load(out)
    predictor = tcclip.load(exported)
    video = predictor.clip(clip, Views(clips=2, crops=3, sampling="uniform"))
    with torch.inference_mode():
        assert torch.equal(own, predictor.model(video).logits)
        classes = predictor.model.encode_classes(["one", "another thing"])
        expected = predictor.model.score(predictor.model.encode_video(video), classes)
        assert torch.equal(others, expected)
    assert top == [tuple(one) for one in predictor.predict(clip).top]


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "vifi_clip"},
        {"name": "open_vclip"},
        {"name": "clip", "activation": "gelu"},
        {"aggregation": "kmeans", "prompt_layers": (1, 3)},
        {"frame_attention": "window", "positional_embedding": "joint"},
    ],
)
def test_every_kind_of_model_gives_the_same_logits(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    path = write(tmp_path / "other", **settings)
    alone, predictor = imported(path).load(), tcclip.load(path)
    frames = torch.randint(256, (9, 40, 50, 3), dtype=torch.uint8)
    video = alone.views(frames)
    assert torch.equal(alone.logits(video), predictor.model(video).logits)


def test_the_precision_is_what_the_model_was_tested_in(exported: Path) -> None:
    code = imported(exported)
    video = torch.randn(1, 4, 3, 32, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = tcclip.load(exported).model(video).logits
    assert torch.equal(code.load(precision="bf16").logits(video), expected)


@pytest.mark.parametrize(
    ("video", "error", "says"),
    [
        (torch.zeros(4, 3, 32, 32, dtype=torch.uint8), ValueError, r"\(F, height, width, 3\)"),
        (torch.zeros(4, 32, 32, 3), ValueError, "float32"),
        ("missing.mp4", FileNotFoundError, "no video at missing.mp4"),
        (__file__, ValueError, "cannot be read"),
    ],
)
def test_what_is_no_video_is_said(
    exported: Path, video: Any, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        imported(exported).load().predict(video)


def test_the_other_videos_are_predicted(
    exported: Path, clip: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["", __file__, str(clip), "--top", "1"])
    with pytest.raises(SystemExit) as ended:
        imported(exported).main()
    out, err = capsys.readouterr()
    assert (ended.value.code, err) == (1, "1 of 2 videos could not be read\n")
    assert "cannot be read" in out.split(str(clip))[0] and "%  " in out.split(str(clip))[1]


def test_a_folder_without_weights_is_said(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"not an exported model.*model\.safetensors"):
        imported(exported).load(tmp_path)


def test_the_card_has_the_numbers_with_their_statistic(exported: Path) -> None:
    shown = ModelCard.load(exported / folder.CARD)
    first, second = shown.data.eval_results
    assert (first.metric_value, first.dataset_split) == (54.25, "val1, val2, val3")
    assert "population std of 3 splits (0.71)" in first.metric_name
    assert "single run" in second.metric_name
    assert shown.data.base_model == "openai/clip-vit-base-patch16"
    assert "| 54.25 ± 0.71 | mean ± population std of 3 splits | 4,590 | run-1 |" in shown.text
    assert "MIT licence" in shown.text and shown.data.license == "other"


@pytest.mark.parametrize(
    ("about", "licence", "says"),
    [
        (About("A", published=True), "cc-by-nc-4.0", "published under: cc-by-nc-4.0"),
        (About("A", start="random", licence="mit"), "mit", "published under: mit"),
        (About("A"), "other", "not recorded"),
    ],
)
def test_the_card_has_licence_and_origin(
    tmp_path: Path, about: About, licence: str, says: str
) -> None:
    shown = ModelCard.load(write(tmp_path / "other", about=about) / folder.CARD)
    assert shown.data.license == licence and says in shown.text
    assert "No results are recorded" in shown.text and "TC-CLIP ([paper](https://" in shown.text


def test_the_card_cites_the_models_own_method() -> None:
    model = create_model("open_vclip", NAMES, geometry=SMALL, num_frames=2)
    text = card(model, About("A", published=True), AUGMENT)
    assert "| Open-VCLIP ([paper](https://arxiv.org/abs/2302.00624)) |" in text
    assert "published checkpoint of Open-VCLIP. Whoever publishes" in text
    assert "license: other" in text and "2404.09490" not in text


def test_the_folder_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> str:
        raise OSError("no space left")

    monkeypatch.setattr(folder, "card", fail)
    with pytest.raises(OSError, match="no space left"):
        write(tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(exported: Path) -> None:
    with pytest.raises(ValueError, match="is there already"):
        write(exported)


def test_two_things_of_one_name_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "twice"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "a.py").write_text("def help():\n    return 1\n\n\ndef a():\n    return help()\n")
    (package / "b.py").write_text("from twice.a import a\n\n\ndef help():\n    return a()\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(bundle, "PACKAGE", "twice")
    with pytest.raises(ValueError, match=r"help is in twice\.b and in twice\.a"):
        bundle.bundle("twice.b", "")
