"""What there is to say of a method: everything that has no line here is the same for all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tcclip.config import ModelConfig, TrainConfig, Wording


@dataclass(frozen=True)
class Method:
    """A method by the name it has in settings, and the title it has in tables.

    Only what differs from fine-tuning CLIP frame by frame has to be given. Import torch inside of
    functions alone: `--help` and plans read this.
    """

    name: str
    title: str
    #: The address of what describes it; None: nothing does.
    paper: str | None = None
    #: Its settings: `ModelConfig`, or a subclass with more of them.
    settings: type[ModelConfig] = ModelConfig
    #: Settings that the name implies, whatever the defaults of `settings` say.
    implied: Mapping[str, Any] = field(default_factory=dict)
    #: Whether it is trained at all, and ensembled with the weights it started from.
    trained: bool = True
    #: The text of a class.
    wording: Wording = field(default_factory=Wording)

    # ---- Building it ----

    #: Settings -> an empty model, a subclass of `tcclip.model.Model`; None: that itself.
    build: Callable[[Any], Any] | None = None
    #: Name, shape and torch generator -> the starting value of a parameter that CLIP lacks.
    initial_value: Callable[[str, tuple[int, ...], Any], Any] | None = None

    # ---- Training it ----

    #: Beginnings of parameters' names -> what the learning rate is multiplied by for them. Each
    #: is a parameter group.
    rate_scales: Callable[[TrainConfig], Mapping[str, float]] = lambda train: {}
    #: Settings, seed and step -> where the step's gradient is taken: shares of CLIP's weights in
    #: an average with the trained ones (0: the trained ones), each with its factor. As many, and
    #: the same shares above 0 or not, whatever the step.
    gradients_at: Callable[[Any, int, int], tuple[tuple[float, float], ...]] = (
        lambda settings, seed, step: ((0.0, 1.0),)
    )
    #: Whether the weights after each epoch, from the end of the warm-up on, are averaged: the
    #: average is what is validated, tested and kept.
    averages: Callable[[Any], bool] = lambda settings: False

    # ---- Its published weights ----

    #: Patterns, each of which some tensor's name in a published file contains, with what it is
    #: nested in; none: nothing is published.
    published_keys: tuple[str, ...] = ()
    #: Such a name, without what it is nested in -> ours or OpenAI CLIP's; None: left out.
    published_name: Callable[[str], str | None] = lambda name: name
    #: Their licence, by the Hub's name for it; None: not known here.
    published_licence: str | None = None
