"""A package of somebody else's with a method, made in a folder as pip would install it."""

from pathlib import Path

MODULE = '''
from pydantic import Field

from tcclip.config import ModelConfig, Wording
from tcclip.methods import Method


class ScaledSettings(ModelConfig):
    name: str = "scaled_clip"
    strength: float = Field(default=1.0, gt=0)


def build(settings):
    import torch

    from tcclip.model import Model

    class ScaledClip(Model):
        """ViFi-CLIP whose frames are weighted by a learned vector."""

        def __init__(self, config):
            super().__init__(config)
            self.frame_scale = torch.nn.Parameter(torch.empty(config.num_frames))

        def encode_video(self, video, *, intermediates=False):
            weights = self.config.strength * self.frame_scale
            return super().encode_video(video * weights[:, None, None, None])

    return ScaledClip(settings)


def initial_value(name, shape, generator):
    import torch

    assert name == "frame_scale"
    return torch.ones(shape)


METHOD = Method(
    name="scaled_clip",
    title="Scaled CLIP",
    settings=ScaledSettings,
    implied={"frame_attention": "none", "video_prompting": False},
    wording=Wording(prompt="a video of {}."),
    build=build,
    initial_value=initial_value,
    rate_scales=lambda train: {"frame_scale": 5.0},
)
'''


def install(folder: Path, module: str = MODULE, name: str = "scaled_clip") -> Path:
    """The folder to put on the path."""
    (folder / "scaled_clip.py").write_text(module)
    info = folder / "scaled_clip-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: scaled-clip\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[tcclip.methods]\n{name} = scaled_clip:METHOD\n")
    return folder
