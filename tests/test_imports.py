"""What a process imports, each in a fresh one: pytest's own process has Qt from napari's pytest plugin."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "torchvision", "qtpy", "PyQt6", "napari", "superqt")


@pytest.mark.parametrize(
    ("what", "forbidden"),
    [
        ("import napari_dala", (*HEAVY, "numpy", "zarr")),
        ("from napari_dala.cli import app", HEAVY),
        ("from napari_dala import open_slide", HEAVY),
        (
            "import napari_dala.results.analysis, napari_dala.results.report.page, napari_dala.results.report.outputs",
            HEAVY,
        ),
        ("import napari_dala.model.threshold, napari_dala.model.card, napari_dala.model.catalog", HEAVY),
        ("import napari_dala.jobs.child, napari_dala.slide.pyramid", HEAVY),
        ("import napari_dala.analysis.worker", (*HEAVY[2:], "scipy.signal")),  # which takes most of a second
        ("import napari_dala.slide.pyramid", ("dask", "zarr")),  # half a second until a slide is open
        ("import napari_dala.plugin.analyze.dock, napari_dala.plugin.explain, napari_dala.plugin.reader", HEAVY[:2]),
        ("import napari_dala.plugin.learn.dock, napari_dala.plugin.sample", (*HEAVY[:2], "scipy.signal")),
    ],
)
def test_imports_stay_light(what: str, forbidden: tuple[str, ...]) -> None:
    code = f"{what}\nimport sys\nprint([name for name in {forbidden!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_imports_neither_torch_nor_qt_nor_rich() -> None:
    code = (
        "import sys\nsys.argv = ['dala', '--help']\n"
        "from napari_dala.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        f"print([name for name in {(*HEAVY, 'rich')!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "analyze" in done.stdout
    assert done.stdout.strip().endswith("[]")


def test_the_public_names_are_there() -> None:
    import napari_dala

    for name in napari_dala.__all__:
        assert getattr(napari_dala, name) is not None
    assert set(napari_dala.__all__) <= set(dir(napari_dala))
    with pytest.raises(AttributeError, match="no_such_name"):
        napari_dala.no_such_name  # noqa: B018
