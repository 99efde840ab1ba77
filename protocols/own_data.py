"""A protocol on a user's own data set: its lists, found by their names, replace the published ones.

    train                   trained on by fully_supervised and zero_shot
    train_5shot             few_shot's lists, of any number of shots
    base_s1, base_s2, ...   base_to_novel's, tested on base_test and novel_test, or ..._val
    val                     the epoch is selected on it; without it, on the test list (SPEC 4)
    test                    tested on; without it, val is

train, val and test may be numbered: the first is taken, and by zero_shot every test list. What is
trained on `train1` is selected and tested on the lists of this number, if there are any: the
official splits of a data set (HMDB-51, UCF-101) overlap one another.
"""

from __future__ import annotations

import re

from protocols.datasets import Dataset
from protocols.protocol import Protocol, Suite

#: Names of lists that a protocol reads, see below.
READ = re.compile(
    r"train[0-9]*|train_[1-9][0-9]*shot|base_s[1-9][0-9]*|(base|novel)_(val|test)|(val|test)[0-9]*"
)


def on_own_data(protocol: Protocol, data: Dataset, *, trained: bool = True) -> Protocol:
    """`protocol` with the lists of `data`; its axis has the values that `data` has lists for.

    ValueError if `data` has nothing to be tested on. What it is trained on need not be there.
    `trained`: whether it is trained on `data`; what is only evaluated, on every test list.
    """
    train = protocol.train_split
    if protocol.axis is None:
        train = next(iter(_numbered(data, train)), train)
    if protocol.axis == "base_split":
        validation, suites = _halves(protocol, data)
    else:
        validation, suites = _tests(protocol, data, train if trained else "")
    return protocol.model_copy(
        update={
            "datasets": (data.name,),
            "axis_values": _axis_values(train, data),
            "undefined": (),
            "train_split": train,
            "validation": _with_lists(protocol.validation, data, validation),
            "suites": suites,
        }
    )


def _tests(protocol: Protocol, data: Dataset, train: str) -> tuple[str, tuple[Suite, ...]]:
    """(validation split, the suite of test lists)."""
    validations = _of_its_number(train, _numbered(data, "val"))
    tests = _of_its_number(train, _numbered(data, "test")) or validations
    if not tests:
        raise ValueError(_lacks(data, "test or val"))
    splits = tests if protocol.statistic.axis == "splits" else tests[:1]
    suite = _with_lists(protocol.suites[0], data, *splits)
    return (validations or tests)[0], (suite.model_copy(update={"name": data.name}),)


def _halves(protocol: Protocol, data: Dataset) -> tuple[str, tuple[Suite, ...]]:
    """(validation split, the suites of base and of novel classes)."""
    there = {one.name for one in data.splits}

    def first(*names: str) -> str:
        found = next((name for name in names if name in there), None)
        if found is None:
            raise ValueError(_lacks(data, " or ".join(names)))
        return found

    suites = tuple(
        _with_lists(suite, data, first(f"{suite.name}_test", f"{suite.name}_val"))
        for suite in protocol.suites
    )
    return first("base_val", "base_test"), suites


def _with_lists(suite: Suite, data: Dataset, *splits: str) -> Suite:
    return suite.model_copy(update={"dataset": data.name, "splits": splits})


def _numbered(data: Dataset, name: str) -> list[str]:
    """The splits `name`, `name1`, `name2`, ... that there are, in this order."""
    found = [(m, one.name) for one in data.splits if (m := re.fullmatch(rf"{name}(\d*)", one.name))]
    return [split for _, split in sorted((int(m[1] or 0), split) for m, split in found)]


def _of_its_number(train: str, splits: list[str]) -> list[str]:
    """Those of `splits` that have the number of the training list; all if none has."""
    number = _number(train)
    return [one for one in splits if number is not None and _number(one) == number] or splits


def _number(split: str) -> int | None:
    found = re.search(r"\d+$", split)
    return int(found[0]) if found else None


def _axis_values(train_split: str, data: Dataset) -> tuple[int, ...]:
    """What `{shots}` or `{base_split}` in the training list's name may be; () without either."""
    pattern = re.sub(r"\{\w+\}", "([1-9][0-9]*)", train_split)
    found = (re.fullmatch(pattern, one.name) for one in data.splits)
    return tuple(sorted(int(one[1]) for one in found if one and one.groups()))


def _lacks(data: Dataset, wanted: str) -> str:
    there = ", ".join(one.name for one in data.splits)
    return f"data set {data.name} has no split {wanted} to be tested on; it has: {there}"
