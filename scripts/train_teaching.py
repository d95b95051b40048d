"""Make the model of the drawn teaching slide: a head on the default model's trunk, learned as any user learns one.

    python scripts/train_teaching.py --out FOLDER [--bundle teaching-slide.safetensors]

Slides are drawn that the demo does not show; `dala finetune --mode quick` learns from the regions of their truth. The
trunk stays the default model's, so that real tissue loses nothing, but reads the drawing at a finer scale: its islands
are smaller than the default's tiles. The file holds attention and head alone. Then the demo's own slide is analysed
and its map held against the truth, cell by cell.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from mosaic_truth import per_cell
from PIL import Image

from napari_dala.analysis.engine import analyze
from napari_dala.metrics.scores import score
from napari_dala.model.bundle import ModelBundle, load_bundle, load_model
from napari_dala.model.catalog import DEFAULT, SUFFIX, TEACHING
from napari_dala.model.familiarity import Familiarity
from napari_dala.slide import open_slide
from napari_dala.slide.teaching.slide import TRUTH_CELL, teaching_slide
from napari_dala.training.finetune.finetune import finetune
from napari_dala.training.finetune.job import SlideExamples

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_dala.results.analysis import Analysis

SEEDS = range(101, 105)  # of the slides to learn from; the demo's is 0
SIDE = 4096
MPP = 0.4  # um/px: a tile is 90 um, as large as a drawn gland; at the drawing's own 0.5 GMean per cell is 0.88
UNSEEN = (0, 201, 202)
BITS = 10
FLAGGED = 0.05  # of a drawn slide's tiles that may be called unfamiliar
SUMMARY = (
    "For the drawn teaching slide of the demo only, and learned from drawn tissue. It means nothing on real tissue."
)


def main() -> None:
    """Draw, learn, measure and write the bundle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, help="where to write the model; FOLDER/teaching-slide.safetensors else")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    slides = [teaching_slide(asked.out / f"drawn-{seed}.tiff", SIDE, seed) for seed in SEEDS]
    examples = [SlideExamples(slide=slide.path, annotations=slide.truth_geojson) for slide in slides]
    parent = load_model("default")
    parent = replace(parent, card=parent.card.model_copy(update={"mpp": MPP}))
    parent.save(asked.out / "parent.safetensors", BITS)
    learned = finetune(
        asked.out / "parent.safetensors", examples, asked.out / "job", name=TEACHING, mode="quick", replay=0
    )
    target = asked.bundle or asked.out / f"{TEACHING}{SUFFIX}"
    learned = replace(learned, familiarity=vars(drawn_tissue([analysed(learned, slide.path) for slide in slides])))
    small = described(learned, {})
    figures = {str(seed): measured(small, asked.out / f"unseen-{seed}.tiff", seed) for seed in UNSEEN}
    bundle = described(learned, {"drawn slides, by seed": figures})
    bundle.save(target, BITS, trunk_of=f"{DEFAULT}{SUFFIX}")
    if target.with_name(f"{DEFAULT}{SUFFIX}").exists():
        assert load_bundle(target).hash == bundle.hash
    print(json.dumps(figures, indent=1))
    print(target, f"{target.stat().st_size / 2**20:.1f} MiB", bundle.hash)


def drawn_tissue(analyses: Sequence[Analysis]) -> Familiarity:
    """Return what drawn tissue is, by all slides but the last, whose tiles set the limit."""
    *known, left_out = [
        torch.from_numpy(analysis.store.read("features")[analysis.analysed].astype(np.float32)) for analysis in analyses
    ]
    found = Familiarity.fit(torch.cat(known))
    return found.with_limit(float(found.ratio(left_out).quantile(1 - FLAGGED)))


def analysed(bundle: ModelBundle, path: Path) -> Analysis:
    """Return a drawn slide's analysis."""
    with open_slide(path) as slide:
        return analyze(slide, bundle, path.with_suffix(""))


def described(bundle: ModelBundle, figures: dict[str, Any]) -> ModelBundle:
    """Return the bundle as it is stored, with the card that goes with it and nothing to be shown again."""
    card = bundle.card.model_copy(
        update={
            "name": TEACHING,
            "summary": SUMMARY,
            "intended_use": "Teaching and trying the program on drawn tissue. Not for real tissue.",
            "limits": ("Drawn tissue only: it has never been measured on real tissue.",),
            "data": f"Slides drawn by napari-dala, seeds {SEEDS.start} to {SEEDS.stop - 1}, {SIDE} px square.",
            "licence": "BSD-3-Clause",
            "citation": "",
            "metrics": figures,
        }
    )
    return replace(bundle, card=card, replay=None).as_stored(BITS)


def measured(bundle: ModelBundle, path: Path, seed: int) -> dict[str, float]:
    """Return figures of the map of a drawn slide, per cell of its truth map that has tissue in it."""
    drawn = teaching_slide(path, SIDE, seed)
    analysis = analysed(bundle, drawn.path)
    truth = np.asarray(Image.open(drawn.truth_png))  # 0 background, 1 benign, 2 malignant
    found = per_cell(len(truth), TRUTH_CELL, analysis.grid, analysis.probability)
    told = (truth > 0) & np.isfinite(found[0])
    figures = score(truth[told].astype(np.intp) - 1, found[:, told].T, n_boot=0).scores
    unfamiliar = float(analysis.unfamiliar[analysis.analysed].mean())
    return {"cells": int(told.sum()), "unfamiliar_tiles": round(unfamiliar, 3)} | {
        name: round(getattr(figures, name).value, 4) for name in ("gmean", "accuracy", "auroc")
    }


if __name__ == "__main__":
    main()
