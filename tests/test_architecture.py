"""The shape of the source tree; which layer may import which is held by the import contracts of pyproject.toml."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import defaultdict
from graphlib import TopologicalSorter
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "napari_dala"
FILES = sorted(PACKAGE.rglob("*.py"))

MOST_FILES = 18
MOST_LINES = 400
MOST_SPLITS = 3

WITHOUT_TORCH = ("results", "annotations", "datasets", "metrics", "slide", "jobs")

COMMANDS = "a command of `dala` is named as what it runs"
ONE_OF_EACH = "each table, picture or page is made by its own module, which is always named beside it"
SAME_NAME = {
    "analyze": COMMANDS,
    "bench": COMMANDS,
    "compare": COMMANDS,
    "evaluate": COMMANDS,
    "finetune": COMMANDS,
    "train": COMMANDS,
    "main": "what a process begins with: `dala`, and the child that analyses",
    "show": "the command `dala models show`, and what shows tables on a console",
    "as_csv": ONE_OF_EACH,
    "as_json": ONE_OF_EACH,
    "as_markdown": ONE_OF_EACH,
    "tables": ONE_OF_EACH,
    "write_report": ONE_OF_EACH,
    "curves": ONE_OF_EACH,
    "faithfulness": "the figures, and their picture",
    "heat_kept": "the figures, and their picture",
    "reliability": "the figures, and their picture",
}
"""Names that more than one module gives to a class or a public function, and why."""


def test_modules_import_each_other_in_one_direction() -> None:
    """Imports within functions are counted too, imports for the type checker are not."""
    graph = grimp.build_graph("napari_dala", exclude_type_checking_imports=True, cache_dir=None)
    order = TopologicalSorter({module: graph.find_modules_directly_imported_by(module) for module in graph.modules})
    order.prepare()  # CycleError, which names the modules of the circle


def test_a_folder_can_be_looked_over() -> None:
    folders: defaultdict[str, int] = defaultdict(int)
    for file in FILES:
        folders[_name(file.parent)] += 1
    assert not {folder: files for folder, files in folders.items() if files > MOST_FILES}


def test_a_file_can_be_read() -> None:
    lines = {_name(file): len(file.read_text(encoding="utf-8").splitlines()) for file in FILES}
    assert not {file: number for file, number in lines.items() if number > MOST_LINES}


def test_what_reads_files_loads_no_torch() -> None:
    modules = [
        ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts)
        for folder in WITHOUT_TORCH
        for file in sorted((PACKAGE / folder).rglob("*.py"))
    ]
    code = (
        f"import sys\nimport {', '.join(modules)}\nprint([name for name in ('torch', 'qtpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_imports_are_sorted_with_few_exceptions() -> None:
    comment = "isort" + ": split"
    files = [file for folder in ("src", "tests", "scripts", "benchmarks") for file in (ROOT / folder).rglob("*.py")]
    found = {_name(file): file.read_text(encoding="utf-8").count(comment) for file in files}
    assert sum(found.values()) <= MOST_SPLITS, {file: number for file, number in found.items() if number}


def test_no_two_things_have_one_name() -> None:
    where: defaultdict[str, list[str]] = defaultdict(list)
    for file in FILES:
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            public_function = isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
            if public_function or isinstance(node, ast.ClassDef):
                where[node.name].append(_name(file))
    twice = {name: files for name, files in where.items() if len(files) > 1}
    assert not {name: files for name, files in twice.items() if name not in SAME_NAME}
    assert not set(SAME_NAME) - set(twice), "names that are no longer there twice: take them off the list"


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()
