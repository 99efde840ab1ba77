"""Options of commands: by name into their groups, and what `--set execution.*` changes."""

import inspect
from dataclasses import fields

import pytest

import cli
from experiments.errors import UserError
from experiments.grid.options import ExecutionOptions, GridOptions
from experiments.grid.request import make_execution
from tcclip.config import Execution

DEFAULTS = {
    name: parameter.default for name, parameter in inspect.signature(cli.sweep).parameters.items()
}


def test_each_option_of_sweep_has_its_place() -> None:
    """Options go into their groups by name: another name would be left out without a word."""
    grouped = [field.name for group in (GridOptions, ExecutionOptions) for field in fields(group)]
    assert {*grouped, "data_root", "annotations", "dataset_file", "dry_run", "budget"} == set(
        DEFAULTS
    )


def test_settings_of_the_execution_win_over_options() -> None:
    assert make_execution(ExecutionOptions.of(DEFAULTS)) == Execution()
    options = {"micro_batch": "2", "eval_batch": 3, "settings": ["execution.micro_batch=8", "x=1"]}
    made = make_execution(ExecutionOptions.of(DEFAULTS | options))
    assert (made.micro_batch, made.eval_batch) == (8, 3)
    given = make_execution(
        ExecutionOptions.of(DEFAULTS | {"micro_batch": "16", "loader_workers": "3"})
    )
    assert (given.micro_batch, given.loader_workers) == (16, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "tpu"}, "--device 'tpu': "),
        ({"micro_batch": "many"}, "--micro-batch 'many': give auto or a whole number"),
        (
            {"loader_workers": "-1"},
            "'-1': give auto or a whole number of at least 0",
        ),
        ({"settings": ["execution.micro_batch=0"]}, "execution.micro_batch: give auto or a"),
        (
            {"settings": ["execution.gpus_per_worker=2"]},
            "gpus_per_worker: .*less than or",
        ),
        ({"settings": ["execution.micro=8"]}, "the nearest is 'execution.micro_batch'"),
        ({"settings": ["execution.eval_batch=0"]}, "--set execution.eval_batch: .*greater than 0"),
    ],
)
def test_an_execution_that_does_not_fit_is_refused(
    options: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        make_execution(ExecutionOptions.of(DEFAULTS | options))
