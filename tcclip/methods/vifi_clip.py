"""ViFi-CLIP (SPEC 2.3): both towers fine-tuned frame by frame."""

from tcclip.config import Wording
from tcclip.methods.method import Method
from tcclip.methods.tc_clip import published_name

METHOD = Method(
    name="vifi_clip",
    title="ViFi-CLIP",
    paper="https://arxiv.org/abs/2212.03640",
    implied={"frame_attention": "none", "video_prompting": False},
    wording=Wording(underscores=True),
    published_keys=(r"\bimage_encoder\.", r"\btext_encoder\."),
    published_name=published_name,
)
