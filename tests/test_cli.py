"""The command line as a user meets it: fast, clear about mistakes, at home in any folder."""

import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer

import cli
from experiments.grid.options import integers

HEAVY = ("torch", "ray", "mlflow", "open_clip", "matplotlib", "fsspec")
#: What even the help does without.
UNNEEDED = ("pandas", "numpy", "yaml", "rich.progress")

SMALL_IMAGE = """{image_size: 8, patch_size: 16, vision_width: 64, vision_layers: 3,
vision_heads: 4, text_width: 64, text_layers: 2, text_heads: 4, embed_dim: 64}"""
LONG = "x" * 300
#: A name that no file can have, for each option that takes one.
TOO_LONG = (
    *(
        ("sweep", "zero_shot", "--dry-run", *option, LONG)
        for option in (["--out"], ["--annotations"], ["--dataset-file"], ["--data-root"],
                       ["--demo", "--init-checkpoint"])
    ),
    ("sweep", "zero_shot", "--dry-run", "--set", f"train.clip_weights={LONG}"),
    ("evaluate", "zero_shot", "--demo", "--checkpoint", LONG),
    *((command, "--out", LONG) for command in ("status", "ui")),
    ("report", "zero_shot", "--out", LONG), ("report", "zero_shot", "--out", ".", "--write", LONG),
    ("compare", LONG, "clip", "--protocol", "zero_shot", "--out", "."),
    ("checkpoint", "show", LONG), ("checkpoint", "convert", LONG, "own.safetensors"),
    *(("data", "check", option, LONG) for option in ("--data-root", "--dataset-file")),
    ("data", "list", "--data-root", LONG), ("data", "fetch", "--to", LONG),
    ("data", "init", ".", "--to", LONG, "--name", "x"),
    ("data", "init", ".", "--lists", LONG, "--name", "x"),
)  # fmt: skip


#: In one process, those that need least first.
QUICK = (
    ("--help",), ("sweep", "--help"), ("predict", "--help"), ("sweep", "zero_shot", "--dry-run"),
    ("sweep", "zero_shot", "--demo", "--dry-run", "--format", "json"), ("status", "--out", "."),
    ("report", "zero_shot", "--demo", "--out", "."),
)  # fmt: skip


