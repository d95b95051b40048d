from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import immunohistochemistry
from skimage.io import imsave
from torch import Tensor
from torchvision.transforms import v2

from napari_dala.datasets.images import ImageDataset, LabelledImage
from napari_dala.errors import DatasetError
from napari_dala.training.photographs.augment import (
    RandomDihedral,
    RandomSquare,
    StainJitter,
    for_evaluation,
    for_training,
    read_photograph,
)
from napari_dala.training.photographs.squares import image_sizes

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def tissue() -> Tensor:
    return torch.from_numpy(immunohistochemistry().copy()).permute(2, 0, 1)[:, :230, :350]


def test_photographs_of_any_kind_become_rgb(tmp_path: Path) -> None:
    colour = immunohistochemistry()[:40, :60]
    imsave(tmp_path / "colour.png", colour)
    assert torch.equal(read_photograph(tmp_path / "colour.png"), torch.from_numpy(colour.copy()).permute(2, 0, 1))
    (tmp_path / "torn.png").write_bytes((tmp_path / "colour.png").read_bytes()[:800])
    (tmp_path / "text.png").write_text("no image")
    for name in ("torn.png", "text.png", "absent.png"):
        with pytest.raises(DatasetError, match=name):
            read_photograph(tmp_path / name)


def test_training_sees_what_analysis_sees(tmp_path: Path) -> None:
    clear = np.zeros((20, 30, 4), np.uint8)
    imsave(tmp_path / "clear.png", clear, check_contrast=False)
    assert read_photograph(tmp_path / "clear.png").unique().tolist() == [255], "transparency lies over white"
    for name, pixels in (("deep.png", np.uint16), ("deep.tif", np.uint16), ("float.tif", np.float32)):
        imsave(tmp_path / name, np.zeros((20, 30), pixels), check_contrast=False)
        with pytest.raises(DatasetError, match=name):
            read_photograph(tmp_path / name)


def test_a_picture_larger_than_memory_allows_is_one_line(tmp_path: Path) -> None:
    Image.new("1", (20_000, 13_000)).save(tmp_path / "large.png")
    image = LabelledImage(tmp_path / "large.png", 0, "p", "p")
    for read in (lambda: read_photograph(image.path), lambda: image_sizes(ImageDataset("x", ("a", "b"), (image,)))):
        with pytest.raises(DatasetError, match=r"large\.png: a picture of 20000 x 13000 px is too large") as caught:
            read()
        assert "\n" not in str(caught.value)


def test_sizes_above_pillows_limit_are_known(tmp_path: Path) -> None:
    Image.new("1", (14_000, 13_000)).save(tmp_path / "large.png")  # as drawn in cases/png-larger-than-179-megapixels
    image = LabelledImage(tmp_path / "large.png", 0, "p", "p")
    assert image_sizes(ImageDataset("x", ("a", "b"), (image,))) == [(14_000, 13_000)]


def test_a_seed_fixes_a_tile_and_nothing_else_does(tissue: Tensor) -> None:
    augment = v2.Compose([RandomSquare(230, 64), for_training("mild")])
    tiles = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        tiles.append(augment(tissue))
    assert tiles[0].shape == (3, 64, 64)
    assert tiles[0].dtype == torch.uint8
    assert torch.equal(tiles[0], tiles[1])
    assert not torch.equal(tiles[0], tiles[2])


def test_random_squares_lie_inside_and_reach_every_edge() -> None:
    rows = torch.arange(46, dtype=torch.uint8)[:, None].expand(46, 70)
    columns = torch.arange(70, dtype=torch.uint8)[None].expand(46, 70)
    image = torch.stack([rows, columns, columns])
    torch.manual_seed(0)
    tiles = torch.stack([RandomSquare(46, 46)(image) for _ in range(200)])
    assert tiles[:, 0].min() == 0
    assert tiles[:, 0].max() == 45
    assert tiles[:, 1].min() == 0
    assert tiles[:, 1].max() == 69
    sides = tiles[:, 0].flatten(1).amax(1).int() - tiles[:, 0].flatten(1).amin(1).int() + 1
    assert sides.min() >= round(0.8 * 46) - 1
    assert sides.max() == 46


def test_the_eight_views() -> None:
    image = torch.arange(27, dtype=torch.uint8).reshape(3, 3, 3)
    torch.manual_seed(0)
    views = {tuple(RandomDihedral()(image).flatten().tolist()) for _ in range(200)}
    assert len(views) == 8


def test_stains_vary_and_nothing_changes_at_strength_zero(tissue: Tensor) -> None:
    assert (StainJitter(0.0, 0.0)(tissue).int() - tissue.int()).abs().max() <= 1
    torch.manual_seed(3)
    changed = StainJitter(0.15)(tissue)
    difference = (changed.int() - tissue.int()).abs().float().mean()
    assert 2 < difference < 60
    assert changed.dtype == torch.uint8


def test_stain_jitter_agrees_with_scikit_image(tissue: Tensor) -> None:
    from skimage.color import hed_from_rgb, rgb_from_hed

    torch.manual_seed(5)
    scale, shift = ((torch.rand(2, 3) * 2 - 1) * 0.15).numpy()
    density = -np.log10((tissue.permute(1, 2, 0).numpy() + 1.0) / 256)
    stains = (density @ hed_from_rgb) * (1 + scale) + shift / 2
    expected = (np.power(10, -(stains @ rgb_from_hed)) * 256 - 1).round().clip(0, 255)
    torch.manual_seed(5)
    found = StainJitter(0.15)(tissue).permute(1, 2, 0).numpy()
    assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize(
    ("size", "square", "count"),
    [((460, 700), 460, 2), ((460, 460), 460, 1), ((460, 470), 460, 1), ((460, 700), 224, 6), ((192, 224), 224, 1)],
)
def test_evaluation_covers_the_photograph(size: tuple[int, int], square: int, count: int) -> None:
    height, width = size
    image = (torch.arange(width) * 255 / (width - 1)).round().to(torch.uint8).expand(3, height, width)
    tiles = for_evaluation(image, square, 64)
    assert tiles.shape == (count, 3, 64, 64)
    assert torch.equal(tiles, for_evaluation(image, square, 64))
    if count > 1:
        assert tiles.min() < 4
        assert tiles.max() > 251


def test_what_is_smaller_than_a_tile_keeps_its_scale() -> None:
    image = torch.randint(0, 255, (3, 48, 60), dtype=torch.uint8)
    (tile,) = for_evaluation(image, 64, 64)
    assert torch.equal(tile[:, 8:56, 2:62], image)
    assert torch.equal(tile[:, 7, 2:62], image[:, 1])  # its edge, mirrored


def test_stains_are_scaled_apart_and_glass_stays_clear(tissue: Tensor) -> None:
    torch.manual_seed(1)
    augment = for_training("stains")
    glass = torch.full((3, 8, 8), 255, dtype=torch.uint8)
    assert all((augment(glass) >= 254).all() for _ in range(20))
    density = [-torch.log10((augment(tissue).float() + 1) / 256).mean((1, 2)) for _ in range(40)]
    ratio = torch.stack([one[0] / one[2] for one in density])  # red and blue: which stain, not how much
    assert ratio.max() / ratio.min() > 1.2
