"""Learning rates and parameter groups against SPEC 4's formula."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim import AdamW

import protocols
from tcclip.config import TrainConfig
from tcclip.schedule import Schedule, build_optimizer, load_optimizer, set_rates

VIDEOS = {"zero_shot": 240_436, "few_shot": 816, "base_to_novel": 416, "fully_supervised": 240_436}


def published_rates(protocol: str, base: float) -> list[float]:
    """The published loop, literally: a rate is set after each optimiser step with that
    iteration's number; the first step runs at 0."""
    train = protocols.get(protocol).train
    iterations = VIDEOS[protocol] // 16
    accumulation = train.global_batch // 16
    rates, rate = [], 0.0
    for epoch in range(train.epochs):
        for within in range(iterations):
            if (within + 1) % accumulation:
                continue
            rates.append(rate)
            t = epoch * iterations + within
            warm = train.warmup_epochs * iterations
            if t < warm:
                rate = base * t / warm
            else:
                cosine = 1 + math.cos(math.pi * t / (train.epochs * iterations))
                rate = train.lr_min + (base - train.lr_min) / 2 * cosine
    return rates


@pytest.mark.parametrize("protocol", VIDEOS)
@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_rates_equal_the_formula_at_every_step(protocol: str, scale: float) -> None:
    train = protocols.get(protocol).train
    schedule = Schedule(train, VIDEOS[protocol])
    expected = published_rates(protocol, train.lr * scale)
    assert len(expected) == train.epochs * schedule.steps_per_epoch
    got = [schedule.rate(step, train.lr * scale) for step in range(len(expected))]
    assert max(abs(a - b) for a, b in zip(got, expected, strict=True)) < 1e-12
    assert got[0] == 0.0


@given(
    batch=st.integers(1, 40),
    schedule_batch=st.integers(1, 40),
    more=st.integers(0, 60),
    epochs=st.integers(1, 6),
    warmup=st.sampled_from([0.0, 0.5, 2.0]),
)
def test_every_list_that_fills_a_batch_has_rates(
    batch: int, schedule_batch: int, more: int, epochs: int, warmup: float
) -> None:
    """Up in the warm-up, then down, however few the videos are."""
    config = TrainConfig(
        epochs=epochs, warmup_epochs=warmup, lr=1.0, lr_min=0.01, global_batch=batch,
        schedule_batch=schedule_batch,
    )  # fmt: skip
    schedule = Schedule(config, batch + more)
    rates = [schedule.rate(step, 1.0) for step in range(epochs * schedule.steps_per_epoch)]
    assert rates[0] == 0.0 and all(0.0 <= rate <= 1.0 for rate in rates)
    peak = rates.index(max(rates))
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)


def test_fewer_videos_than_the_published_iteration() -> None:
    config = protocols.get("few_shot").train.model_copy(update={"global_batch": 4})
    schedule = Schedule(config, 4)
    assert [schedule.rate(step, 1.0) for step in (0, 1, 2, 5)] == [0.0, 0.0, 0.2, 0.8]


def test_groups_hold_every_trained_parameter_once_and_decay_all() -> None:
    train = protocols.get("few_shot").train
    model = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2), nn.Embedding(3, 2))
    model[2].weight.requires_grad_(False)
    optimizer = build_optimizer(model, {"1.": 10.0}, train)
    slow, fast = optimizer.param_groups
    assert {id(p) for p in slow["params"]} == {id(model[0].weight), id(model[0].bias)}
    assert {id(p) for p in fast["params"]} == {id(model[1].weight), id(model[1].bias)}
    assert slow["weight_decay"] == fast["weight_decay"] == 1e-3
    set_rates(optimizer, Schedule(train, 816), 30)
    assert fast["lr"] == pytest.approx(10 * slow["lr"], rel=1e-6)


def test_steps_are_those_of_adamw_bit_for_bit() -> None:
    """Through saving and loading, with torch's own class beside."""
    train = protocols.get("few_shot").train
    trained = []
    for own in (True, False):
        layer = nn.Linear(3, 2)
        nn.init.constant_(layer.weight, 0.5)
        nn.init.constant_(layer.bias, 0.0)
        optimizer = build_optimizer(layer, {"bias": 10.0}, train)
        if not own:
            optimizer = AdamW(optimizer.param_groups, eps=train.eps)
        for step in range(4):
            set_rates(optimizer, Schedule(train, 816), 20 + step)
            optimizer.zero_grad()
            (layer(torch.arange(3.0)) - step).square().sum().backward()
            optimizer.step()
            load_optimizer(optimizer, optimizer.state_dict())
        trained.append(layer)
    assert torch.equal(trained[0].weight, trained[1].weight)
    assert torch.equal(trained[0].bias, trained[1].bias)
    assert not torch.equal(trained[0].bias, torch.zeros(2))
