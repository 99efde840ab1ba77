"""CLIP, untrained (SPEC 2.3): frame by frame, and the class's name is the whole text."""

from tcclip.config import Wording
from tcclip.methods.method import Method

METHOD = Method(
    name="clip",
    title="CLIP",
    paper="https://arxiv.org/abs/2103.00020",
    implied={"frame_attention": "none", "video_prompting": False},
    trained=False,
    wording=Wording(prompt="{}", underscores=True),
)
