"""Printing: whatever standard output and error are, no command fails for them with a traceback."""

import io
import json
import os
import pty
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TextIO

import pytest

import cli
from experiments.doctor import Finding
from experiments.grid.plan import Grid, expand
from experiments.tracking import ui
from results import printing
from tests.experiments.scheduler.scripted import Scripted
from tests.experiments.scheduler.scripted import run as run_scripted

PRINTING = {
    "report": ("report", "zero_shot", "--demo"),
    "markdown": ("report", "zero_shot", "--demo", "--format", "md"),
    "status": ("status",),
    "compare": ("compare", "tc_clip", "vifi_clip", "--protocol", "zero_shot", "--demo"),
    "dry run": ("sweep", "zero_shot", "--demo", "--dry-run"),
    "help": ("status", "--help"),
}


class Terminal:
    """Runs commands in this process, on standard streams of the test's choice."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
        self.folder, self._patch, self.encoding = folder, monkeypatch, encoding
        monkeypatch.setenv("TTY_COMPATIBLE", "")
        monkeypatch.setenv("_TYPER_FORCE_DISABLE_TERMINAL", "")

    def run(self, *arguments: str, out: str = "file", err: str = "file") -> int | str:
        """The exit status. `out`, `err`: file, full, gone (a pipe without reader) or closed."""
        with ExitStack() as stack:
            for name, kind in (("stdout", out), ("stderr", err)):
                stream = None if kind == "closed" else stack.enter_context(self._open(name, kind))
                self._patch.setattr(sys, name, stream)
                self._patch.setattr(sys, f"__{name}__", stream)
            self._patch.setattr(sys, "argv", ["tcclip", *arguments])
            with pytest.raises(SystemExit) as stop:
                sys.exit(cli.main())
            sys.stdout.flush()
            sys.stderr.flush()
        return stop.value.code or 0

    def _open(self, name: str, kind: str) -> TextIO:
        if kind == "gone":
            read, write = os.pipe()
            os.close(read)
            return os.fdopen(write, "w", encoding=self.encoding)
        path = Path("/dev/full") if kind == "full" else self.folder / name
        return path.open("w", encoding=self.encoding)

    def text(self, name: str = "stdout") -> str:
        return (self.folder / name).read_text(encoding=self.encoding)


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    return Terminal(tmp_path, monkeypatch, "utf-8")


@pytest.mark.parametrize("name", PRINTING)
def test_what_an_encoding_lacks_has_a_substitute(
    name: str, recorded: Path, terminal: Terminal
) -> None:
    for terminal.encoding in ("ascii", "latin-1"):
        out = recorded if name != "dry run" else terminal.folder / "out"
        assert terminal.run(*PRINTING[name], "--out", str(out)) == 0, terminal.text("stderr")
        assert "\\u" not in terminal.text()
        if name in ("report", "compare"):
            assert ("+- " in terminal.text()) == (terminal.encoding == "ascii")


def test_tables_keep_their_columns(recorded: Path, terminal: Terminal) -> None:
    """Substitutes are as long as they are when the columns are made; footnotes are no digits."""
    terminal.encoding = "ascii"
    assert terminal.run(*PRINTING["report"], "--out", str(recorded)) == 0
    lines = terminal.text().splitlines()
    head = next(line for line in lines if line.endswith("over seeds"))
    cells = [line for line in lines if line.endswith("+- 0.7")]
    assert cells and {len(line) for line in cells} == {len(head)}
    assert printing.printable("0.7¹,¹² é", "ascii") == "0.7[1,12] \\u00e9"
    assert printing.printable("0.7¹⁴ é", "latin-1") == "0.7[14] é"
    assert printing.printable("0.7¹ é", "latin-1") == "0.7¹ é"


def test_json_keeps_what_an_encoding_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    value = {"title": "waves – é 手 😀 \udcff"}
    stream = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    printing.show(json.dumps(value, ensure_ascii=False), "json")
    stream.seek(0)
    assert json.load(stream) == value


@pytest.mark.parametrize(("kind", "status"), [("full", 2), ("gone", 0), ("closed", 0)])
@pytest.mark.parametrize("name", ["report", "status", "compare", "help"])
def test_output_that_is_lost_is_one_message(
    name: str, kind: str, status: int, recorded: Path, terminal: Terminal
) -> None:
    assert terminal.run(*PRINTING[name], "--out", str(recorded), out=kind) == status
    expected = "tcclip: the output could not be written: No space left on device\n"
    assert terminal.text("stderr") == (expected if status else "")
    assert terminal.run("report", "nothing", out=kind, err=kind) == 2, "a mistake stays one"


@pytest.mark.parametrize("kind", ["full", "gone", "closed"])
def test_a_sweep_that_finished_does_not_fail_for_its_output(
    kind: str, cache: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError("no MLflow here")

    monkeypatch.setattr(ui, "Mirror", broken)
    monkeypatch.setenv("TCCLIP_CACHE", str(cache))
    out = terminal.folder / "out"
    run_scripted(expand(Grid("zero_shot", demo=True)), out, Scripted())
    command = ("sweep", "zero_shot", "--demo", "--executor", "local", "--out", str(out))
    assert terminal.run(*command, out=kind) == 0
    lost = "the table could not be written: No space left on device; "
    assert (lost in terminal.text("stderr")) == (kind == "full")
    assert "report zero_shot --demo --out" in terminal.text("stderr") or kind != "full"
    assert terminal.run(*command, err=kind) == 0
    assert "50.0 ± 0.0" in terminal.text()


@pytest.mark.parametrize("command", ["doctor", "data check", "data list", "sweep"])
def test_other_tables_with_an_odd_output(
    command: str, terminal: Terminal, shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine whose folders have other letters; where output is lost, one message."""
    found = [Finding("videos", True, "café ± 手")]
    monkeypatch.setattr("experiments.doctor.run_checks", lambda checks: found)
    monkeypatch.setenv("TCCLIP_CACHE", str(shapes.parent))
    more = {"data check": ["--datasets", "moving_shapes"],
            "sweep": ["zero_shot", "--demo", "--dry-run"]}.get(command, [])  # fmt: skip
    arguments = [*command.split(), *more]
    for terminal.encoding in ("ascii", "latin-1", "utf-8"):
        assert terminal.run(*arguments) == 0, terminal.text("stderr")
        assert terminal.text()
        assert command != "doctor" or ("caf\\u00e9 +-" in terminal.text()) == (
            terminal.encoding == "ascii"
        )
    for out in ("gone", "closed", "full"):
        assert terminal.run(*arguments, out=out) == (2 if out == "full" else 0)
        assert "Traceback" not in terminal.text("stderr")
        assert terminal.run(*arguments, err=out) == 0


