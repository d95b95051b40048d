"""Learn quick on a mosaic with any trunk, by the command line: times, memory, figures, and Grad-CAM held to a peer's.

    python -m benchmarks.quick_trunks m32.tiff --out FOLDER [--trunk densenet121] [--weights FILE]

Without --trunk the default model is the parent. With one, its weights are those of a file, or random ones (seed 0),
which are imported as a user would (`dala models import --trunk`); random ones show what it costs, not how good it is.
What is learned, and what the figures are of, see `benchmarks.quick`. One trunk a call: memory is the most that any of
the commands had. FOLDER then holds measured.json too.
"""

from __future__ import annotations

import argparse
import os
import resource
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import save_file

from benchmarks.quick import dala, measure
from napari_dala.files import write_json
from napari_dala.model.bundle import load_model
from napari_dala.model.gradcam import grad_cam
from napari_dala.model.trunks.building import library_network
from napari_dala.model.trunks.names import architecture_of
from napari_dala.model.weights import weights_of
from napari_dala.slide import open_slide
from napari_dala.slide.tiles import TileGrid, read_tiles

if TYPE_CHECKING:
    from napari_dala.model.bundle import ModelBundle

CHECKED = 4  # tiles that Grad-CAM is compared on


def main() -> None:
    """Measure, print and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mosaic", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--trunk", help="its name, as `dala models import --trunk` takes it")
    parser.add_argument("--weights", type=Path, help="a file of its weights")
    parser.add_argument("--each", type=int, default=3, help="regions of each class")
    asked = parser.parse_args()
    os.environ["DALA_WORKSPACE"] = str(asked.out / "workspace")
    parent = "default" if asked.trunk is None else imported(asked.trunk, asked.weights, asked.out)
    settings = argparse.Namespace(
        mosaic=asked.mosaic, out=asked.out, parent=parent, mosaic_seed=0, data=None, only=[], each=asked.each, seed=0
    )
    found = measure(settings)
    found["memory_mb"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10  # of the largest of them
    learned = asked.out / "job" / "result" / "bundle.safetensors"
    found["learned_mb"] = learned.stat().st_size >> 20
    found["cam_off_by"] = most_difference(load_model(learned), asked.mosaic)
    found["trunk"] = asked.trunk or "default"
    write_json(asked.out / "measured.json", found)
    print(f"memory {found['memory_mb']} MB, bundle {found['learned_mb']} MB, Grad-CAM off by {found['cam_off_by']:.1e}")


def imported(trunk: str, weights: Path | None, out: Path) -> str:
    """Import a trunk into the workspace of `out`, its weights random if no file is given, and return its name."""
    name = trunk.split("?")[0].replace("/", "-")
    if weights is None:
        out.mkdir(parents=True, exist_ok=True)
        weights = out / f"{name}.random.safetensors"
        torch.manual_seed(0)
        save_file(weights_of(library_network(architecture_of(trunk), 224)), weights)
    dala("models", "import", weights, "--trunk", trunk, "--mpp", 1.0, "--name", name)
    return name


def most_difference(bundle: ModelBundle, slide: Path) -> float:
    """Return how far our maps are from pytorch-grad-cam's, each scaled to [0, 1], on tiles from the slide's middle."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.image import scale_cam_image
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    side = bundle.card.tile_px
    with open_slide(slide) as opened:
        grid = TileGrid.over(opened, side, bundle.card.mpp, cell_px=bundle.card.cell_px)
        row, column = (count // 2 for count in grid.shape)
        tiles = [read_tiles(opened, grid, row, column + number, 1, 1) for number in range(CHECKED)]
    images = bundle.normalize(torch.from_numpy(np.stack(tiles)))
    _, cams = grad_cam(bundle.network, images)
    most = 0.0
    for index in range(cams.shape[1]):
        with GradCAM(bundle.network, [bundle.network.attention]) as peer:
            theirs: Any = peer(images, [ClassifierOutputTarget(index)] * CHECKED)
        ours = scale_cam_image(scale_cam_image(cams[:, index].numpy(), (side, side)))
        most = max(most, float(np.abs(ours - theirs).max()))
    return most


if __name__ == "__main__":
    main()
