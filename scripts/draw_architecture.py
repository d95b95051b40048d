"""Draw docs/images/architecture.svg: the folders of src/napari_dala, and who imports whom.

    python scripts/draw_architecture.py [FILE.svg]

Arrows come from the code's own imports, read by grimp (import-linter brings it); where boxes lie is said here. An arrow
that a longer way along other arrows says already is left out. The script stops where the code no longer fits the
drawing: a folder that is not drawn, an arrow that points upwards, or torch on the side of napari's process. The same
code gives the same bytes.
"""

from __future__ import annotations

import sys
from html import escape
from pathlib import Path
from typing import NamedTuple

import grimp

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "docs" / "images" / "architecture.svg"
PACKAGE = "napari_dala"
TORCH = ("torch", "torchvision", "lightning")
BASE = (
    "errors",
    "files",
    "workspace",
    "cores",
    "validation",
    "triton_first",
    "words",
)  # single modules, used everywhere

WIDTH, HEIGHT = 900, 960
INK, FAINT = "#1f2933", "#52606d"
LIGHT = {"fill": "#e8f1fb", "line": "#7fa8d6"}  # napari's process
HEAVY = {"fill": "#fdf0e1", "line": "#dca964"}  # torch
PLAIN = {"fill": "#f1f3f5", "line": "#9aa5b1"}
FONT = "Helvetica, Arial, 'DejaVu Sans', sans-serif"


class Box(NamedTuple):
    """Where a folder is drawn, what is said of it, and whether torch may be in it (None: it is on neither side)."""

    left: int
    top: int
    width: int
    height: int
    words: tuple[str, ...]
    torch: bool | None

    @property
    def bottom(self) -> int:
        """Its lower edge."""
        return self.top + self.height


BOXES = {
    "cli": Box(20, 20, 860, 52, ("the command dala: a few lines a command",), None),
    "plugin": Box(40, 134, 390, 248, ("napari: reader, writer and docks; computes nothing",), False),
    "evaluation": Box(690, 134, 172, 98, ("how good models", "and maps are"), True),
    "analysis": Box(484, 284, 172, 98, ("slide × model → result", "warm child: worker.py"), True),
    "training": Box(690, 284, 172, 98, ("regions or photographs", "→ a better model"), True),
    "annotations": Box(40, 432, 368, 56, ("what was drawn on a slide, and the tiles it labels",), False),
    "results": Box(150, 528, 258, 76, ("request, progress, store on disk, spots",), False),
    "inference": Box(484, 528, 378, 76, ("the network made fast on one device; tiles resampled",), True),
    "datasets": Box(40, 528, 98, 76, ("photographs,", "splits"), False),
    "slide": Box(150, 654, 112, 84, ("pixels and tiles",), False),
    "jobs": Box(318, 654, 112, 84, ("child process,", "job folder"), False),
    "model": Box(
        484, 654, 378, 84, ("DALAResNet50, bundle, Grad-CAM;", "without torch: card, catalogue, threshold"), True
    ),
    "metrics": Box(150, 788, 280, 58, ("figures, with intervals by patient",), False),
}
PLUGIN_ROWS = (("learn",), ("analyze", "explain", "annotate"), ("parts",), ("viewer",))
# From where to where: x at the upper box, x at the lower one, and how far above the lower box the way turns; by default
# straight down the middle of what they share.
WAYS = {
    ("cli", "plugin"): (300, 300),
    ("cli", "analysis"): (570, 570),
    ("cli", "evaluation"): (820, 820),
    ("evaluation", "training"): (800, 800),
    ("analysis", "annotations"): (514, 390),
    ("training", "annotations"): (720, 390),
    ("analysis", "inference"): (590, 590),
    ("plugin", "annotations"): (140, 140),
    ("plugin", "jobs"): (418, 418),
    ("analysis", "jobs"): (500, 426, 235),
    ("training", "jobs"): (706, 426, 235),
    ("annotations", "datasets"): (88, 88),
    ("datasets", "slide"): (100, 176),
    ("results", "slide"): (206, 206),
    ("inference", "slide"): (500, 246, 14),
    ("results", "metrics"): (290, 290),
    ("results", "model"): (396, 520),
}
PROCESSES = (
    "These processes are: the warm child of napari's docks,",
    "a learning job (dala finetune), a command of dala, a",
    "worker of a cluster, or your own Python.",
)
ONE_MODULE = ("plugin", "training")  # the arrow of a single module, drawn by hand from the side of the upper box


