"""Weights in between and averaged ones, and the trained ones as before afterwards."""

import pytest
import torch

from tcclip.interpolation.weights import Interpolation, WeightAverage
from tcclip.model import Model
from tests.tcclip.model.builders import small_model


def trained(model: Model) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def set_to(model: Model, value: float) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.fill_(value)


def test_in_between_what_clip_has_and_after_it_as_before() -> None:
    model, start = small_model(seed=1), small_model(seed=0).state_dict()
    interpolation, before = Interpolation(model, start), trained(model)
    with pytest.raises(KeyError), interpolation.at(0.25):  # an error restores them too
        for name, x in trained(model).items():
            own = "prompt" in name or "bias_table" in name
            mixed = before[name] if own else 0.25 * start[name] + 0.75 * before[name]
            torch.testing.assert_close(x, mixed, msg=name)
        raise KeyError
    assert all(torch.equal(x, before[name]) for name, x in trained(model).items())
    with interpolation.at(0.0):
        assert all(torch.equal(x, before[name]) for name, x in trained(model).items())


def test_an_average_of_epochs() -> None:
    model = small_model(name="vifi_clip")
    before, average = trained(model), WeightAverage(model)
    with average.in_use():  # nothing to average yet
        assert all(torch.equal(x, before[name]) for name, x in trained(model).items())
    for value in (1.0, 2.0, 6.0):
        set_to(model, value)
        average.add()
    with average.in_use():
        assert all(torch.allclose(x, torch.tensor(3.0)) for x in trained(model).values())
    assert all((x == 6.0).all() for x in trained(model).values())
    again = WeightAverage(model)
    again.restore(average.state())
    again.add()
    again.use()
    assert all(torch.allclose(x, torch.tensor(3.75)) for x in trained(model).values())
