"""How far do the maps' colours stand out from tissue, and from each other? `python -m benchmarks.contrast SLIDE...`.

For each slide (the drawn teaching slide without any): the mean CIEDE2000 difference between tissue and the same tissue
under a colour, of a map's values 0.5 and 1 at the layers' opacities, as everybody sees it and as people without green
(deuteranopia) or red (protanopia) receptors do (Machado et al. 2009, severity 1). "Apart" is between the two maps.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from skimage.color import deltaE_ciede2000, rgb2lab

from napari_dala.model.class_colors import class_infos
from napari_dala.plugin.viewer.result_layers import CAM_OPACITY, PROBABILITY_OPACITY
from napari_dala.results.report.pictures import colormap, evidence_colormap
from napari_dala.slide import open_slide
from napari_dala.slide.teaching.slide import cached_teaching_slide

SIGHT = {
    "usual": np.eye(3),
    "deuteranopia": np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]),
    "protanopia": np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]),
}  # for linear light
MALIGNANT = class_infos(["malignant"])[0].color
_DARK = 225  # of a channel: tissue, not glass


def main() -> None:
    """Print a table, a line each slide and sight."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("slides", nargs="*", type=Path)
    print("slide, sight: probability 0.5 / 1, Grad-CAM as probability (before) 0.5 / 1, Grad-CAM now 0.5 / 1, apart")
    for path in parser.parse_args().slides or [cached_teaching_slide()]:
        with open_slide(path) as slide:
            pixels = np.asarray(slide.thumbnail(1024)).reshape(-1, 3)
        tissue = pixels[pixels.min(axis=1) < _DARK][::7] / 255
        for sight, matrix in SIGHT.items():
            seen = [
                [_under(tissue, ramp[at], opacity) for at in (127, 255)]
                for ramp, opacity in (
                    (colormap(MALIGNANT), PROBABILITY_OPACITY),
                    (colormap(MALIGNANT), CAM_OPACITY),
                    (evidence_colormap(), CAM_OPACITY),
                )
            ]
            plain = _as_seen(tissue, matrix)
            figures = [
                " / ".join(f"{deltaE_ciede2000(plain, _as_seen(one, matrix)).mean():.0f}" for one in pair)
                for pair in seen
            ]
            apart = deltaE_ciede2000(_as_seen(seen[0][1], matrix), _as_seen(seen[2][1], matrix)).mean()
            print(f"{path.name}, {sight}: {', '.join(figures)}, {apart:.0f}")


def _under(tissue: np.ndarray, rgba: np.ndarray, opacity: float) -> np.ndarray:
    share = opacity * rgba[3]
    covered: np.ndarray = tissue * (1 - share) + rgba[:3] * share
    return covered


def _as_seen(rgb: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return CIELAB of sRGB colours, (n, 3), as somebody sees them."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ matrix.T
    linear = np.clip(linear, 0, 1)
    lab: np.ndarray = rgb2lab(np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055))
    return lab


if __name__ == "__main__":
    main()