def main(target: Path) -> None:
    """Read the imports, check that they can be drawn, draw."""
    graph = grimp.build_graph(
        PACKAGE, include_external_packages=True, exclude_type_checking_imports=True, cache_dir=None
    )
    ours = sorted(module for module in graph.modules if module.split(".")[0] == PACKAGE)
    imports = {
        (folder(module), folder(other))
        for module in ours
        for other in graph.find_modules_directly_imported_by(module)
        if other in TORCH or other in ours
    }
    check(imports, {folder(module) for module in ours})
    target.write_text(drawing(reduced(imports), ours), encoding="utf-8")
    print(target)


def folder(module: str) -> str:
    """Return which box a module is in; of a library its name."""
    parts = module.split(".")
    return parts[0] if len(parts) == 1 else parts[1]


def check(imports: set[tuple[str, str]], folders: set[str]) -> None:
    """Stop where the code no longer fits the drawing."""
    if unknown := folders - set(BOXES) - set(BASE) - {PACKAGE}:
        raise SystemExit(f"not in the drawing: {', '.join(sorted(unknown))}")
    for name, box in BOXES.items():
        if box.torch is False and any((name, library) in imports for library in TORCH):
            raise SystemExit(f"{name}: imports torch on the side of napari's process")
    for above, below in sorted(imports):
        if {above, below} <= set(BOXES) and above != below and BOXES[above].top >= BOXES[below].top:
            raise SystemExit(f"{above} imports {below}: an arrow upwards")


