"""Photographs with an ICC profile: in sRGB for training and evaluation, unless the data set says otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from skimage.data import immunohistochemistry

from napari_dala.datasets.images import ImageDataset, LabelledImage, joined_datasets
from napari_dala.datasets.splits import Split
from napari_dala.training.photographs.examples import Photographs
from napari_dala.training.photographs.run_folder import run_config
from napari_dala.training.photographs.squares import FixedSquares, Squares
from napari_dala.training.settings import TrainSettings
from tests.icc import SWAPPED, by_littlecms

if TYPE_CHECKING:
    from pathlib import Path


def test_training_and_evaluation_read_photographs_in_srgb(tmp_path: Path) -> None:
    tissue = np.ascontiguousarray(immunohistochemistry()[:64, :64])
    images = []
    for number in range(2):
        path = tmp_path / f"{number}.png"
        Image.fromarray(tissue).save(path, icc_profile=SWAPPED)
        images.append(LabelledImage(path, number, f"patient {number}", f"slide {number}", mpp=0.5))
    dataset = ImageDataset("two", ("a", "b"), tuple(images))
    squares = Squares(64, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 0.5)
    configs = []
    for one, expected in ((dataset, by_littlecms(tissue, SWAPPED)), (dataset.without_profiles(), tissue)):
        tiles, _ = FixedSquares(one, [0], squares)[0]
        np.testing.assert_array_equal(tiles[0].permute(1, 2, 0).numpy(), expected)
        pixels = Photographs(one, np.arange(2), np.arange(0), squares, TrainSettings())._photograph(0)
        np.testing.assert_array_equal(pixels.permute(1, 2, 0).numpy(), expected)
        split = Split(np.array([0]), np.array([1]))
        configs.append(run_config(one, split, TrainSettings(), "dalaresnet50")["images"])
    assert configs[0] != configs[1], "a run of the one is not resumed as the other"
    judged = [run_config(dataset, split, TrainSettings(), name).get("judges_by") for name in ("vit_b_16", "swin_t")]
    assert judged == ["patch tokens", None], "a run of before is not resumed as the same network"
    twice = joined_datasets([dataset.without_profiles(), dataset.without_profiles()])
    assert not any(image.icc_profile for image in twice.images)
