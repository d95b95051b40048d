"""`torch.compile` on the processor: the same results, and a network that runs where it cannot be had."""

import shutil
from typing import Any

import numpy as np
import pytest
from skimage.data import immunohistochemistry

from napari_dala.analysis.predictor import Predictor
from napari_dala.analysis.streams import Streams
from napari_dala.model.bundle import load_model

# isort: split
import torch

TILES = torch.from_numpy(np.stack([immunohistochemistry()[at : at + 224, at : at + 224] for at in (0, 90, 180)]))


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
def test_a_compiled_network_finds_the_same() -> None:
    bundle = load_model("untrained")
    plain, compiled = Predictor(bundle, precision="fp32"), Predictor(bundle, precision="fp32", compiled=True)
    assert compiled.compiled
    assert not plain.compiled
    with Streams(compiled.device, compiled) as streams:  # in threads, as an analysis runs it
        _, found = [*streams.submit(None, TILES), *streams.rest()][0]
    known = plain(TILES)
    assert known.probability.std() > 0
    assert np.abs(found.probability - known.probability).max() < 1e-4
    assert np.abs(found.cam - known.cam).max() < 1e-3 * np.abs(known.cam).max()


def test_without_a_compiler_it_runs_uncompiled(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_compiler(*_: Any, **__: Any) -> Any:
        def run(_inputs: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no working C++ compiler\nwas found")

        return run

    monkeypatch.setattr(torch, "compile", no_compiler)
    predictor = Predictor(load_model("untrained"), compiled=True)
    assert not predictor.compiled
    assert "runs uncompiled: no working C++ compiler" in caplog.text
    assert predictor(TILES).probability.shape == (3, 2)
