"""What an NVIDIA GPU runs: its own parts, as far as a processor can tell, and the same results on one that is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from skimage.data import immunohistochemistry
from torch import Tensor
from torch.nn import functional

from napari_dala.analysis import reading
from napari_dala.analysis.engine import analyze
from napari_dala.analysis.reading import reader_count
from napari_dala.inference import cuda_graph
from napari_dala.inference.cuda_graph import CapturedFunction, captured, to_host
from napari_dala.inference.cudnn_trunk import CudnnTrunk, cudnn_trunk
from napari_dala.inference.predictor import Predictor, fold_batch_norm
from napari_dala.inference.streams import Streams
from napari_dala.model.bundle import load_model
from napari_dala.slide import open_slide
from napari_dala.slide.teaching.slide import teaching_slide

if TYPE_CHECKING:
    from pathlib import Path

CPU = torch.device("cpu")
TILES = np.stack([immunohistochemistry()[at : at + 224, at : at + 224] for at in (0, 90, 180, 270)])
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")


def test_on_the_processor_a_function_is_called_as_it_is() -> None:
    def double(inputs: Tensor) -> Tensor:
        return 2 * inputs

    assert captured(double, CPU) is double
    first, second = to_host((torch.ones(2), None))
    assert first is not None
    assert first.tolist() == [1, 1]
    assert second is None


def test_what_cannot_be_captured_is_run_as_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    monkeypatch.setattr(cuda_graph, "_Graph", fail)
    function = CapturedFunction(lambda inputs: (inputs + 1, None))
    for _ in range(2):
        found, nothing = function(torch.zeros(3))
        assert found.tolist() == [1, 1, 1]
        assert nothing is None
    assert caplog.text.count("without a CUDA graph: operation not permitted when stream is capturing") == 1


def test_a_graph_is_captured_once_for_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a GPU would capture is called here; that the device is done with a graph is waited for before it goes."""
    events: list[str] = []

    class Graph:
        def __init__(self, run: Any, example: Tensor) -> None:
            events.append(f"capture {len(example)}")
            self.inputs, self._run = example.clone(), run

        def __call__(self, inputs: Tensor) -> Tensor:
            self.inputs.copy_(inputs)
            found: Tensor = self._run(self.inputs)
            return found

        def wait(self) -> None:
            events.append(f"wait {len(self.inputs)}")

    monkeypatch.setattr(cuda_graph, "_Graph", Graph)
    double = CapturedFunction(lambda inputs: 2 * inputs)
    assert [double(torch.full((size,), 1.0 + at)).tolist() for at, size in enumerate((2, 2, 1, 1))] == [
        [2, 2],
        [4, 4],
        [6],
        [8],
    ]
    assert events == ["capture 2", "wait 2", "capture 1"]


def test_a_trunk_of_fused_operators_is_wired_like_the_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operators, which only a GPU has, are put together from plain ones."""

    def relu(inputs: Tensor, weight: Tensor, bias: Tensor, *where: Any) -> Tensor:
        return functional.relu(functional.conv2d(inputs, weight, bias, *where))

    def add_relu(inputs: Tensor, weight: Tensor, other: Tensor, scale: float, bias: Tensor, *where: Any) -> Tensor:
        return functional.relu(functional.conv2d(inputs, weight, bias, *where) + scale * other)

    bundle = load_model("untrained")
    trunk = fold_batch_norm(bundle.network.trunk)
    inputs = bundle.normalize(torch.from_numpy(TILES[:2]))
    if not torch.cuda.is_available():
        assert cudnn_trunk(trunk, inputs) is None
    monkeypatch.setattr(torch, "cudnn_convolution_relu", relu)
    monkeypatch.setattr(torch, "cudnn_convolution_add_relu", add_relu)
    fused = cudnn_trunk(trunk, inputs)
    assert isinstance(fused, CudnnTrunk)
    with torch.inference_mode():
        assert torch.allclose(fused(inputs), trunk(inputs), atol=1e-5)
    monkeypatch.setattr(torch, "cudnn_convolution_add_relu", lambda inputs, *rest: 2 * add_relu(inputs, *rest))
    assert cudnn_trunk(trunk, inputs) is None, "it gives other maps"


def test_few_readers_beside_a_processor_and_most_cores_beside_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, gpus, beside_cpu, beside_gpu in (
        (2, 1, 1, 1),
        (8, 1, 1, 5),
        (16, 1, 2, 13),
        (64, 1, 8, 16),
        (32, 4, 4, 5),
        (2, 4, 1, 1),
    ):
        monkeypatch.setattr(reading, "usable_cores", lambda cores=cores: cores)
        monkeypatch.setattr(torch.cuda, "device_count", lambda gpus=gpus: gpus)
        assert (reader_count(CPU), reader_count(torch.device("cuda"))) == (beside_cpu, beside_gpu)


@on_gpu
@pytest.mark.parametrize(("precision", "far", "of_largest"), [("fp32", 5e-3, 0.03), ("bf16", 2e-2, 0.06)])
def test_a_gpu_finds_what_the_processor_finds(precision: str, far: float, of_largest: float) -> None:
    bundle = load_model("default")
    known = Predictor(bundle, "cpu", "fp32")(TILES)
    assert np.abs(np.diff(known.probability[:, 0])).min() > far, "one tile's results cannot be taken for another's"
    predictor = Predictor(bundle, "cuda", precision)
    with Streams(predictor.device, predictor) as streams:  # in two threads at a time, as an analysis runs it
        batches = [torch.from_numpy(np.roll(TILES, at, 0)) for at in range(8)]
        found = [each for at, one in enumerate(batches) for each in streams.submit(at, one)] + list(streams.rest())
    assert isinstance(predictor._compute, CapturedFunction)
    assert not predictor._compute.fails
    assert len(found) == 8
    for at, prediction in found:
        assert np.abs(np.roll(prediction.probability, -at, 0) - known.probability).max() < far
        for name in ("cam", "features", "layer4", "unfamiliarity"):
            expected = getattr(known, name).astype(np.float32)
            off = np.roll(getattr(prediction, name).astype(np.float32), -at, 0) - expected
            assert np.abs(off).max() < of_largest * np.abs(expected).max(), name


@on_gpu
@pytest.mark.parametrize("decode_on_device", [False, True])
def test_an_analysis_on_a_gpu_is_that_of_the_processor(tmp_path: Path, decode_on_device: bool) -> None:
    bundle = load_model("default")
    path = tmp_path / "slide.tiff"
    teaching_slide(path, 2048)
    with open_slide(path) as slide:
        known = analyze(slide, bundle, tmp_path / "cpu", device="cpu", precision="fp32")
        found = analyze(
            slide, bundle, tmp_path / "gpu", device="cuda", precision="fp32", decode_on_device=decode_on_device
        )
    assert known.analysed.sum() > 4
    assert (found.status == known.status).all()
    assert np.nanmax(np.abs(found.probability - known.probability)) < (0.1 if decode_on_device else 0.02)
