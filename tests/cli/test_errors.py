"""What goes wrong in the command line: one line, the right exit code, nothing that steers the terminal."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

import napari_dala.slide
from napari_dala.cli import console
from napari_dala.errors import SlideError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "a[red]\x1b[2J\nb.png"
CLASS = '<img src="file:///etc/passwd">[red]\x1b[31m'
SEEN = r"a[red]\x1b[2J\x0ab.png"


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def dala(run: Any) -> Any:
    return run


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / NAME
    Image.fromarray(np.full((64, 64, 3), 200, np.uint8)).save(path)
    return path


@pytest.mark.parametrize(
    ("raised", "code", "line"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/out/x"), 2, "/out/x: no space left on device; free some"),
        (PermissionError(errno.EROFS, "Read-only file system", "/out"), 2, "/out: read-only file system; choose a"),
        (ValueError("embedded null byte"), 2, "embedded null byte"),
        (UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates not allowed"), 2, r"can't encode character '\udcff'"),
        (MemoryError(), 2, "not enough memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), 2, "not enough memory"),
        (SlideError(f"{NAME}: is cut"), 2, f"{SEEN}: is cut"),
        (KeyboardInterrupt(), 130, "stopped"),
        (
            ZeroDivisionError("division\nby zero"),
            1,
            r"a fault of napari-dala: ZeroDivisionError: division\x0aby zero",
        ),
        (RecursionError("too deep"), 1, "this is a fault of napari-dala"),
    ],
)
def test_one_line_and_the_right_code(
    dala: Any, picture: Path, monkeypatch: pytest.MonkeyPatch, raised: BaseException, code: int, line: str
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(napari_dala.slide, "open_slide", broken)
    monkeypatch.delenv("DALA_DEBUG", raising=False)
    ended, out, err = dala("info", picture)
    assert (ended, out) == (code, "")
    assert err.startswith("dala: ")
    assert line in err
    assert err.count("\n") == 1
    assert "\x1b" not in err
    monkeypatch.setenv("DALA_DEBUG", "1")
    ended, out, err = dala("info", picture)
    assert ended == code
    assert "Traceback" in err
    assert "def broken" in err or "raise raised" in err


def test_debug_is_an_option_too(dala: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DALA_DEBUG", "")
    assert "Traceback" not in dala("info", tmp_path / "gone.png")[2]
    assert "Traceback" in dala("--debug", "info", tmp_path / "gone.png")[2]
    slides = [tmp_path / name for name in ("one.svs", "two.svs")]
    for slide in slides:
        slide.write_bytes(b"no slide")
    failed = dala("--debug", "analyze", *slides, "--out", tmp_path / "out")[2]
    assert failed.count("Traceback") == 2, "of each of several slides"


def test_names_are_printed_escaped(dala: Any, picture: Path, tmp_path: Path) -> None:
    code, out, err = dala("info", picture)
    assert (code, err) == (0, "")
    assert json.loads(out)["name"] == NAME
    assert "\x1b" not in out
    (tmp_path / f"cut{NAME}").write_bytes(b"\x89PNG\r\n\x1a\n")
    code, out, err = dala("info", tmp_path / f"cut{NAME}")
    assert code == 2
    assert f"cut{SEEN}" in err
    assert err.count("\n") == 1
    assert "\x1b" not in dala("--no\x1b[2J")[2]
    assert "\x1b" not in dala("info", picture, "--no\x1b[2J")[2]


def test_tables_and_lines_show_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.table import Table

    table = Table(CLASS, title=CLASS)
    table.add_row(CLASS)
    screen = console.screen()
    screen.width = 200
    screen.print(table)
    screen.print(f"Note: {CLASS}")
    console.say(CLASS)
    out = capsys.readouterr().out
    assert out.count(r'<img src="file:///etc/passwd">[red]\x1b[31m') == 5
    assert "\x1b" not in out


@pytest.mark.parametrize("command", ["analyze", "explain"])
@pytest.mark.parametrize("mpp", ["0.00025", "1e-300", "nan", "25"])
def test_millimetres_are_no_micrometres(dala: Any, picture: Path, tmp_path: Path, command: str, mpp: str) -> None:
    code, _, err = dala(command, picture, "--mpp", mpp, "--out", tmp_path / "out")
    assert code == 2
    assert "give micrometres per pixel, 0.02 to 20" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", [("bench",), ("models", "import"), ("finetune", "--out", "x")])
def test_every_mpp_has_the_range(dala: Any, picture: Path, command: tuple[str, ...]) -> None:
    code, _, err = dala(*command, picture, "--mpp", "0.01")
    assert code == 2
    assert "give micrometres per pixel, 0.02 to 20" in err


def test_the_range_holds_for_training(dala: Any, tmp_path: Path) -> None:
    for name, grey in (("a", 200), ("b", 100)):
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.fromarray(np.full((64, 64, 3), grey, np.uint8)).save(tmp_path / "data" / name / "1.png")
    data = ("train", "--dataset", "folder", "--root", tmp_path / "data", "--out", tmp_path / "out")
    for option in ("--mpp", "--model-mpp"):
        code, _, err = dala(*data, option, "0.0005")
        assert code == 2
        assert "give micrometres per pixel, 0.02 to 20" in err


@pytest.mark.parametrize("out", ["nul\0byte", "x" * 300, "{file}/below"])
def test_names_that_cannot_be_folders(dala: Any, picture: Path, tmp_path: Path, out: str) -> None:
    (tmp_path / "file").touch()
    target = out.format(file=tmp_path / "file")
    code, _, err = dala("explain", picture, "--whole", "--model", "untrained", "--out", target)
    assert code == 2
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith(("dala: ", "Error: Invalid value for '--out'"))


@pytest.mark.skipif(sys.platform != "linux", reason="names that are not UTF-8")
def test_other_encodings(picture: Path, tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xff.png"
    os.rename(picture, name)
    command = [sys.executable, "-m", "napari_dala.cli"]
    narrow = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    for arguments, code in ((["info", name], 0), (["models", "list"], 0), (["info", name + "\u2192".encode()], 2)):
        done = subprocess.run([*command, *arguments], env=narrow, capture_output=True, check=False)
        assert (done.returncode, b"Traceback" in done.stderr) == (code, False)
    done = subprocess.run([*command, "info", name + b"x"], capture_output=True, check=False)
    assert rb"caf\xff.pngx: " in done.stderr
    assert done.returncode == 2


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_says_how_to_go_on(picture: Path, tmp_path: Path, number: int, code: int) -> None:
    halt = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's `&` has it ignored
        "import time, napari_dala.model.bundle as bundle; from napari_dala.cli import main\n"
        "def wait(*_): print('waiting', flush=True); time.sleep(60)\n"
        "bundle.load_model = wait; main()"
    )
    command = [sys.executable, "-c", halt, "analyze", str(picture), "--out", str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.2)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert err == "dala: stopped: what is analysed is kept; the same command goes on from there\n"


def test_no_home_is_one_line(dala: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DALA_WORKSPACE", "~nobody-of-this-name/work")
    code, _, err = dala("models", "list")
    assert code == 2
    assert err == "dala: your home folder is not known: set DALA_WORKSPACE to a folder that you may write to\n"
