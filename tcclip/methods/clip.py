"""CLIP, untrained (SPEC 2.3): frame by frame, and the class's name is the whole text."""

from tcclip.config import Wording
from tcclip.methods.method import Method

METHOD = Method(
    name="clip",
    title="CLIP",
    implied={"frame_attention": "none", "video_prompting": False},
    trained=False,
    wording=Wording(prompt="{}", underscores=True),
)
