"""The model as graphs: the same logits for any batch."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from tcclip.export import graphs
from tests.tcclip.model.builders import small_model, small_video


def check(tmp_path: Path, format: graphs.GraphFormat, load: Any, **settings: Any) -> None:
    model = small_model(**settings).eval()
    encoder, scores = (load(path) for path in graphs.write_graphs(model, tmp_path, format))
    for batch in (1, 5):
        video = small_video(batch)
        with torch.no_grad():
            torch.testing.assert_close(scores(*encoder(video)), model(video).logits)


@pytest.mark.parametrize("settings", [{}, {"name": "vifi_clip"}])
def test_torchscript(tmp_path: Path, settings: dict[str, Any]) -> None:
    with pytest.warns(FutureWarning, match="deprecated"):
        check(tmp_path, "torchscript", lambda path: torch.jit.load(str(path)), **settings)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"prompt_layers": (1, 3)}, {"name": "vifi_clip"}])
def test_torch_export(tmp_path: Path, settings: dict[str, Any]) -> None:
    check(tmp_path, "torch_export", lambda path: torch.export.load(path).module(), **settings)


@pytest.mark.slow
def test_onnx(tmp_path: Path) -> None:
    for name in graphs.ONNX_PACKAGES:
        pytest.importorskip(name)
    check(tmp_path, "onnx", graphs.onnx_session)


@pytest.mark.skipif(find_spec("onnxscript") is not None, reason="ONNX's exporter is installed")
def test_without_onnx_s_packages_it_says_what_to_install() -> None:
    with pytest.raises(ValueError, match="pip install onnx onnxscript onnxruntime"):
        graphs.check_format("onnx")


def test_a_graph_with_other_logits_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "TOLERANCE", -1.0)
    with pytest.raises(ValueError, match="gives other logits"):
        graphs.write_graphs(small_model(name="vifi_clip").eval(), tmp_path, "torchscript")
