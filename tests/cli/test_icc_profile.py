"""ICC profiles on the command line: applied unless asked not to, in what is computed, kept and said."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

from napari_dala.results.analysis import Analysis
from napari_dala.slide import open_slide
from napari_dala.slide.profile import ColourProfile
from tests.icc import SWAPPED

if TYPE_CHECKING:
    from pathlib import Path

DIGEST = ColourProfile(SWAPPED).digest


@pytest.fixture
def swapped(tmp_path: Path, drawn_slide: Path) -> Path:
    """A drawn slide of a few tiles whose scanner calls blue what sRGB calls red."""
    with open_slide(drawn_slide) as slide:
        pixels = slide.read(200, 200, 500, 500)
    how: dict[str, Any] = {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}
    path = tmp_path / "swapped.tif"
    tifffile.imwrite(
        path, pixels, tile=(64, 64), photometric="rgb", compression="zlib", metadata=None, iccprofile=SWAPPED, **how
    )
    return path


def test_results_with_and_without_a_profile_are_kept_apart(run: Any, swapped: Path, tmp_path: Path) -> None:
    options = ("analyze", swapped, "--out", tmp_path / "out", "--model", "untrained")
    found, keys = [], []
    for option, said in (("--no-icc-profile", "not applied"), ("--icc-profile", "applied")):
        assert run(*options, option)[0] == 0
        (folder,) = (tmp_path / "out").iterdir()
        record = json.loads((folder / "run.json").read_text())
        assert record["slide"]["icc_profile"] == f"{DIGEST} {said}"
        assert record["settings"]["tiles_per_s"] > 0, "computed anew"
        assert f"{DIGEST} {said}" in (folder / "report.html").read_text()
        analysis = Analysis.open(folder)
        assert analysis.slide["icc_profile"] == record["slide"]["icc_profile"]
        found.append(analysis.store.read("features").astype(float))
        keys.append(analysis.store.setting.key)
        assert run(*options, option)[0] == 0
        assert json.loads((folder / "run.json").read_text())["settings"]["tiles_per_s"] == 0, "no tile is done twice"
    assert len(set(keys)) == 2
    assert np.abs(found[0] - found[1]).max() > 1e-3
    assert {path.name for path in (folder / "analysis.zarr").iterdir() if path.is_dir()} == set(keys)


def test_info_and_explain_follow_the_profile(run: Any, swapped: Path, tmp_path: Path) -> None:
    assert json.loads(run("info", swapped)[1])["icc_profile"] == f"{DIGEST} applied"
    numbers = []
    for option in ("--icc-profile", "--no-icc-profile"):
        code, out, _ = run(
            "explain", swapped, "--out", tmp_path / "explained", "--model", "untrained", "--whole", option
        )
        assert code == 0
        numbers.append(json.loads(out)["classes"])
    assert numbers[0] != numbers[1]
