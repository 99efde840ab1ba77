"""The methods by name: this project's, and those of installed packages.

Another package offers one as an entry point of the group `tcclip.methods`, whose name is the
method's. It is imported when it is first asked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from tcclip.config import ModelConfig
from tcclip.methods import clip, open_vclip, tc_clip, vifi_clip
from tcclip.methods.method import Method

GROUP = "tcclip.methods"
#: In the order of the paper's tables.
OWN: dict[str, Method] = {
    one.METHOD.name: one.METHOD for one in (clip, vifi_clip, open_vclip, tc_clip)
}


@cache
def _offered() -> dict[str, EntryPoint]:
    """What other packages offer; a name of this project's stays this project's."""
    found = {one.name: one for one in entry_points(group=GROUP)}
    return {name: one for name, one in sorted(found.items()) if name not in OWN}


def names() -> tuple[str, ...]:
    """Of all methods, in the order of tables."""
    return (*OWN, *_offered())


@cache
def get(name: str) -> Method:
    """A method. ValueError for one that is not known, or cannot be imported."""
    if name in OWN:
        return OWN[name]
    if name not in _offered():
        raise ValueError(
            f"there is no method {name!r}; known: {', '.join(names())}. One of another package "
            "is known where that is installed"
        )
    point = _offered()[name]
    try:
        method: Any = point.load()
    except Exception as error:
        raise ValueError(
            f"the method {name!r} ({point.value}) cannot be imported: {error}; install its "
            "package anew, or remove it"
        ) from error
    # A name stands between the hyphens of run ids.
    if isinstance(method, Method) and method.name == name and re.fullmatch(r"\w+", name):
        return method
    raise ValueError(
        f"the entry point {name} ({point.value}) is no tcclip.methods.Method of that name, of "
        "letters, digits and underscores; correct it in its package"
    )


def shown(name: str) -> Method:
    """A method for tables of its runs, which are also made where its package is not installed or
    cannot be imported: then by its name, and as one that is trained."""
    try:
        return get(name)
    except ValueError:
        return Method(name, title=name)


def settings(values: Mapping[str, Any]) -> ModelConfig:
    """Model settings as the method that they name has them. ValueError for what it has not."""
    name = str(values.get("name", ModelConfig.model_fields["name"].default))
    return get(name).settings.model_validate(dict(values))


def resolved(config: ModelConfig) -> ModelConfig:
    """`config` with what its name implies. ValueError for what cannot be built."""
    method = get(config.name)
    if not isinstance(config, method.settings):
        config = settings(config.model_dump())
    attention = method.implied.get("frame_attention", config.frame_attention)
    # "context" is the default, which says nothing.
    if config.frame_attention not in (attention, "context"):
        raise ValueError(
            f"{config.name} has frame_attention {attention!r}, got {config.frame_attention!r}; "
            "for this ablation use name='tc_clip', video_prompting=False"
        )
    config = config.model_copy(update=dict(method.implied))
    config.check()
    return config