def reduced(imports: set[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the arrows between boxes that no longer way says already."""
    arrows = {(a, b) for a, b in imports if a != b and {a, b} <= set(BOXES)}
    beside = arrows - {ONE_MODULE}  # one module of training stands for nothing else in there

    def below(name: str) -> set[str]:
        return {found for a, b in beside if a == name for found in (b, *below(b))}

    kept = {(a, b) for a, b in beside if not any(b in below(other) for x, other in beside if x == a and other != b)}
    return sorted(kept | (arrows & {ONE_MODULE}))


def drawing(arrows: list[tuple[str, str]], modules: list[str]) -> str:
    """Return the picture as SVG."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'font-family="{FONT}">',
        "<title>The folders of napari-dala, and who imports whom</title>",
        '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" '
        f'orient="auto"><path d="M0 0 L10 5 L0 10 z" fill="{FAINT}"/></marker></defs>',
        rectangle(0, 0, WIDTH, HEIGHT, "#ffffff", "#ffffff", 0),
        rectangle(20, 98, 430, 766, LIGHT["fill"], LIGHT["fill"], 12),
        rectangle(466, 98, 414, 766, HEAVY["fill"], HEAVY["fill"], 12),
        text(40, 120, "napari's process: never torch", 13, FAINT, italic=True),
        text(584, 120, "processes of their own: torch", 13, FAINT, italic=True),
    ]
    parts += [route(*arrow) for arrow in arrows if arrow != ONE_MODULE]
    if ONE_MODULE in arrows:
        parts += [line([(430, 250), (730, 250), (730, 284)]), text(582, 244, "only finetune/job.py", 11, FAINT)]
    parts.append(line([(430, 334), (484, 334)], dashed=True))
    parts += [box_of(name, modules) for name in BOXES]
    parts += plugin_rows(modules)
    parts += [
        rectangle(20, 880, 860, 38, PLAIN["fill"], PLAIN["line"], 8),
        text(36, 904, " · ".join(f"{name}.py" for name in BASE), 12.5, INK, mono=True),
        *(text(498, 792 + 18 * number, words, 12, FAINT) for number, words in enumerate(PROCESSES)),
        text(862, 904, "used from everywhere", 12, FAINT, end=True),
        line([(36, 940), (80, 940)]),
        text(90, 944, "imports, directly or by way of others", 12, FAINT),
        line([(372, 940), (416, 940)], dashed=True),
        text(426, 944, "starts it; they talk in lines of JSON", 12, FAINT),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def box_of(name: str, modules: list[str]) -> str:
    """Return a folder's box: its name, what it is for, the folders in it."""
    box = BOXES[name]
    line_colour = {True: HEAVY, False: LIGHT, None: PLAIN}[box.torch]["line"]
    fill = PLAIN["fill"] if box.torch is None else "#ffffff"
    parts = [rectangle(box.left, box.top, box.width, box.height, fill, line_colour, 8)]
    x, y = box.left + 14, box.top + 22
    parts.append(text(x, y, f"{name}/", 15, INK, bold=True))
    for words in box.words:
        y += 17
        parts.append(text(x, y, words, 12, FAINT))
    if name != "plugin":
        for words in wrapped([f"{inner}/" for inner in folders_in(name, modules)], (box.width - 24) // 7):
            y += 16
            parts.append(text(x, y, words, 11, INK, mono=True))
    return "\n".join(parts)


def plugin_rows(modules: list[str]) -> list[str]:
    """Return what lies in the plugin's box: its layers, and beside them its single modules."""
    box, parts = BOXES["plugin"], []
    left, top, width, step = box.left + 14, box.top + 54, 244, 38
    drawn = {name for row in PLUGIN_ROWS for name in row}
    for number, row in enumerate(PLUGIN_ROWS):
        each = (width - 6 * (len(row) - 1)) // len(row)
        for place, name in enumerate(row):
            x, y = left + place * (each + 6), top + number * step
            parts.append(rectangle(x, y, each, 30, LIGHT["fill"], LIGHT["line"], 6))
            is_folder = name in folders_in("plugin", modules)
            parts.append(text(x + each / 2, y + 20, f"{name}/" if is_folder else f"{name}.py", 12, INK, middle=True))
    parts.append(text(left, top + 4 * step + 14, "each row imports only from rows below", 11.5, FAINT, italic=True))
    inside = {module.split(".")[2] for module in modules if module.startswith(f"{PACKAGE}.plugin.")} - drawn
    names = [f"{name}/" if name in folders_in("plugin", modules) else f"{name}.py" for name in sorted(inside)]
    for number, name in enumerate(names):
        parts.append(text(left + width + 18, top + 14 + number * 17, name, 11, INK, mono=True))
    return parts


def folders_in(name: str, modules: list[str]) -> list[str]:
    """Return the folders inside a folder."""
    start = f"{PACKAGE}.{name}."
    inside = [module.removeprefix(start).split(".") for module in modules if module.startswith(start)]
    return sorted({parts[0] for parts in inside if len(parts) > 1})


def wrapped(words: list[str], most: int) -> list[str]:
    """Return words in lines of at most so many characters."""
    lines: list[str] = []
    for word in words:
        if lines and len(lines[-1]) + 1 + len(word) <= most:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def route(above: str, below: str) -> str:
    """Return an arrow between two boxes."""
    upper, lower = BOXES[above], BOXES[below]
    left = max(upper.left, lower.left)
    right = min(upper.left + upper.width, lower.left + lower.width)
    start, end, *over = WAYS.get((above, below), ((left + right) // 2,) * 2)
    if start == end:
        return line([(start, upper.bottom), (end, lower.top)])
    turn = lower.top - (over[0] if over else 25)
    return line([(start, upper.bottom), (start, turn), (end, turn), (end, lower.top)])


def line(points: list[tuple[int, int]], *, dashed: bool = False) -> str:
    """Return an arrow along some points."""
    way = " ".join(f"{'L' if place else 'M'}{x} {y}" for place, (x, y) in enumerate(points))
    dashes = ' stroke-dasharray="5 4"' if dashed else ""
    return (
        f'<path d="{way}" fill="none" stroke="{FAINT}" stroke-width="1.5" stroke-linejoin="round"{dashes} '
        'marker-end="url(#head)"/>'
    )


def rectangle(x: float, y: float, width: float, height: float, fill: str, stroke: str, radius: int) -> str:
    """Return a rectangle."""
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius}" fill="{fill}" '
        f'stroke="{stroke}"/>'
    )


def text(
    x: float,
    y: float,
    words: str,
    size: float,
    colour: str,
    *,
    bold: bool = False,
    italic: bool = False,
    mono: bool = False,
    middle: bool = False,
    end: bool = False,
) -> str:
    """Return a line of text; `y` is where the letters stand."""
    style = f'x="{x:g}" y="{y:g}" font-size="{size:g}" fill="{colour}"'
    style += ' font-weight="bold"' * bold + ' font-style="italic"' * italic
    style += " font-family=\"Menlo, Consolas, 'DejaVu Sans Mono', monospace\"" * mono
    style += ' text-anchor="middle"' * middle + ' text-anchor="end"' * end
    return f"<text {style}>{escape(words)}</text>"


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET)