def test_watching_ends_with_its_reader(tmp_path: Path, terminal: Terminal) -> None:
    assert terminal.run("status", "--watch", "--out", str(tmp_path), out="gone") == 0


@contextmanager
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[bytearray]:
    """What a terminal shows that is standard output and error."""
    master, slave = pty.openpty()
    for name in ("stdout", "stderr"):
        stream = os.fdopen(slave, "w", closefd=False)
        monkeypatch.setattr(sys, name, stream)
        monkeypatch.setattr(sys, f"__{name}__", stream)
    for variable in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "_TYPER_FORCE_DISABLE_TERMINAL"):
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)
    shown = bytearray()

    def read() -> None:
        with suppress(OSError):  # its other end is closed
            while data := os.read(master, 1 << 16):
                shown.extend(data)

    reader = threading.Thread(target=read)
    reader.start()
    yield shown
    os.close(slave)
    reader.join()
    os.close(master)


@pytest.mark.parametrize(
    ("variable", "value", "escapes"),
    [("TERM", "xterm", True), ("TERM", "dumb", False), ("NO_COLOR", "1", False)],
)
def test_escapes_are_for_terminals_that_have_them(
    variable: str, value: str, escapes: bool, recorded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("report", "status", "help"):
        monkeypatch.setattr(sys, "argv", ["tcclip", *PRINTING[name], "--out", str(recorded)])
        with screen(monkeypatch) as shown:
            monkeypatch.setenv("TERM", "xterm")
            monkeypatch.setenv(variable, value)
            with pytest.raises(SystemExit, match=r"^0$"):
                cli.main()
            sys.stdout.flush()
        assert shown
        assert (b"\x1b" in shown) == escapes, name
