"""Damaged and hostile files: what `benchmarks.fuzz` does by the thousand, here 200 of each kind.

Each kind runs in a child process of its own, which a file may end, stop or fill.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

KINDS = ("tiff", "svs", "dicom", "bundle", "geojson", "store", "job")
ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("kind", KINDS)
def test_no_traceback_no_hang_and_nothing_silently_other(kind: str) -> None:
    command = [sys.executable, "-m", "benchmarks.fuzz", "--mutations", "200", "--seed", "21", "--kind", kind]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-1000:]
    counted = done.stdout.splitlines()[-1]
    if "skipped" in counted:
        pytest.skip(done.stdout.splitlines()[0])
    assert "refused" in counted, "what is opened was never damaged"


FAULTS = {
    "traceback": "raise RecursionError('deep')",
    "hang": "__import__('time').sleep(60)",
    "crash": "os._exit(139)",
    "memory": "bytearray(300 << 20)",
    "different": "return 'other numbers'",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_counted(fault: str, tmp_path: Path) -> None:
    code = f"""
import os, sys
from benchmarks import fuzz
fuzz.MOST_MB, fuzz.MOST_SECONDS = (200 if {fault!r} == "memory" else 2000), 2
def read(folder):
    if (folder / "a.json").read_bytes() != b"[0]": {FAULTS[fault]}
    return "numbers"
fuzz.KINDS["job"] = fuzz.Kind(lambda folder: (folder / "a.json").write_text("[0]"), "*", read)
fuzz.COMMAND = (sys.executable, __file__)
fuzz.main()
"""
    (tmp_path / "faulty.py").write_text(code)
    command = [sys.executable, tmp_path / "faulty.py", "--kind", "job", "--mutations", "2"]
    done = subprocess.run(command, cwd=ROOT, env=_with_root(), capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr[-1000:]
    assert f"job 0: {fault}" in done.stdout
    assert f" {fault}" in done.stdout.splitlines()[-1]


def _with_root() -> dict[str, str]:
    path = os.pathsep.join(each for each in (str(ROOT), os.environ.get("PYTHONPATH")) if each)
    return {**os.environ, "PYTHONPATH": path}
