"""A sweep that is killed again and again ends as if nothing had happened.

    python -m tests.chaos                        # 20 kills, Ray; about 10 minutes on two cores
    python -m tests.chaos --kills 5 --executor local --seed 3

Small runs of the demo are swept in a folder of their own. At random moments the sweep's process
or, on Ray, the worker of a run gets SIGKILL; a killed sweep is started again. At the end everything
is held against a sweep nobody disturbed: numbers bit for bit, finished runs never touched again,
nothing left over. Exit status 1 and the differences if it is not so.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
GRID = (
    "sweep", "zero_shot", "--demo", "--seeds", "0,1,2", "--retries", "20",
    "--set", "model.context_tokens=4", "--set", "execution.checkpoint_minutes=0.01",
)  # fmt: skip
#: Six runs, and the three shorter ones of the form that is one of the tests.
LONG = ("--models", "tc_clip,vifi_clip", "--set", "train.epochs=6", "--set", "model.num_frames=4")
SHORT = ("--models", "vifi_clip", "--set", "train.epochs=1", "--set", "model.num_frames=2")
#: A killed sweep that is not started again in vain: how long one start may take, seconds.
PATIENCE = 900.0


@dataclass
class Chaos:
    """One disturbed sweep: what was killed, and results that were there after a kill."""

    out: Path
    executor: str
    grid: tuple[str, ...]
    runs: int
    dice: random.Random
    longest: float
    killed: list[str] = field(default_factory=list)
    results: dict[str, tuple[int, int]] = field(default_factory=dict)
    trained_again: set[str] = field(default_factory=set)

    def start(self) -> subprocess.Popen[bytes]:
        log = (self.out.parent / "sweep.log").open("ab")
        with log:
            return subprocess.Popen(
                command(self.out, self.executor, self.grid), cwd=self.out.parent,
                env=environment(self.out), stdout=log, stderr=log,
            )  # fmt: skip

    def disturb(self, kills: int) -> None:
        """Kill `kills` times, then let the sweep come to its end."""
        self.sweep = self.start()
        try:
            self._disturb(kills)
        finally:
            self.sweep.kill()  # nothing, if it has ended
            self.sweep.wait()

    def _disturb(self, kills: int) -> None:
        while len(self.killed) < kills:
            workers = self.executor == "ray" and self.dice.random() < 0.5
            time.sleep(self.dice.uniform(0.5, self.longest))
            victim = self._awaited() if workers else None
            self.look()
            if self.sweep.poll() is not None:
                if len(self.results) == self.runs:
                    print(f"all was finished after {len(self.killed)} kills", flush=True)
                    return
                self.sweep = self.start()
                continue
            try:
                os.kill(victim or self.sweep.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue  # it ended by itself a moment ago
            self.killed.append("sweep" if victim is None else "worker")
            print(f"{len(self.killed)}: {self.killed[-1]}, {len(self.results)} done", flush=True)
            if victim is None:
                self.sweep.wait()
                self.sweep = self.start()
        if self.sweep.wait(PATIENCE) != 0:
            raise SystemExit(f"the last sweep ended with {self.sweep.returncode}")
        self.look()

    def _awaited(self) -> int | None:
        """The worker of some run, once there is one; None if the sweep ends first."""
        while self.sweep.poll() is None:
            victim = self.worker(self.sweep.pid)
            if victim is not None:
                return victim
            time.sleep(0.1)
        return None

    def worker(self, sweep: int) -> int | None:
        """The process of a run that is being worked on, if it is not the sweep's own."""
        pids = []
        for lease in sorted(self.out.glob("runs/*/lease-*.json")):
            try:
                pid = int(json.loads(lease.read_text())["pid"])
            except (FileNotFoundError, ValueError):
                continue  # written or released just now
            pids += [pid] if pid != sweep else []
        return self.dice.choice(pids) if pids else None

    def look(self) -> None:
        """A result that is there must stay the same file."""
        for path in self.out.glob("runs/*/result.json"):
            seen = (path.stat().st_ino, path.stat().st_mtime_ns)
            if self.results.setdefault(path.parent.name, seen) != seen:
                self.trained_again.add(path.parent.name)


def command(out: Path, executor: str, grid: tuple[str, ...]) -> list[str]:
    """The sweep's command line."""
    tcclip = str(Path(sys.executable).with_name("tcclip"))
    return [tcclip, *GRID, *grid, "--out", str(out), "--executor", executor]


