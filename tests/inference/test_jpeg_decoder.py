"""The decoding that a GPU would do, by torchvision on the processor: the same code, the same rectangles."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_dala import open_slide
from napari_dala.analysis.engine import analyze
from napari_dala.inference.jpeg_decoder import DeviceDecoder, device_decoder
from napari_dala.inference.predictor import Predictor
from napari_dala.inference.sampler import Sampler
from napari_dala.model.bundle import untrained
from napari_dala.slide.tiles import TileGrid

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    """The small untrained model."""
    return Predictor(untrained(), precision="fp32")


@pytest.mark.parametrize(
    "box", [(300, 500, 900, 700), (256, 512, 512, 256), (-100, -50, 400, 300), (-900, 0, 300, 300)]
)
def test_a_rectangle_is_the_one_that_the_slide_reads(mosaic: Path, box: tuple[int, int, int, int]) -> None:
    with open_slide(mosaic) as slide:
        decoder = device_decoder(slide, 0, CPU)
        assert decoder is not None
        found = decoder.read(box).numpy().astype(int)
        known = slide.read(*box)
    assert found.shape == known.shape
    assert np.abs(found - known).max() <= 2


def test_what_overhangs_at_the_far_corner_is_background(mosaic: Path) -> None:
    with open_slide(mosaic) as slide:
        width, height = slide.dimensions
        decoder = device_decoder(slide, 0, CPU)
        assert decoder is not None
        found = decoder.read((width - 10, height - 20, 30, 40)).numpy()
        assert (found[20:] == 255).all()
        assert (found[:, 10:] == 255).all()
        assert (found[:20, :10] == slide.read(width - 10, height - 20, 10, 20)).all()


def test_slides_of_other_kinds_have_no_decoder() -> None:
    slide = open_slide(np.zeros((300, 300, 3), np.uint8), mpp=0.5)
    assert device_decoder(slide, 0, CPU) is None


@pytest.mark.parametrize("wrong", ["colours", "shape", "failure"])
def test_a_device_that_decodes_otherwise_is_not_trusted(
    mosaic: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    def decode(self: DeviceDecoder, places: list[tuple[int, int]]) -> list[torch.Tensor]:
        if wrong == "failure":
            raise RuntimeError("nvjpeg is not there")
        tiles = [torch.tensor(self._tiles.decode(*place)) for place in places]
        return [tile.flip(2) + 40 if wrong == "colours" else tile[:-1] for tile in tiles]

    monkeypatch.setattr(DeviceDecoder, "decode", decode)
    with open_slide(mosaic) as slide:
        assert device_decoder(slide, 0, CPU) is None


def test_a_device_that_the_cores_outrun_does_not_decode(mosaic: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_slide(mosaic) as slide:
        assert device_decoder(slide, 0, CPU, readers=1000) is None
        decode = DeviceDecoder.decode
        monkeypatch.setattr(DeviceDecoder, "decode", lambda self, places: decode(self, places[:4]))  # in no time
        assert device_decoder(slide, 0, CPU, readers=1) is not None


def test_damage_is_left_to_the_slide_to_report(mosaic: Path) -> None:
    with open_slide(mosaic) as slide:
        grid = TileGrid.over(slide, 224, 0.4)
        sampler = Sampler(slide, grid, CPU, decode_on_device=True)
        whole = sampler.picture(1, 1, 2, 2)
        assert (whole == Sampler(slide, grid, CPU).picture(1, 1, 2, 2)).float().mean() > 0.99
        decoder = sampler.decoder
        assert decoder is not None
        decoder._tiles = replace(decoder._tiles, counts=decoder._tiles.counts - 2)
        with pytest.raises(ValueError, match="breaks off"):
            decoder.read((300, 500, 900, 700))
        assert (sampler.picture(1, 1, 2, 2) == Sampler(slide, grid, CPU).picture(1, 1, 2, 2)).all()


def test_an_analysis_finds_the_same(mosaic: Path, tmp_path: Path, predictor: Predictor) -> None:
    with open_slide(mosaic) as slide:
        plain = analyze(slide, predictor, tmp_path / "cores")
        decoded = analyze(slide, predictor, tmp_path / "device", decode_on_device=True)
    assert plain.analysed.sum() > 10
    assert (plain.status == decoded.status).all()
    assert np.nanmax(np.abs(plain.probability - decoded.probability)) < 5e-3
