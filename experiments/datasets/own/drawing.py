"""Lists drawn from videos with a seed: train, val and test by class, and few-shot lists."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from unicodedata import normalize

from experiments.errors import UserError
from protocols.datasets import SHOTS
from tcclip.data.annotations import Item
from tcclip.data.seeding import seeded_rng

#: The lists a data set is split into. With few videos of a class, train is served first.
SPLITS = ("train", "val", "test")
SERVED = ("train", "test", "val")


def stratified(
    items: Sequence[Item], shares: Mapping[str, float], seed: int
) -> dict[str, list[Item]]:
    """Each class's videos, shuffled, in the `shares` of the splits; as many lists as there are.

    A class's draw depends on its own videos alone. Of each list a class has at least one video, if
    it has enough.
    """
    lists: dict[str, list[Item]] = {name: [] for name in SPLITS if shares[name] > 0}
    for own in _by_class(items).values():
        order = _shuffled(own, "data init", seed)
        for name, number in _counts(len(order), {name: shares[name] for name in lists}).items():
            lists[name] += order[:number]
            order = order[number:]
    return {name: sorted(own, key=_by_label) for name, own in lists.items() if own}


def _counts(videos: int, shares: Mapping[str, float]) -> dict[str, int]:
    """How many of a class's videos go into each list; they add up to `videos`."""
    counts = {name: max(1, math.floor(videos * share)) for name, share in shares.items()}
    served = [name for name in SERVED if name in shares]
    for name in reversed(served):  # more lists than videos
        if sum(counts.values()) > videos and max(counts.values()) == 1:
            counts[name] = 0
    while sum(counts.values()) > videos:
        counts[max(counts, key=lambda name: counts[name])] -= 1
    while sum(counts.values()) < videos:
        counts[max(served, key=lambda name: videos * shares[name] - counts[name])] += 1
    return counts


def few_shot(
    items: Sequence[Item], classes: Sequence[str], shots: Sequence[int] | None, seed: int
) -> tuple[dict[str, list[Item]], list[str]]:
    """(`train_Kshot` lists drawn from a training list, notes); fewer shots are part of more.

    `shots` None: the published ones that every class has videos for. UserError for shots
    that a class has too few videos for.
    """
    by_class = _by_class(items)
    scarce = min(range(len(classes)), key=lambda label: len(by_class.get(label, ())))
    most, name = len(by_class.get(scarce, ())), classes[scarce]
    for number in shots or ():
        if not 1 <= number <= most:
            raise UserError(
                f"--shots {number}: class {name!r} has {most} training videos; allowed: 1 to {most}"
            )
    notes = []
    if shots is None:
        shots = [number for number in SHOTS if number <= most]
        if not shots:
            notes.append(f"no few-shot lists: class {name!r} has {most} training videos")
    orders = [_shuffled(own, "few-shot lists", seed) for own in by_class.values()]
    lists = {
        f"train_{number}shot": sorted(
            (item for own in orders for item in own[:number]), key=_by_label
        )
        for number in sorted(set(shots))
    }
    return lists, notes


def _by_class(items: Sequence[Item]) -> dict[int, list[Item]]:
    found: dict[int, list[Item]] = defaultdict(list)
    for item in sorted(set(items), key=_by_label):
        found[item.label].append(item)
    return found


def _shuffled(items: Sequence[Item], purpose: str, seed: int) -> list[Item]:
    """In an order drawn from the seed and each video's path, whatever their order was."""

    def drawn(item: Item) -> float:
        # A disk may store accents composed or not.
        return seeded_rng(purpose, seed, normalize("NFC", item.path)).random()

    return sorted(items, key=drawn)


def _by_label(item: Item) -> tuple[int, str]:
    return item.label, item.path
