"""`torch.compile` on the processor: the same results, and a network that runs where it cannot be had."""

import shutil
from typing import Any

import numpy as np
import pytest
import torch
from skimage.data import immunohistochemistry
from torch import nn

from napari_dala.inference.predictor import Predictor, compiled_trunk, fold_batch_norm
from napari_dala.inference.streams import Streams
from napari_dala.model.bundle import load_model

TILES = torch.from_numpy(np.stack([immunohistochemistry()[at : at + 224, at : at + 224] for at in (0, 90, 180)]))


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
def test_a_compiled_trunk_finds_the_same_in_the_threads_of_an_analysis() -> None:
    """Its stem and one block: the whole is of the same parts, and takes a minute to compile."""
    bundle = load_model("untrained")
    parts = list(fold_batch_norm(bundle.network.trunk).children())
    few = nn.Sequential(*parts[:4], next(parts[4].children())).to(memory_format=torch.channels_last)
    inputs = bundle.normalize(TILES)
    compiled = compiled_trunk(few, inputs)
    assert compiled is not None
    with torch.inference_mode():
        known = few(inputs)

        def run(batch: torch.Tensor) -> torch.Tensor:
            with torch.inference_mode():
                return compiled(batch)

        with Streams(inputs.device, run) as streams:
            _, found = [*streams.submit(None, inputs), *streams.rest()][0]
    assert known.std() > 0
    assert torch.allclose(found, known, atol=1e-4)


def test_a_compiled_trunk_is_the_one_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[nn.Module] = []

    def compile_it(trunk: nn.Module, **_: Any) -> nn.Module:
        made.append(nn.Sequential(trunk))
        return made[0]

    monkeypatch.setattr(torch, "compile", compile_it)
    predictor = Predictor(load_model("untrained"), precision="fp32", compiled=True)
    assert predictor.compiled
    assert predictor.trunk is made[0]
    known = Predictor(load_model("untrained"), precision="fp32")
    assert not known.compiled
    assert np.abs(predictor(TILES).probability - known(TILES).probability).max() < 1e-4


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
