"""What the documentation names is there, and its lines are short enough to be read side by side."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "napari_dala"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob(".napari-hub/*.md")])
NOT_OURS = {"overview.png", "~/.config/dask/dala.yaml"}  # what a command writes, what a user has
LONGEST = 120

PATH = re.compile(r"`([^`\s]+\.(?:py|md|toml|yaml|svg|png))`")
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
MODULE = re.compile(r"(?:napari_dala|benchmarks)(?:\.\w+)+")
SCRIPT = re.compile(r"python3? ((?:scripts|benchmarks)/\S+\.py)")


def outside_code(page: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a page, numbered from 1, without those of code blocks, fenced or indented."""
    fenced, before = False, ""
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced and not (line.startswith("    ") and (not before.strip() or before.startswith("    "))):
            yield number, line
        before = line


def is_there(page: Path, name: str) -> bool:
    """Tell whether a file is in the project, named from its root, from the package or from the page."""
    return any((folder / name).is_file() for folder in (ROOT, SOURCE, page.parent))


def is_module(name: str) -> bool:
    """Tell whether a dotted name is a module or a name that one defines."""
    *parents, last = name.split(".")
    start = ROOT if parents[0] == "benchmarks" else SOURCE.parent
    inside = start.joinpath(*parents)
    if (inside / last).is_dir() or (inside / f"{last}.py").is_file():
        return True
    homes = [inside / "__init__.py", inside / "__init__.pyi"] if inside.is_dir() else [inside.with_suffix(".py")]
    return any(home.is_file() and re.search(rf"\b{last}\b", home.read_text(encoding="utf-8")) for home in homes)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    paths = {name for name in PATH.findall(text) if name not in NOT_OURS and not is_there(page, name)}
    links = {name for name in LINK.findall(text) if "://" not in name and not (page.parent / name).exists()}
    modules = {name for name in MODULE.findall(text) if not is_module(name)}
    scripts = {name for name in SCRIPT.findall(text) if not (ROOT / name).is_file()}
    assert not paths | links | modules | scripts


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_lines_are_short(page: Path) -> None:
    def may_be_long(line: str) -> bool:
        return line.startswith("|") or re.fullmatch(r"[-*\s]*!?\[[^]]*\]\([^)]*\)", line.rstrip()) is not None

    long = [number for number, line in outside_code(page) if len(line) > LONGEST and not may_be_long(line)]
    assert not long
