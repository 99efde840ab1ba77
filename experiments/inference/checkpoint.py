"""The checkpoint that a command is given: a path, hf://..., or the id of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from experiments.errors import UserError, user_errors
from experiments.grid.options import DEFAULT_DEMO_OUT, DEFAULT_OUT

if TYPE_CHECKING:
    from experiments.grid.spec import RunSpec
    from results.reading.location import Location
    from results.reading.run_folder import RunFolder
    from tcclip.predict import Predictor

CheckpointOption = Annotated[
    str,
    typer.Option(
        "--checkpoint",
        metavar="FILE|RUN",
        help="A path, hf://OWNER/REPO with or without /FILE, a run's id.",
    ),
]
ClipWeights = Annotated[
    str | None,
    typer.Option(
        "--clip-weights",
        metavar="FILE",
        help="CLIP's, if the checkpoint names none: or openai, random.",
    ),
]
Ensemble = Annotated[
    float | None,
    typer.Option(min=0, max=1, metavar="X", help="Of fine-tuned weights, CLIP's the rest: 0.7."),
]
#: Files that belong to a file of weights, by their endings.
TOGETHER = (".safetensors", ".json", ".calibration.json")


@dataclass(frozen=True)
class Checkpoint:
    """`where` the weights are: a path, a place in an object store, or an hf:// name.

    `run`: the folder of the run that made them, and its settings, if it is known.
    """

    where: Location | str
    run: RunFolder | None = None
    spec: RunSpec | None = None

    @contextmanager
    def local(self) -> Iterator[Path | str]:
        """A path that `tcclip.load` takes; copies from a store are deleted afterwards."""
        from results.reading.location import read_bytes, scratch

        if isinstance(self.where, Path | str):
            yield self.where
            return
        with scratch() as folder:
            for ending in TOGETHER:
                one = self.where.with_suffix(ending)
                if (data := read_bytes(one)) is not None:
                    (folder / one.name).write_bytes(data)
            yield folder / self.where.name

    def load(self, **options: Any) -> Predictor:
        """The predictor; `options` as `tcclip.load`. UserError for what cannot be loaded.

        It computes in the precision of its run where the checkpoint, an older one, does not say.
        """
        import tcclip

        if self.spec is not None:
            known = {name: one for name, one in options.items() if one is not None}
            options = {"precision": self.spec.train.precision} | known
        with user_errors(), self.local() as path:
            return tcclip.load(path, **options)

    def calibration_file(self) -> Location:
        """Where what `tcclip calibrate` measures is kept: beside the weights."""
        from tcclip.predict.calibration import SUFFIX
        from tcclip.predict.loading import checkpoint_file

        if isinstance(self.where, Path | str):
            return checkpoint_file(self.where).with_suffix(SUFFIX)
        return self.where.with_suffix(SUFFIX)


def find(text: str, out: str | None = None, *, demo: bool = False) -> Checkpoint:
    """The checkpoint that `text` names. `out`: where runs are, by default as for other commands.

    UserError if there is none, or a run has no selected weights.
    """
    if text.startswith("hf://"):
        return Checkpoint(text)
    from results.reading.location import location

    path = Path(text).expanduser()
    with user_errors():
        if path.exists() or "/" in text:
            return _of_path(path)
        return _of_run(text, location(out or (DEFAULT_DEMO_OUT if demo else DEFAULT_OUT)))


def _of_path(path: Path) -> Checkpoint:
    """A file, or a folder that holds one; of a run, if it is in its folder."""
    from experiments.store.ledger import Ledger
    from results.reading.run_folder import RunFolder

    for folder in (path.absolute(), *path.absolute().parents[:2]):
        if (folder / "spec.json").is_file() and folder.parent.name == "runs":
            run = RunFolder(folder)
            where = run.best if path.is_dir() else path
            return Checkpoint(where, run, Ledger(folder.parents[1]).spec(folder.name))
    return Checkpoint(path)


def _of_run(text: str, out: Location) -> Checkpoint:
    from experiments.store.ledger import Ledger

    ledger = Ledger(out)
    known = [folder.run_id for folder in ledger.folders()]
    found = [run_id for run_id in known if run_id == text]
    found = found or [run_id for run_id in known if run_id.startswith(text)]
    if len(found) != 1:
        raise UserError(_unknown(text, out, found or known, several=bool(found)))
    run = ledger.folder(found[0])
    return Checkpoint(run.best, run, ledger.spec(found[0]))


def _unknown(text: str, out: Location, listed: Sequence[str], *, several: bool) -> str:
    shown = ", ".join(listed[:8]) + (", ..." if len(listed) > 8 else "")
    if several:
        return f"{text!r} begins the ids of {len(listed)} runs of {out}; name one: {shown}"
    runs = f"its runs: {shown}" if listed else "which holds no runs"
    return (
        f"no checkpoint {text!r}: there is no such file, and no run of {out} is called so "
        f"({runs}); give a path, a run id with --out, or hf://OWNER/REPO/FILE"
    )
