"""Draw the forty slides of docs/workbench.md: of no patient, each another one.

python scripts/workbench_slides.py FOLDER [HOW_MANY]
"""

from __future__ import annotations

import sys
from pathlib import Path

from napari_dala.slide.teaching.slide import teaching_slide

HOW_MANY = 40
SIDES_PX = (1120, 1344, 1568, 2016)  # of the slides in turn; level-0 px of 0.5 um


def draw_slides(folder: Path, how_many: int = HOW_MANY) -> None:
    """Draw S01.tif, S02.tif and so on, with the truth beside each; those that are there stay."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, how_many + 1):
        path = folder / f"S{number:02}.tif"
        if not path.exists():
            teaching_slide(path, SIDES_PX[number % len(SIDES_PX)], seed=number)
            print(path)


if __name__ == "__main__":
    draw_slides(Path(sys.argv[1]), *map(int, sys.argv[2:3]))
