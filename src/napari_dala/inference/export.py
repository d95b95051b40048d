"""A model written for programs that know nothing of this one, and compared with itself as it lies in its file.

`docs/qupath.md` says what other programs do with each form.
"""

from __future__ import annotations

import copy
import json
import warnings
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_dala.errors import BundleError
from napari_dala.files import replacing_folder, write_json, write_text
from napari_dala.inference.predictor import fold_batch_norm
from napari_dala.model.dalaresnet import DALAResNet50
from napari_dala.model.export.formats import (
    CONFIG,
    INPUT,
    OUTPUTS,
    PROPERTIES,
    README,
    ExportFormat,
    properties,
    wsinfer_config,
)
from napari_dala.model.export.readme import readme
from napari_dala.model.gradcam import head_grad_cam

if TYPE_CHECKING:
    from pathlib import Path

    from napari_dala.model.bundle import ModelBundle

TOLERANCE = 1e-4
"""Largest difference of a probability between an exported file and the model."""
_LOGIT_TOLERANCE = 1e-3
_LEAST = 1e-30  # float32's logarithm of less is none
_ONNX_NEEDS = ("onnxscript", "onnxruntime")


class ExportedNetwork(nn.Module):
    """A bundle's network from pixels on; ResNet's batch norm is folded.

    Parameters
    ----------
    bundle
        Copied.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, bundle: ModelBundle) -> None:
        super().__init__()
        self.network = copy.deepcopy(bundle.network)
        if isinstance(bundle.network, DALAResNet50):
            self.network.add_module("trunk", fold_batch_norm(bundle.network.trunk))
        self.temperature = bundle.card.temperature
        self.register_buffer("mean", torch.tensor(bundle.card.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(bundle.card.std).view(1, 3, 1, 1))
        self.eval()

    def normalized(self, image: Tensor) -> Tensor:
        """Return the network's input for RGB (n, 3, h, w), float32 from 0 to 1."""
        return (image - self.mean) / self.std

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits over the temperature, (n, classes), for RGB (n, 3, h, w), float32 from 0 to 1."""
        logits: Tensor = self.network(self.normalized(image))
        return logits / self.temperature


class ExportedNetworkWithCams(ExportedNetwork):
    """The same that gives the probabilities (n, classes) and the Grad-CAM maps (n, classes, h, w) of every class."""

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]  # two outputs
        """Return both, the maps in units of the logit, for RGB (n, 3, h, w), float32 from 0 to 1."""
        logits, cams, _ = head_grad_cam(self.network, self.network.features(self.normalized(image)))
        return torch.softmax(logits / self.temperature, dim=1), cams


@torch.no_grad()
def export_model(bundle: ModelBundle, to: ExportFormat, folder: Path) -> float:
    """Write a model into a new folder, with a page in plain words beside it, whole or not at all.

    Parameters
    ----------
    bundle
        A trained model.
    to
        The form; `ExportFormat` says what each gives.
    folder
        Is made; an empty one may be there.

    Returns
    -------
    float
        The largest difference of a probability between what lies in the folder and the model.

    Raises
    ------
    BundleError
        If the model is untrained, the folder is not empty or cannot be written, what the form needs is not installed,
        the network has a part that the form cannot say, or the file's probabilities are not the model's.
    """
    card = bundle.card
    if card.warning:
        state = "only its trunk has learned" if card.trunk_only else "its weights are random"
        raise BundleError(
            f"{card.name}: this model is untrained, {state}, and other programs would not say so; "
            "let it learn first, then export what it has learned"
        )
    for name in _ONNX_NEEDS if to == ExportFormat.ONNX else ():
        if find_spec(name) is None:
            raise BundleError(f"ONNX: {name} is not installed: pip install 'napari-dala[export]'")
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise BundleError(f"{folder}: it is there already and not empty; name a new folder for the export")
        with replacing_folder(folder) as temporary:
            difference = _write_network(bundle, to, temporary / to.file_name)
            if to == ExportFormat.WSINFER:
                write_json(temporary / CONFIG, wsinfer_config(card))
            write_text(temporary / README, readme(card, bundle.hash, to))
        return difference
    except OSError as error:
        raise BundleError(f"{folder}: the model cannot be written there ({error.strerror or error})") from error


def _write_network(bundle: ModelBundle, to: ExportFormat, file: Path) -> float:
    """Write the network; return what `_checked` finds."""
    about = properties(bundle.card, bundle.hash, to)
    example = _check_tiles(bundle.card.tile_px)[:2]  # of one tile a converter takes the number for a constant
    try:
        if to == ExportFormat.ONNX:
            _write_onnx(ExportedNetworkWithCams(bundle), example, file, about)
        elif to == ExportFormat.WSINFER:
            _write_torchscript(ExportedNetwork(bundle), example, file, about)
        else:
            _write_torchscript(nn.Sequential(ExportedNetwork(bundle), nn.Softmax(dim=1)), example, file, about)
        return _checked(bundle, to, file)
    except (BundleError, OSError, MemoryError):
        raise
    except Exception as error:  # a converter that does not know a part of the network can raise anything
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise BundleError(
            f"{bundle.card.name}: {bundle.card.architecture} cannot be written as {to.label} ({reason[:200]})"
        ) from error


def _write_torchscript(network: nn.Module, example: Tensor, file: Path, about: dict[str, str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that TorchScript is deprecated, which WSInfer and QuPath read all the same
        traced = torch.jit.trace(network, example, check_trace=False)  # its file is checked
        with file.open("wb") as stream:  # by torch itself, a full disk would be a fault without a name
            torch.jit.save(traced, stream, _extra_files={PROPERTIES: json.dumps(about, ensure_ascii=False)})


def _write_onnx(network: nn.Module, example: Tensor, file: Path, about: dict[str, str]) -> None:
    program = torch.onnx.export(
        network,
        (example,),
        dynamo=True,
        verbose=False,
        input_names=[INPUT],
        output_names=list(OUTPUTS),
        dynamic_shapes=({0: torch.export.Dim("n")},),
    )
    assert program is not None
    program.model.metadata_props.update(about)
    program.save(file)


def _checked(bundle: ModelBundle, to: ExportFormat, file: Path) -> float:
    """Return the largest difference of a probability between a written file and the model, for tiles of noise.

    Logits are compared too, as far as probabilities tell them: of noise a model may be all too sure.
    """
    tiles, temperature = _check_tiles(bundle.card.tile_px), bundle.card.temperature
    inputs = bundle.normalize((tiles * 255).round().byte().permute(0, 2, 3, 1))
    found, expected = _probabilities(to, file, tiles), bundle.probabilities(bundle.network(inputs))
    difference = float((found - expected).abs().max())
    of_logits = float((found.clamp_min(_LEAST).log() - expected.clamp_min(_LEAST).log()).abs().max()) * temperature
    if not (difference <= TOLERANCE and of_logits <= _LOGIT_TOLERANCE):
        raise BundleError(
            f"{bundle.card.name}: as {to.label} its probabilities differ by {difference:.1g} from the model's, its "
            f"logits by {of_logits:.1g}; nothing was exported. This is a fault: please report it"
        )
    return difference


def _probabilities(to: ExportFormat, file: Path, tiles: Tensor) -> Tensor:
    """Return the probabilities (n, classes) that a written file gives."""
    if to == ExportFormat.ONNX:
        import onnxruntime

        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        return torch.from_numpy(session.run(list(OUTPUTS[:1]), {INPUT: tiles.numpy()})[0])
    with warnings.catch_warnings(), file.open("rb") as stream:
        warnings.simplefilter("ignore")
        found: Tensor = torch.jit.load(stream, map_location="cpu")(tiles)
    return torch.softmax(found, dim=1) if to == ExportFormat.WSINFER else found


def _check_tiles(side: int) -> Tensor:
    """Return tiles of fine and of coarse noise, (3, 3, side, side) float32, grey levels over 255."""
    generator = torch.Generator().manual_seed(0)
    tiles = []
    for grain in (1, 8, 32):
        noise = torch.randint(0, 256, (1, 3, side // grain, side // grain), generator=generator)
        tiles.append(functional.interpolate(noise.float(), (side, side), mode="nearest"))
    return torch.cat(tiles) / 255