def environment(out: Path) -> dict[str, str]:
    """Everything in folders of its own."""
    return {**os.environ, "TCCLIP_CACHE": str(out.parent / "cache")}


def undisturbed(out: Path, grid: tuple[str, ...]) -> None:
    """The same sweep in one go."""
    out.parent.mkdir(parents=True)
    with (out.parent / "sweep.log").open("wb") as log:
        subprocess.run(
            command(out, "local", grid), cwd=out.parent, env=environment(out),
            stdout=log, stderr=log, check=True,
        )  # fmt: skip


def numbers(out: Path) -> dict[str, Any]:
    """run id -> what of its result must be equal bit for bit."""
    found = {}
    for path in out.glob("runs/*/result.json"):
        data = json.loads(path.read_text())
        provenance = data.pop("provenance")
        found[path.parent.name] = data | {
            name: provenance[name] for name in ("digests", "clips_replaced", "videos_unreadable")
        }
    return found


def steps(out: Path) -> dict[str, list[tuple[int, float]]]:
    """run id -> (step, loss) of every training step written down, in the file's order."""
    found = {}
    for path in out.glob("runs/*/metrics.jsonl"):
        records = [json.loads(line) for line in path.read_text().splitlines()]
        kept = [(r["step"], r["loss"]) for r in records if r["kind"] == "step"]
        found[path.parent.name] = kept
    return found


def leftovers(out: Path) -> list[str]:
    """Files of `out` that belong to no finished run."""
    wrong = ("lease-*", ".*", "*.tmp", "failure.json", "pause", "paused.json", "stopped.json")
    found = {path for name in wrong for path in (*out.glob(name), *(out / "runs").rglob(name))}
    return sorted(str(path.relative_to(out)) for path in found)


def differences(chaos: Chaos, calm: Path) -> list[str]:
    """What is not as in the undisturbed sweep; nothing, if all is well."""
    found, expected = numbers(chaos.out), numbers(calm)
    wrong = []
    if not expected or set(found) != set(expected):
        wrong.append(f"runs: {sorted(found)} instead of {sorted(expected)}")
    wrong += [f"{run}: other numbers" for run in found if found[run] != expected.get(run)]
    ours, theirs = steps(chaos.out), steps(calm)
    wrong += [f"{run}: other training steps" for run in ours if ours[run] != theirs.get(run)]
    wrong += [f"{run}: its result was made twice" for run in sorted(chaos.trained_again)]
    wrong += [f"left over: {name}" for name in leftovers(chaos.out)]
    return wrong


def check(
    folder: Path,
    *,
    kills: int,
    executor: str,
    seed: int,
    longest: float | None = None,
    grid: tuple[str, ...] = LONG,
) -> Chaos:
    """Both sweeps in `folder`; AssertionError with the differences. `longest`: seconds between
    kills, by default a seventh of what the undisturbed sweep takes."""
    calm, began = folder / "calm" / "out", time.monotonic()
    undisturbed(calm, grid)
    longest = longest or (time.monotonic() - began) / 7
    runs, dice = len(numbers(calm)), random.Random(seed)
    chaos = Chaos(folder / "chaos" / "out", executor, grid, runs, dice, longest)
    chaos.out.parent.mkdir()
    # Making the embedded videos is disturbed too.
    chaos.disturb(kills)
    wrong = differences(chaos, calm)
    if len(chaos.killed) < kills:
        wrong.append(f"finished after {len(chaos.killed)} kills; shorter times between them needed")
    if executor == "ray" and len(set(chaos.killed)) < 2:
        wrong.append(f"only {chaos.killed[0]}s were killed; another --seed or more --kills needed")
    assert not wrong, "\n".join(wrong)
    return chaos


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=20, help="SIGKILLs")
    parser.add_argument("--executor", choices=("ray", "local"), default="ray", help="ray")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and the victims")
    parser.add_argument("--longest", type=float, help="seconds between kills; by default by speed")
    parser.add_argument("--keep", action="store_true", help="keep the folder")
    options = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="tcclip-chaos-"))
    began = time.monotonic()
    try:
        chaos = check(
            folder, kills=options.kills, executor=options.executor, seed=options.seed,
            longest=options.longest,
        )  # fmt: skip
    except AssertionError as error:
        print(f"{error}\nin {folder}")
        return 1
    killed = {name: chaos.killed.count(name) for name in sorted(set(chaos.killed))}
    took = time.monotonic() - began
    print(f"killed {killed}; {chaos.runs} runs as undisturbed, nothing left over; {took:.0f} s")
    if not options.keep:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
