"""Footnotes: what is missing, and what in a run's provenance could explain a different number."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from protocols.protocol import Protocol
from results.published.numbers import PublishedNumber
from results.records import Provenance
from results.statistics.aggregate import Aggregated
from results.statistics.columns import Column
from results.statistics.expected import ExpectedRuns
from results.statistics.runs import FinishedRun, Method, Point

#: Characters that are printed of a commit or sha256.
_SHORT = 12
#: Causes a footnote spells out before it counts the rest.
_SPELLED_OUT = 4


@dataclass(frozen=True)
class Caveat:
    """What sets a run apart. `dataset`: the one whose numbers it affects; None: all of them."""

    text: str
    dataset: str | None = None


class Footnotes:
    """The footnotes of a table, numbered in the order in which its cells need them.

    `general`: what holds for the whole table, said once below it.
    """

    def __init__(self, expected: ExpectedRuns) -> None:
        self._expected = expected
        self._numbers: dict[str, int] = {}
        #: (method, trained on, shots) -> caveat -> the runs it is about.
        self._caveats: dict[tuple[Method, str, int | None], dict[Caveat, list[Point]]]
        self._caveats = defaultdict(lambda: defaultdict(list))
        runs = expected.finished
        usual = _usual_digests(run.result.provenance.digests for run in runs)
        by_run = {
            run.run_id: _caveats(run.result.provenance, expected.protocol, usual) for run in runs
        }
        counts = Counter(caveat for own in by_run.values() for caveat in own)
        of_all = [caveat for caveat, n in counts.items() if n == len(runs) > 1]
        self.general = [*_code_versions(runs), *(f"All runs: {one.text}" for one in of_all)]
        for run in runs:
            cells = self._caveats[run.method, run.point.trained_on, run.point.shots]
            for caveat in by_run[run.run_id]:
                if caveat not in of_all:
                    cells[caveat].append(run.point)
        #: Of how many rows a caveat is: what several have is one footnote, which names none.
        self._rows = Counter(
            caveat for caveat, _ in {(c, key[0]) for key, own in self._caveats.items() for c in own}
        )

    def of_cell(
        self, method: Method, column: Column, ours: Aggregated, more: Iterable[str] = ()
    ) -> tuple[int, ...]:
        """The numbers of a cell's footnotes, beginning with those of `more`."""
        texts, name = list(more), self._expected.titles.of(method)
        if ours.missing:
            effect = "averaged without" if ours.partial else "incomplete, no average"
            texts.append(f"{name}: {effect}: {_first_few(ours.missing)}")
        others = self._expected.seeds_only_others_have(method, column.trained_on)
        if others:
            texts.append(f"{name}: no run with {_seeds(others)}, which other rows have")
        own = self._caveats.get((method, column.trained_on, column.shots), {})
        for caveat, points in own.items():
            if caveat.dataset in (None, column.dataset, column.trained_on):
                whose = f"{name}: " if self._rows[caveat] == 1 else ""
                texts.append(f"{whose}{caveat.text} ({_places(points)})")
        return self._numbered(texts)

    def of_row(self, method: Method) -> tuple[int, ...]:
        """The footnote of a row's title: what it leaves out."""
        note = self._expected.titles.note(method)
        return self._numbered([] if note is None else [note])

    def _numbered(self, texts: Iterable[str]) -> tuple[int, ...]:
        return tuple(self._numbers.setdefault(text, len(self._numbers) + 1) for text in texts)

    def of_published(self, one: PublishedNumber | None) -> tuple[int, ...]:
        """The footnotes of a published figure: what keeps it from being compared."""
        if one is None:
            return ()
        texts = [f"not comparable: {'; '.join(one.incomparable)}"] if one.incomparable else []
        return self._numbered([*texts, one.remark] if one.remark else texts)

    def texts(self) -> tuple[str, ...]:
        return tuple(self._numbers)


def _usual_digests(digests: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """The most common sha256 of every file that has more than one; the first seen of a tie."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for one in digests:
        for name, digest in sorted(one.items()):
            # Starting weights differ by model and, if drawn, by seed: that is as it should be.
            if not name.startswith("initial "):
                counts[name][digest] += 1
    return {name: n.most_common(1)[0][0] for name, n in counts.items() if len(n) > 1}


def _caveats(one: Provenance, protocol: Protocol, usual: Mapping[str, str]) -> list[Caveat]:
    """How a run differs from a clean one of its protocol, and its files from the `usual` ones."""
    batch, usual_batch = one.global_batch, protocol.train.global_batch
    of_videos = f"of {one.videos_expected} videos"
    extended = one.extended_epochs
    texts = {
        f"extended: epochs 1 to {extended} followed the learning rates of {extended} epochs, the "
        "others those of all": extended,
        f"global batch {batch}, the protocol's is {usual_batch}": batch != usual_batch,
        f"{one.videos_missing} {of_videos} missing": one.videos_missing,
        f"{one.videos_unreadable} {of_videos} unreadable, counted as wrong": one.videos_unreadable,
        f"{one.clips_replaced} training clips replaced, unreadable": one.clips_replaced,
        "code with uncommitted changes": one.git_dirty,
    }
    found = [Caveat(text) for text, applies in texts.items() if applies]
    found += [Caveat(f"{name} read from a pack: {how}", name) for name, how in one.packs.items()]
    # They begin with the data set's name.
    found += [Caveat(text, text.split()[0]) for text in one.data_warnings]
    for name, digest in usual.items():
        own = one.digests.get(name, digest)
        if own != digest:
            digests = f"sha256 {own[:_SHORT]}, theirs {digest[:_SHORT]}"
            # Lists are named `<data set>/<path>`; starting weights have no data set.
            dataset = name.split("/")[0] if "/" in name else None
            found.append(Caveat(f"another {name} than the other runs ({digests})", dataset))
    return found


def _code_versions(runs: Iterable[FinishedRun]) -> list[str]:
    """A text if the runs were computed with several commits."""
    commits = {commit for run in runs if (commit := run.result.provenance.git_commit)}
    names = ", ".join(sorted(commit[:_SHORT] for commit in commits))
    return [f"Computed with {len(commits)} commits: {names}"] if len(commits) > 1 else []


def _places(points: Iterable[Point]) -> str:
    """`seeds 0, 1`, or `seed 0 of base split 2; seeds 0, 1 of base split 3`."""
    in_order = sorted(points, key=lambda point: (point.base_split or 0, point.seed))
    texts = []
    for split, several in groupby(in_order, key=lambda point: point.base_split):
        of_split = "" if split is None else f" of base split {split}"
        texts.append(_seeds([point.seed for point in several]) + of_split)
    return _first_few(texts)


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _first_few(texts: Sequence[str]) -> str:
    shown = "; ".join(texts[:_SPELLED_OUT])
    rest = len(texts) - _SPELLED_OUT
    return f"{shown}; and {rest} more" if rest > 0 else shown
