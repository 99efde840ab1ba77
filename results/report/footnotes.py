"""Footnotes: what about a run's provenance could explain a different number."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from protocols.protocol import Protocol

if TYPE_CHECKING:
    import pandas as pd

_SHORT = 12


@dataclass(frozen=True)
class Remark:
    """What sets a run apart. `dataset`: the one whose numbers it touches; None: all of them."""

    text: str
    dataset: str | None = None


def remarks(table: pd.DataFrame, protocol: Protocol) -> dict[str, tuple[Remark, ...]]:
    """What sets runs apart, by run_id; runs like the others are not in it.

    A list or starting weights with several sha256 over the runs: those who differ from the most
    common one are remarked upon (from the first seen, where two are equally common).
    """
    names = [
        "run_id", "seed", "global_batch", "overrides", "git_commit", "git_dirty",
        "videos_missing", "videos_unreadable", "videos_expected", "clips_replaced", "digests",
    ]  # fmt: skip
    runs = table.drop_duplicates("run_id")
    rows = [
        dict(zip(names, row, strict=True))
        for row in zip(*(runs[n].tolist() for n in names), strict=True)
    ]
    digests = [json.loads(row["digests"]) for row in rows]
    usual = _usual(digests)
    found: dict[str, tuple[Remark, ...]] = {}
    for row, own in zip(rows, digests, strict=True):
        remark = (*map(Remark, _run_remarks(row, protocol)), *_other_files(own, usual))
        if remark:
            found[row["run_id"]] = remark
    return found


def _usual(digests: list[Mapping[str, str]]) -> dict[str, str]:
    """The most common sha256 of every file that has more than one."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for one in digests:
        for name, digest in one.items():
            # What a run starts from differs by model and, if drawn, by seed: that is no oddity.
            if not name.startswith("initial "):
                counts[name][digest] += 1
    return {name: n.most_common(1)[0][0] for name, n in counts.items() if len(n) > 1}


def _other_files(own: Mapping[str, str], usual: Mapping[str, str]) -> list[Remark]:
    return [
        Remark(
            f"another {name} than the other runs "
            f"(sha256 {own[name][:_SHORT]}, theirs {digest[:_SHORT]})",
            # Lists are named `<data set>/<path>`; starting weights have no data set.
            name.split("/")[0] if "/" in name else None,
        )
        for name, digest in usual.items()
        if name in own and own[name] != digest
    ]


def _run_remarks(row: Mapping[str, Any], protocol: Protocol) -> list[str]:
    found = []
    batch = protocol.train.global_batch
    if row["global_batch"] != batch:
        found.append(f"global batch {row['global_batch']}, the protocol's is {batch}")
    if row["videos_missing"]:
        found.append(f"{row['videos_missing']} of {row['videos_expected']} videos missing")
    if row["videos_unreadable"]:
        found.append(
            f"{row['videos_unreadable']} of {row['videos_expected']} videos unreadable, "
            "counted as wrong"
        )
    if row["clips_replaced"]:
        found.append(f"{row['clips_replaced']} training clips replaced, unreadable")
    if row["git_dirty"]:
        found.append("code with uncommitted changes")
    return found


def code_versions(table: pd.DataFrame) -> str | None:
    """A remark if the runs were computed with several commits, else None."""
    commits = sorted(str(c)[:_SHORT] for c in table["git_commit"].dropna().unique())
    return (
        f"Computed with {len(commits)} commits: {', '.join(commits)}" if len(commits) > 1 else None
    )
