"""The picture of the folders is that of the code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_picture_is_drawn_from_todays_imports(tmp_path: Path) -> None:
    drawn = tmp_path / "architecture.svg"
    script = ROOT / "scripts" / "draw_architecture.py"
    result = subprocess.run([sys.executable, script, drawn], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    kept = ROOT / "docs" / "images" / "architecture.svg"
    assert drawn.read_text(encoding="utf-8") == kept.read_text(encoding="utf-8"), f"run python {script.name}"
