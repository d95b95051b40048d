from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from napari_dala.evaluation.cases.left_out import LeftOut


@pytest.fixture(scope="session")
def left_out(noise_photographs: Path, fold_models: tuple[Path, Path]) -> LeftOut:
    """What two random networks make of the patients that each left out."""
    from napari_dala.datasets.folders import load_dataset
    from napari_dala.evaluation.cases.left_out import judge_left_out
    from napari_dala.model.bundle import load_bundle

    bundles = [load_bundle(path) for path in fold_models]
    return judge_left_out(bundles, load_dataset("folder", noise_photographs), device="cpu", precision="fp32")