def test_quick_commands_import_nothing_heavy(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    code = f"""
import sys
import cli
for arguments in {QUICK!r}:
    sys.argv = ["tcclip", *arguments]
    try:
        code = cli.main()
    except SystemExit as stop:
        code = stop.code
    names = {HEAVY!r} + ({UNNEEDED!r} if "--help" in arguments else ())
    loaded = [name for name in names if name in sys.modules]
    print("loaded", loaded, "exit", code or 0, arguments, file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    said = [line for line in done.stderr.splitlines() if line.startswith("loaded")]
    assert said == [f"loaded [] exit 0 {arguments}" for arguments in QUICK], done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sweep", "zeroshot"), "unknown protocol 'zeroshot'; known: zero_shot, few_shot"),
        (("sweep", "zero_shot", "--demo", "--datasets", "hmdb51"), "allowed: moving_shapes"),
        (("sweep", "zero_shot", "--seeds", "one"), "--seeds 'one': not a comma list of integers"),
        (("sweep", "zero_shot", "--seeds", "0:4"), "not a comma list of integers and ranges"),
        (("sweep", "zero_shot", "--seeds", "1_0"), "not a comma list of integers and ranges"),
        (("sweep", "zero_shot", "--seeds", "4-0"), "4-0 ends before it begins"),
        (("sweep", "zero_shot", "--seeds", "0-9999999"), "is more than 10000 integers"),
        (("report", "zero_shot", "--seeds", "2-"), "--seeds '2-': not a comma list"),
        (("sweep", "zero_shot", "--demo", "--time-limit", "4"), "--time-limit '4'; give a"),
        (("sweep", "zero_shot", "--seeds", ","), "--seeds ',' is empty"),
        (("sweep", "zero_shot", "--demo", "--micro-batch", "5"), "a global batch of 32 cannot"),
        (("sweep", "zero_shot", "--demo", "--micro-batch", "0"), "--micro-batch"),
        (("sweep", "zero_shot", "--workers-per-run", "0"), "--workers-per-run"),
        (("sweep", "zero_shot", "--dry-run", "--micro-batch", "5"), "cannot be made"),
        (("sweep", "zero_shot", "--demo", "--executor", "slurm"), "allowed: ray, local"),
        (("sweep", "zero_shot", "--demo", "--address", "127.0.0.1:9"), "cannot be reached"),
        (("sweep", "zero_shot", "--seeds", "-1"), "--seeds -1; allowed: 0 to 4294967295"),
        (("sweep", "zero_shot", "--set", "train.lr=inf"), "train.lr"),
        (("sweep", "zero_shot", "--out", ""), "--out '' is empty"),
        (("sweep", "zero_shot", "--out", "s3://"), "names no folder"),
        (("sweep", "zero_shot", "--out", "ftp://x/y"), "nothing is known of ftp://"),
        (("sweep", "zero_shot", "--dry-run", "--out", "/dev/null/x"), "/dev/null is a file"),
        (("sweep", "zero_shot", "--out", "latin1.yaml"), "latin1.yaml is a file"),
        (("sweep", "latin1.yaml"), "latin1.yaml:1 is not UTF-8 text: byte 0xe9"),
        (("sweep", "empty.yaml"), "rows: Tuple should have at least 1 item"),
        (("sweep", "zero_shot", "--dry-run", "--format", "xml"), "'xml' is not one of"),
        (("sweep", "zero_shot", "--seeds", "0", "--seeds", "1"), "--seeds is given 2 times"),
        (("runs", "list", "--state", "failed", "--state", "done"), "--state is given 2 times"),
        (("sweep", "zero_shot", "--demo", "--rerun", "nothing*"), "matches none of"),
        (("sweep", "zero_shot", "--demo", "--dry-run", "--rerun", "nothing*"), "matches none of"),
        (("status", "--out", "nowhere"), "nowhere holds no runs"),
        (("status", "--watch", "--out", "nowhere"), "nowhere is not there"),
        (("status", "--protocol", "nosuch"), "--protocol 'nosuch'; known: zero_shot"),
        (("ui", "--sync", "--out", "nowhere"), "nowhere holds no runs"),
        (("ui", "--port", "0"), "--port"),
        (("runs", "list", "--out", "nowhere"), "nowhere holds no runs"),
        (("runs", "forget", "x", "--out", "nowhere"), "nowhere holds no runs"),
        (("runs", "forget"), "say which runs to forget"),
        (("explain-protocol", "zeroshot"), "unknown protocol 'zeroshot'; known: zero_shot"),
        (("ui", "--sync", "--port", "5001"), "which --sync does not start"),
        (("sweep", "zero_shot", "--demo", "--num-samples", "4"), "which is not given"),
        (("data", "check", "--workers", "0"), "--workers"),
        (("report", "zeroshot"), "unknown protocol 'zeroshot'"),
        (("report", "zero_shot", "--out", "nowhere"), "nowhere"),
        (("ui", "--out", "nowhere"), "nowhere/mlflow.db); run a sweep"),
        (("sweep", "zero_shot", "--set", "model.num_frames=1000000000"), "equal to 4096"),
        (
            ("sweep", "zero_shot", "--demo", "--dry-run", "--set", f"model.geometry={SMALL_IMAGE}"),
            "no patch of 16 pixels fits into an image",
        ),
        *((command, "File name too long") for command in TOO_LONG),
    ],
)
def test_mistakes_are_one_message_and_exit_2(
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["tcclip", *arguments])
    (tmp_path / "latin1.yaml").write_bytes(b"protocol: zero_shot # caf\xe9")
    (tmp_path / "empty.yaml").write_text("protocol: zero_shot\nrows: []\n")
    (tmp_path / "wave").mkdir()
    (tmp_path / "wave" / "1.mp4").touch()
    with pytest.raises(SystemExit) as stop:
        sys.exit(cli.main())
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error.replace("\n", "")
    assert "Traceback" not in error
    assert not list(tmp_path.rglob("spec.json")), "nothing is planned"


def test_ranges_of_seeds_are_the_seeds() -> None:
    assert integers("--seeds", "0-4,9,3") == (0, 1, 2, 3, 4, 9)
    assert integers("--seeds", None) is None


def _commands(group: Any, words: tuple[str, ...] = ()) -> list[str]:
    """`tcclip`'s commands and groups of commands, as one types them."""
    inner = getattr(group, "commands", {}).items()
    return [" ".join(words), *(one for name, it in inner for one in _commands(it, (*words, name)))]


@pytest.mark.parametrize("command", _commands(typer.main.get_command(cli.app)))
def test_every_command_helps_on_one_screen(
    command: str, tcclip: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    code, out, _ = tcclip(*command.split(), "-h" if command.startswith("runs") else "--help")
    assert code == 0
    assert f"Usage: {' '.join(['tcclip', *command.split()])} " in out
    assert out.count("\n") <= 50


def test_version_and_completion(
    tcclip: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tcclip("--version") == (0, f"tcclip {version('tcclip-sweeps')}\n", "")
    monkeypatch.setenv("_TCCLIP_COMPLETE", "complete_bash")
    for words, expected in (
        ("sweep f", "few_shot\nfully_supervised\n"),
        ("sweep few_shot --datasets hmdb51,u", "hmdb51,ucf101\n"),
        ("report zero_shot --form", "--format\n"),
        ("evaluate zero_shot --time", "--time-limit\n"),
    ):
        monkeypatch.setenv("COMP_WORDS", f"tcclip {words}")
        monkeypatch.setenv("COMP_CWORD", str(len(words.split())))
        assert tcclip() == (0, expected, "")
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", "tcclip sweep few_shot --datasets hm")
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    for shell, script in (("zsh", "#compdef tcclip"), ("fish", "complete --command tcclip")):
        monkeypatch.setenv("_TCCLIP_COMPLETE", f"source_{shell}")
        code, made, _ = tcclip()
        assert code == 0 and script in made and f"complete_{shell}" in made
        monkeypatch.setenv("_TCCLIP_COMPLETE", f"complete_{shell}")
        code, answer, _ = tcclip()
        assert code == 0 and "hmdb51" in answer and "ucf101" not in answer


def test_a_port_that_is_taken_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.execute("CREATE TABLE experiments (name, artifact_location)")
        database.commit()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = ["tcclip", "ui", "--out", str(tmp_path), "--port", str(port)]
        monkeypatch.setattr(sys, "argv", command)
        assert cli.main() == 2
    error = capsys.readouterr().err
    assert f"port {port} of 127.0.0.1 (Address already in use); choose another with --port" in error


@pytest.mark.parametrize("folder", ["file", "/proc/nope"])
def test_a_report_that_cannot_be_written_is_a_message(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "file").write_text("kept")
    command = ["tcclip", "report", "zero_shot", "--demo", "--out", ".", "--write", folder]
    monkeypatch.setattr(sys, "argv", command)
    assert cli.main() == 2
    assert folder in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "kept"
