"""The page in plain words beside an exported model: what it is, what goes in and comes out, what stays behind."""

from __future__ import annotations

from textwrap import fill
from typing import TYPE_CHECKING

from napari_dala import __version__
from napari_dala.model.export.formats import CONFIG, INPUT, OUTPUTS, ExportFormat

if TYPE_CHECKING:
    from napari_dala.model.card import ModelCard

_WIDTH = 100
_QUPATH = (
    "In QuPath with its WSInfer extension: give this folder the name that the model is to have, and move it into the "
    "extension's *User model directory* (*Extensions > WSInfer > Additional options*; in newer versions a folder "
    "`user` within the model directory). Choose the model there, select an annotation, press *Run*.",
    "With WSInfer: `wsinfer run --wsi-dir SLIDES --results-dir RESULTS --model-path torchscript_model.pt "
    "--config config.json`",
)
_TORCHSCRIPT = (
    "With PyTorch, or its C++ library: `network = torch.jit.load('model.pt')`, `probability = network(tiles)`.",
    "Class names and the like lie in its file `model.json`: `about = {'model.json': ''}`, "
    "`torch.jit.load('model.pt', _extra_files=about)`.",
)
_ONNX = (
    "With ONNX Runtime: `session = onnxruntime.InferenceSession('model.onnx')`, "
    f"`probability, cam = session.run(None, {{'{INPUT}': tiles}})`. "
    f"Ask for `['{OUTPUTS[0]}']` alone where no map is wanted.",
    "Class names and the like are its metadata: `session.get_modelmeta().custom_metadata_map`.",
)
_USE = {ExportFormat.WSINFER: _QUPATH, ExportFormat.TORCHSCRIPT: _TORCHSCRIPT, ExportFormat.ONNX: _ONNX}
_STAYS = (
    "Finding tissue; saying of a tile that it is unlike what the model learned from; the band of doubt; DT Grad-CAM "
    "(the ONNX form has the Grad-CAM maps, without the dynamic threshold); learning from drawn regions. Tiles are cut "
    "and resampled by the other program: on the same pixels its probabilities are the same, on the same slide nearly."
)


def readme(card: ModelCard, bundle_hash: str, to: ExportFormat) -> str:
    """Return the page. It has nothing of the card's free-form training record, and so no patient's key."""
    target = card.class_names[card.target_class]
    network = f"`{to.file_name}` is the network, in float32"
    if to == ExportFormat.ONNX:
        network += f" (where there is a `{to.file_name}.data`, its weights are in that: keep both together)"
    files = f"{network}; `{CONFIG}` says how to feed it." if to == ExportFormat.WSINFER else f"{network}."
    known = {"Learned from": card.data, "Licence": card.licence, "To cite": card.citation}
    parts = {
        f"# {card.name}": (
            card.intended_use,
            f"Exported by napari-dala {__version__} for {to.label}: {files} Hash of the model: {bundle_hash}",
        ),
        "## What goes in and what comes out": (
            f"In: tiles of {card.tile_px} px at {card.mpp:g} µm/px, as float32 of (n, 3, {card.tile_px}, "
            f"{card.tile_px}), RGB, from 0 to 1. Any n. They are normalised inside.",
            f"Out: {to.output}.",
            f"Classes, in this order: {', '.join(card.class_names)}.",
            f"A tile counts as {target} from a probability of {card.operating_threshold:.3f} on. Other programs do not "
            "know this threshold: most call a tile by its most probable class.",
        ),
        "## How to use it": _USE[to],
        "## What the model is": (card.summary, *(f"{what}: {text}" for what, text in known.items() if text)),
        "## Its limits": card.limits or ("The card states none. That does not mean there are none.",),
        "## What stays behind in napari-dala": (_STAYS,),
    }
    pieces = [piece for heading, texts in parts.items() for piece in (heading, *map(_wrapped, texts)) if piece]
    return "\n\n".join(pieces) + "\n"


def _wrapped(text: str) -> str:
    return fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False)
