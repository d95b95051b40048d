"""JSON from outside: what is let through, and each fault one line of the error that was asked for."""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from napari_dala.errors import DalaError, JobError, shown
from napari_dala.validation import MPP_LIMITS, parse_json, plausible_mpp, read_json

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'\xef\xbb\xbf{"a": [1, -2.5e3, true, null, "\xc3\xa4\\u00e4"]}', {"a": [1, -2500.0, True, None, "ää"]}),
        (b'"\\ud83d\\ude00"', "\N{GRINNING FACE}"),
        (b"9223372036854775807", 2**63 - 1),
        (b"123456789012345678901", 123456789012345678901.0),
        (b"[" * 60 + b"]" * 60, None),
    ],
)
def test_what_is_right_is_read(text: bytes, value: Any) -> None:
    found = parse_json(text, "it", DalaError)
    assert value is None or (found == value and type(found) is type(value))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "Expecting value"),
        (b'{"a": 1', "Expecting ','"),
        (b"\xff\xfe\x00", "can't decode byte"),
        (b"9" * 400, "a number of 400 digits"),
        (b"-" + b"9" * 9000, "a number of 9001 digits"),
        (b"[NaN]", "NaN is not a number that JSON knows"),
        (b"[-Infinity]", "-Infinity is not a number"),
        (b"1e999", "1e999 is not a number"),
        (b"[" * 100 + b"]" * 100, "nested more than 64 deep"),
        (b"[" * 200_000, "nested too deep"),
        (b'{"a": ' * 200_000, "nested too deep"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "“c” is there twice"),
        (b'{"name": "\\ud800"}', "half a character"),
        (b'{"a\x1b[2J": 1}', "Invalid control character"),
    ],
)
def test_each_fault_is_one_line(text: bytes, reason: str) -> None:
    with pytest.raises(JobError) as error:
        parse_json(text, "job.json", JobError)
    line = str(error.value)
    assert line.startswith("job.json: damaged, not JSON (")
    assert reason in line
    assert "\n" not in line
    assert len(line) < 300


def test_too_many_values_are_refused_before_they_are_made() -> None:
    with pytest.raises(DalaError, match="more than 10,000,000 values"):
        parse_json("[" + "{}," * 5_000_001 + "{}]", "it", DalaError)


def test_measurements_of_other_programs_may_be_no_numbers() -> None:
    found = parse_json(
        f'{{"a": NaN, "b": Infinity, "c": 1234567890123456789012e999, "d": {10**400}}}', "it", DalaError, special=True
    )
    assert found["a"] != found["a"]
    assert found["b"] == found["c"] == found["d"] == float("inf")


def test_files_that_are_none(tmp_path: Path) -> None:
    for path, reason in (
        (tmp_path, "cannot be read"),
        (tmp_path / "gone", "No such file"),
        (tmp_path / "a\0b", "null"),
    ):
        with pytest.raises(DalaError, match=reason):
            read_json(path, DalaError)
    with (tmp_path / "large").open("wb") as file:
        file.truncate(200 << 20)
    with pytest.raises(DalaError, match="larger than 128 MB"):
        read_json(tmp_path / "large", DalaError)


@pytest.mark.skipif(sys.platform == "win32", reason="pipes in the file system")
def test_a_pipe_does_not_hold_the_program(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "state.json")
    ended = []

    def read() -> None:
        with pytest.raises(DalaError, match="not an ordinary file"):
            read_json(tmp_path / "state.json", DalaError)
        ended.append(True)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(20)
    assert ended


@pytest.mark.parametrize("mpp", [0.00025, 1e-300, 0.0, -0.5, 20.1, 250.0, float("nan"), float("inf")])
def test_resolutions_that_no_microscope_has(mpp: float) -> None:
    with pytest.raises(ValueError, match=r"give micrometres per pixel, 0\.02 to 20"):
        plausible_mpp(mpp)
    for limit in MPP_LIMITS:
        assert plausible_mpp(limit) == limit


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("a[red]\x1b[2J\nb.png", r"a[red]\x1b[2J\x0ab.png"),
        ("caf\udcff", r"caf\xff"),
        ("\x9b31m\x7f", r"\x9b31m\x7f"),
        ("invoice\u202egpj.exe", r"invoice\u202egpj.exe"),
        ("Zoë 癌\u00a0β.svs", "Zoë 癌\u00a0β.svs"),
        (r"C:\slides\1.svs", r"C:\slides\1.svs"),
    ],
)
def test_what_steers_a_terminal_is_shown_escaped(text: str, seen: str) -> None:
    assert shown(text) == str(DalaError(text)) == seen
