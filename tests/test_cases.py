"""All cases of ../shared/cases: each as a user types it, and what its README says must happen.

A command is `dala`'s, or one of `PYTHON`: what a script would call. Cases that take more than a command are functions.
"""

from __future__ import annotations

import gzip
import json
import os
import shlex
import shutil
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_dala.annotations.files import annotations_path, load_for, read_annotations, set_aside
from napari_dala.cli import main
from napari_dala.datasets.folders import load_dataset
from napari_dala.errors import AnnotationError, DalaError
from napari_dala.jobs.job import jobs_in
from napari_dala.results.analysis import Analysis
from napari_dala.slide import open_slide
from napari_dala.slide.tiles import TileGrid, read_tiles
from napari_dala.slide.tissue import tissue_in
from napari_dala.workspace import slide_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    Dala = Callable[..., tuple[int, str]]


def slide(path: str) -> str:
    with open_slide(path) as opened:
        corner = opened.read(5, 5, 1, 1).ravel().tolist()
        return f"{opened.dimensions} {len(opened.levels)} {opened.mpp} {corner}"


def regions(path: str) -> str:
    document = read_annotations(path)
    areas = [round(annotation.area.area) for annotation in document.annotations]
    classes = [item.name for item in document.classes]
    return f"{len(document.annotations)} {len(document.others)} {classes} areas {areas[:4]}"


def folder(path: str) -> str:
    dataset = load_dataset("folder", path)
    patients = sorted({image.patient for image in dataset.images})
    return f"{dataset.classes} {len(dataset.images)} {patients} {dataset.patients_known}"


def photograph(path: str) -> str:
    from napari_dala.training.photographs.augment import read_photograph

    pixels = read_photograph(Path(path))
    return f"{tuple(pixels.shape)} {pixels[:, 5, 5].tolist()}"


PYTHON = {"slide": slide, "regions": regions, "folder": folder, "photograph": photograph}
RED, GREY = "[200, 40, 40]", "[88, 88, 88]"
SIX = "('benign', 'malignant') 6 ['p0', 'p1', 'p2'] True"
NO_MPP = "the file does not say its resolution; give it as micrometres per pixel (--mpp)"
ANALYZE = "analyze {} --model untrained --device cpu --out OUT"
FINETUNE = "finetune {} --annotations {} --model untrained --epochs 1 --device cpu --out OUT"

COMMANDS: list[tuple[str, int, str]] = [  # exit code (2: a refusal), and what is printed
    ("info faults/dicom-folder-first-file/hidden", 0, '"width": 180'),
    ("info faults/dicom-folder-first-file/other-label", 0, '"width": 180'),
    ("info faults/dicom-folder-first-file/suffix", 0, '"width": 180'),
    ("regions faults/geojson-child-objects/hierarchy.geojson", 0, "3 0 ['benign', 'malignant']"),
    ("regions faults/geojson-object-type-03/cells.geojson", 0, "1 40 ['benign']"),
    ("regions faults/geojson-object-type-03/legacy-ids.geojson", 0, "0 3 []"),
    ("regions faults/geojson-one-bad-feature/class-json-text.geojson", 0, "2 0 ['benign']"),
    ("regions faults/geojson-one-bad-feature/class-text.geojson", 0, "2 0 ['benign']"),
    ("regions faults/geojson-one-bad-feature/colour-hex.geojson", 0, "2 0 ['benign', 'stroma']"),
    ("regions faults/geojson-one-bad-feature/colour-null.geojson", 0, "2 0 ['benign', 'stroma']"),
    ("regions faults/geojson-one-bad-feature/name-number.geojson", 0, "2 0 ['benign', '1']"),
    ("regions faults/geojson-one-bad-feature/two-points.geojson", 0, "1 1 ['benign']"),
    (
        FINETUNE.format(
            "faults/geojson-region-star/slide.png --mpp 0.405", "faults/geojson-one-bad-feature/two-points.geojson"
        ),
        2,
        "feature 2 (its outline is not a list of at least three corners",
    ),
    (
        FINETUNE.format(
            "faults/geojson-region-star/slide.png --mpp 0.405", "faults/geojson-region-star/region-star.geojson"
        ),
        0,
        "train: 3 benign, 6 malignant",
    ),
    ("slide faults/imagej-micron/fiji.tif", 0, f"(260, 200) 1 (0.4, 0.4) {RED}"),
    ("models import faults/models-circular-advice/timm.safetensors --mpp 0.5", 2, "save the state dict of a whole one"),
    ("models import faults/models-circular-advice/lightning.ckpt --mpp 0.5", 2, "save the state dict of a whole one"),
    ("models import faults/models-empty-class/tiny.pth --mpp 0.5 --classes benign,", 2, "name must not be empty"),
    (ANALYZE.format("faults/mpp-in-millimetres/field.png --mpp 0.00025"), 2, "give micrometres per pixel, 0.02 to 20"),
    (ANALYZE.format("faults/mpp-in-millimetres/field.png --mpp 1e-300"), 2, "give micrometres per pixel, 0.02 to 20"),
    ("info faults/objective-power-absurd/power-inf.svs", 0, '"mpp": null'),
    (ANALYZE.format("faults/objective-power-absurd/power-inf.svs"), 2, NO_MPP),
    ("info faults/objective-power-absurd/power-negative.svs", 0, '"mpp": null'),
    ("info faults/objective-power-absurd/power-1e9.svs", 0, '"mpp": null'),
    ("info faults/objective-power-absurd/power-0.001.svs", 0, '"mpp": null'),
    ("slide faults/ome-label-first/label-first-tiled.ome.tif", 0, f"(800, 600) 1 (0.4, 0.4) {RED}"),
    ("slide faults/ome-label-first/label-first-strips.ome.tif", 0, f"(800, 600) 1 (0.4, 0.4) {RED}"),
    ("slide faults/ome-planes-grey/rgb-planes.ome.tif", 0, f"(400, 300) 1 (0.4, 0.4) {RED}"),
    ("slide faults/ome-planes-grey/five-stains.ome.tif", 2, "a slide is 8-bit RGB or grey"),
    ("slide faults/ome-planes-grey/focus.ome.tif", 2, "a slide is 8-bit RGB or grey"),
    ("slide faults/ome-tiled/pyramid.ome.tif", 0, f"(800, 600) 3 (0.4, 0.4) {RED}"),
    ("slide faults/ome-tiled/nm.ome.tif", 0, f"(800, 600) 1 (0.4, 0.4) {RED}"),
    ("slide faults/ome-tiled/strips.ome.tif", 0, f"(800, 600) 1 (0.4, 0.4) {RED}"),
    ("info faults/png-larger-than-179-megapixels/large.png", 0, '"width": 14000'),
    ("photograph faults/png-larger-than-179-megapixels/large.png", 0, "(3, 13000, 14000)"),
    (
        "evaluate untrained --dataset folder --root faults/png-larger-than-179-megapixels/set --mpp 0.4",
        2,
        "the same picture in two classes",
    ),
    (
        FINETUNE.format("faults/qupath-bounds-offset/one.scn", "faults/qupath-bounds-offset/one.qupath.geojson"),
        0,
        "train: 3 benign, 6 malignant",
    ),
    (
        FINETUNE.format("faults/qupath-bounds-offset/one.scn", "faults/qupath-bounds-offset/one.glass.geojson"),
        2,
        "no tile is labelled",
    ),
    ("slide faults/tiff-strip-colours/cmyk.tif", 0, RED),
    ("slide faults/tiff-strip-colours/palette.tif", 0, RED),
    ("slide faults/tiff-strip-colours/ycbcr.tif", 0, "[199, 39, 39]"),  # as Pillow and libtiff have it
    ("slide faults/tiff-strip-colours/miniswhite.tif", 0, GREY),
    ("info faults/tiff-tiled-codecs/webp.tif", 0, '"width"'),
    ("info faults/tiff-tiled-codecs/webp-strips.tif", 0, '"width"'),
    ("info faults/tiff-tiled-codecs/jpeg2000.tif", 0, '"width"'),
    ("info faults/tiff-tiled-codecs/jpegxl.tif", 0, '"width"'),
    ("info faults/tiff-tiled-codecs/lzma.tif", 0, '"width"'),
    ("folder faults/train-hidden-folders/notebook", 0, SIX),
    ("folder faults/train-hidden-folders/nas", 0, SIX),
    ("folder faults/train-hidden-folders/copies", 0, SIX),
    ("photograph faults/train-other-pixels/transparent.png", 0, "[255, 255, 255]"),
    ("slide faults/train-other-pixels/transparent.png", 0, "[255, 255, 255]"),
    ("photograph faults/train-other-pixels/float.tif", 2, "a slide is 8-bit RGB or grey"),
    ("slide faults/train-other-pixels/float.tif", 2, "a slide is 8-bit RGB or grey"),
    (
        "train --dataset folder --root faults/train-split-layout/set --out OUT",
        2,
        "“train” and “test” look like parts of a data set, not like classes; give --root",
    ),
    ("folder faults/train-split-layout/set/train", 0, SIX),
    ("regions right/geojson-forms/bom-crlf.geojson", 0, "1 0 ['Tumör 腫瘍: CD3'] areas [90000]"),
    ("regions right/geojson-forms/collection.geojson", 0, "1 0 ['benign'] areas [90000]"),
    ("regions right/geojson-forms/list.geojson", 0, "1 0 ['benign'] areas [90000]"),
    ("regions right/geojson-forms/feature.geojson", 0, "1 0 ['benign'] areas [90000]"),
    ("regions right/geojson-forms/geometry.geojson", 0, "1 0 [] areas [90000]"),
    (
        "regions right/geojson-forms/odd.geojson",
        0,
        "4 5 ['hole', 'bow tie', 'old'] areas [90000, 200000, 45000, 90000]",
    ),
    ("slide right/png-kinds/palette.png", 0, "[204, 0, 0]"),
    ("slide right/png-kinds/grey.png", 0, GREY),
    ("slide right/png-kinds/grey-alpha.png", 0, GREY),
    ("slide right/png-kinds/rgb16.png", 0, RED),
    ("slide right/png-kinds/trns.png", 0, RED),
    ("slide right/png-kinds/cmyk.jpg", 0, RED),
    ("slide right/png-kinds/jpeg-named.png", 0, RED),
    ("slide right/png-kinds/grey16.png", 2, "convert the picture to 8-bit RGB"),
    ("info right/svs-mpp-absurd/zero.svs", 0, '0.25 ], "mpp_source": "objective power"'),
    ("info right/svs-mpp-absurd/negative.svs", 0, '0.25 ], "mpp_source": "objective power"'),
    ("info right/svs-mpp-absurd/25400.svs", 0, '0.25 ], "mpp_source": "objective power"'),
    ("info right/svs-mpp-absurd/comma.svs", 0, '0.2527 ], "mpp_source": "file"'),
    ("info right/svs-mpp-absurd/20x.svs", 0, '"mpp": null'),
    ("info right/svs-mpp-absurd/nan.svs", 0, '"mpp": null'),
    ("slide right/tiff-resolution-units/inch.tif", 0, f"(0.5, 0.5) {RED}"),
    ("slide right/tiff-resolution-units/inch-strips.tif", 0, f"(0.5, 0.5) {RED}"),
    ("slide right/tiff-resolution-units/cm.tif", 0, f"(0.5, 0.25) {RED}"),
    ("slide right/tiff-resolution-units/cm-strips.tif", 0, f"(0.5, 0.25) {RED}"),
    ("slide right/tiff-resolution-units/none.tif", 0, f"None {RED}"),
    ("slide right/tiff-resolution-units/none-strips.tif", 0, f"None {RED}"),
    ("folder right/training-folder-files/set", 0, "('benign', 'malignant') 9 ['p0', 'p1', 'p2', 'p4', 'p5'] True"),
    ("folder right/training-folder-files/set/benign", 0, "('p0', 'p1', 'p2', 'p4')"),
    ("folder right/training-folder-files/set/benign/p0", 2, "for each of at least two classes"),
    ("models show hostile/cardnum.safetensors", 2, "its model card: damaged"),
    (
        "analyze faults/imagej-micron/fiji.tif --model hostile/trunk-of-long.safetensors --out OUT",
        2,
        "which must lie in the same folder",
    ),
    (
        "analyze faults/imagej-micron/fiji.tif --model hostile/trunk-of-itself.safetensors --out OUT",
        2,
        "its trunk is said to be that of itself",
    ),
    (
        FINETUNE.format("faults/geojson-region-star/slide.png --mpp 0.405", "hostile/bigint.geojson"),
        2,
        "1 of 30 features cannot be read as regions: feature 1 (a corner is not a finite number",
    ),
    (
        ANALYZE.format("faults/geojson-region-star/slide.png --mpp 0.405 --region hostile/zigzag-20001-points.geojson"),
        2,
        "its outline crosses itself too often, at most 3,000 times",
    ),
]


@pytest.fixture
def dala(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Dala:
    """Run `dala` here; its exit code, and all that it printed."""

    def run(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["dala", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), "\n".join(capsys.readouterr())

    return run


def _named(command: str, code: int, must: str) -> object:
    path = next(part for part in command.replace(" --model hostile", " hostile").split()[::-1] if "/" in part)
    return pytest.param(command, code, must, id=f"{command.split()[0]} {path}")


@pytest.mark.parametrize(("command", "code", "must"), [_named(*row) for row in COMMANDS])
def test_case(
    command: str,
    code: int,
    must: str,
    shared_cases: Path,
    dala: Dala,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(shared_cases)
    name, *arguments = shlex.split(command)
    if name in PYTHON:
        try:
            ended, printed = 0, PYTHON[name](*arguments)
        except DalaError as error:
            ended, printed = 2, str(error)
            assert "\n" not in printed
    else:
        ended, printed = dala(name, *[tmp_path / "out" if part == "OUT" else part for part in arguments])
        if ended:
            assert "Error: " in printed or printed.strip().splitlines()[-1].startswith("dala: ")
    assert "Traceback" not in printed
    assert ended == code, printed
    assert must in " ".join(printed.split())


def test_levels_of_odd_downsamples_lie_where_they_should(shared_cases: Path) -> None:
    """faults/level-shift-at-corner: red encodes x, green y."""
    with open_slide(shared_cases / "faults/level-shift-at-corner/deflate.tif") as opened:
        width, height = opened.dimensions
        for mpp, level in ((0.1, 0), (0.405, 1), (1.6, 2)):
            grid = TileGrid.over(opened, 256, mpp)
            for row, column in {(0, 0), (max(0, grid.shape[0] - 2), max(0, grid.shape[1] - 2))}:
                tile = read_tiles(opened, grid, row, column, 1, 1).astype(float)
                x = column * grid.stride[0] + (np.arange(256) + 0.5) * grid.scale[0]
                y = row * grid.stride[1] + (np.arange(256) + 0.5) * grid.scale[1]
                across, down = (x > 20) & (x < width - 20), (y > 20) & (y < height - 20)
                red, green = tile[down][:, across, 0], tile[down][:, across, 1]
                shift_x = np.median(red - ((x[across] - 0.5) * 255 / width - 0.5)) * width / 255
                shift_y = np.median(green - ((y[down] - 0.5) * 255 / height - 0.5)[:, None]) * height / 255
                assert max(abs(shift_x), abs(shift_y)) < opened.levels[level].downsample / 2 + 0.5


INKS = {
    "pure blue": (0, 0, 255),
    "navy": (20, 40, 160),
    "royal blue": (65, 105, 225),
    "ball pen": (60, 80, 200),
    "blue": (40, 60, 190),
    "dark blue": (40, 50, 140),
    "cyan": (30, 150, 210),
    "green": (30, 140, 70),
    "black": (30, 30, 32),
    "red": (200, 30, 40),
    "orange": (240, 140, 30),
    "yellow": (240, 225, 60),
    "brown": (120, 70, 40),
}


@pytest.mark.parametrize("ink", INKS.values(), ids=INKS)
def test_a_stroke_of_pen_is_no_tissue(ink: tuple[int, int, int]) -> None:
    """faults/pen-colours: a drawn disc of tissue with one stroke above it."""
    y, x = np.mgrid[:800, :800]
    disc, stroke = (x - 400) ** 2 + (y - 400) ** 2 < 150**2, (abs(y - 100) < 14) & (x > 100) & (x < 700)
    picture = np.full((800, 800, 3), 244.0)
    picture[disc] = (220, 150, 190)
    picture = np.clip(picture + np.random.default_rng(0).normal(0, 3, picture.shape), 0, 255).astype(np.uint8)
    picture[stroke] = ink
    found = tissue_in(picture)
    assert (found[stroke].mean(), found[disc].mean()) == pytest.approx((0, 1), abs=0.01)


def test_a_turned_tiff_is_turned_as_a_whole(shared_cases: Path) -> None:
    """faults/tiff-orientation-scrambled."""
    place = shared_cases / "faults/tiff-orientation-scrambled"
    with open_slide(place / "straight.tif") as straight, open_slide(place / "turned.tif") as turned:
        stored = straight.read(0, 0, *straight.dimensions)
        np.testing.assert_array_equal(turned.read(0, 0, *turned.dimensions), stored[::-1, ::-1])


@pytest.mark.parametrize("name", ["deflate.tif", "jpeg.tif"])
def test_a_sparse_tile_is_white(shared_cases: Path, name: str) -> None:
    """right/sparse-tiles: tile (1, 1) is not stored."""
    with open_slide(shared_cases / "right/sparse-tiles" / name) as opened:
        width, height = opened.levels[0].tile
        pixels = opened.read(0, 0, *opened.dimensions)
        inside = pixels[height : 2 * height, width : 2 * width]
        assert (inside == 255).all()
        for beside in (
            pixels[:height, :width],
            pixels[height : 2 * height, :width],
            pixels[:height, width : 2 * width],
        ):
            assert beside.mean() < 250


def test_pictures_of_equal_ends_have_results_of_their_own(shared_cases: Path, dala: Dala, tmp_path: Path) -> None:
    """faults/fingerprint-same-ends."""
    files = [shared_cases / "faults/fingerprint-same-ends" / f"patient{name}.bmp" for name in "AB"]
    fingerprints = []
    for file in files:
        code, printed = dala("info", file)
        fingerprints.append(json.loads(printed)["fingerprint"])
    assert len(set(fingerprints)) == 2
    code, printed = dala(*ANALYZE.replace("{}", "").replace("OUT", str(tmp_path)).split(), *files, "--mpp", 0.4)
    assert code == 0, printed
    found = [Analysis.open(store.parent) for store in sorted(tmp_path.rglob("analysis.zarr"))]
    assert {analysis.store.setting.fingerprint for analysis in found} == set(fingerprints)
    assert not np.array_equal(found[0].store.read("features"), found[1].store.read("features"))


def test_a_truncated_picture_is_one_line(shared_cases: Path, tmp_path: Path, dala: Dala) -> None:
    """right/training-folder-files, with one picture cut short."""
    held = shutil.copytree(shared_cases / "right/training-folder-files/set", tmp_path / "set")
    cut = held / "benign/p0/0.png"
    cut.write_bytes(cut.read_bytes()[:3000])
    code, printed = dala("evaluate", "untrained", "--dataset", "folder", "--root", held, "--mpp", 0.4)
    assert (code, "Traceback" in printed) == (2, False)
    assert "0.png" in printed.strip().splitlines()[-1]


def test_a_job_that_names_a_command_never_runs_it(shared_cases: Path, tmp_path: Path) -> None:
    """hostile/job-that-runs-a-command."""
    workspace = Path(os.environ["DALA_WORKSPACE"])
    place = workspace / ("0" * 32) / "jobs"
    shutil.copytree(shared_cases / "hostile/job-that-runs-a-command", place / "job")
    (job,) = jobs_in(place)
    job.resume()
    assert job.wait(60) == "failed"
    assert not [path for top in (tmp_path, workspace, Path.cwd()) for path in top.rglob("this-command-ran")]


def test_a_bundle_that_cannot_be_read_spares_the_others(shared_cases: Path, workspace: Path, dala: Dala) -> None:
    """hostile/cardnum.safetensors, hostile/trunk-of-*.safetensors among the user's models."""
    (workspace / "models").mkdir()
    for file in (shared_cases / "hostile").glob("*.safetensors"):
        shutil.copy(file, workspace / "models")
    code, printed = dala("models", "list")
    assert code == 0, printed
    assert "untrained" in printed
    assert "cardnum" in printed


def test_damaged_annotations_are_set_aside(shared_cases: Path, workspace: Path) -> None:
    """hostile/bigint.geojson as what was drawn on a slide: one region is named; cut off, the file is set aside."""
    fingerprint = "0" * 32
    slide_folder(fingerprint).mkdir(parents=True, exist_ok=True)
    path = annotations_path(fingerprint)
    hostile = (shared_cases / "hostile/bigint.geojson").read_bytes()
    path.write_bytes(hostile)
    document = load_for(fingerprint)
    assert document is not None
    assert len(document.annotations) == 29
    assert "feature 1" in document.notes[0]
    path.write_bytes(hostile[:-9])
    with pytest.raises(AnnotationError, match="damaged, not JSON") as refused:
        load_for(fingerprint)
    assert "\n" not in str(refused.value)
    assert set_aside(fingerprint).read_bytes() == hostile[:-9]
    assert load_for(fingerprint) is None


def test_a_slide_that_declares_too_much_is_one_line(shared_cases: Path, tmp_path: Path, dala: Dala) -> None:
    """hostile/declares-1e6x1e6.svs.gz."""
    path = tmp_path / "declares.svs"
    path.write_bytes(gzip.decompress((shared_cases / "hostile/declares-1e6x1e6.svs.gz").read_bytes()))
    code, printed = dala(*ANALYZE.format(path).replace("OUT", str(tmp_path / "out")).split())
    assert (code, "at most 34 gigapixels" in printed) == (2, True)


def test_what_is_damaged_of_a_store_is_named(shared_cases: Path, tmp_path: Path) -> None:
    """hostile/damaged-stores.tar.gz: the store of a slide that is not here, with a chunk emptied."""
    with tarfile.open(shared_cases / "hostile/damaged-stores.tar.gz") as packed:
        packed.extraction_filter = lambda member, _: member  # the file is ours, and Python 3.11.3 knows no "data"
        packed.extractall(tmp_path)
    (chunk,) = tmp_path.glob("good/analysis.zarr/*/*/cam/c/0/0/0")
    chunk.write_bytes(b"")
    analysis = Analysis.open(tmp_path / "good")
    analysis.store.read_cams()
    assert any("cam" in line for line in analysis.store.damaged), analysis.store.damaged
    next(tmp_path.glob("good/analysis.zarr/*/status/zarr.json")).write_bytes(b"")
    with pytest.raises(DalaError, match=r"analysis\.zarr: "):
        Analysis.open(tmp_path / "good")


@pytest.mark.parametrize("damage", ["cam/c/0/0/0", "status/zarr.json"])
def test_a_damaged_store_is_mended_and_the_other_slides_are_analysed(
    drawn_slide: Path, tmp_path: Path, dala: Dala, damage: str
) -> None:
    """hostile/damaged-stores.tar.gz, with a slide that is here."""
    other = tmp_path / "other.tif"
    shutil.copy(drawn_slide, other)
    with other.open("ab") as file:
        file.write(b"\0")
    command = [*ANALYZE.replace("{}", "").replace("OUT", str(tmp_path / "out")).split(), drawn_slide]
    code, printed = dala(*command)
    assert code == 0, printed
    (store,) = (tmp_path / "out").rglob("analysis.zarr")
    before = Analysis.open(store.parent)
    next(iter(sorted(store.rglob(damage)))).write_bytes(b"")
    code, printed = dala(*command, other)
    assert code == 0, printed
    assert "damaged" in printed
    assert len(list((tmp_path / "out").rglob("analysis.zarr"))) == 2
    after = Analysis.open(store.parent)
    for name in ("features", "cam", "probability", "status"):
        np.testing.assert_array_equal(after.store.read(name), before.store.read(name))


def test_every_case_is_here(shared_cases: Path) -> None:
    """A case that is added to the folder is added here."""
    text = Path(__file__).read_text(encoding="utf-8")
    named = [f"{kind}/{case.name}" for kind in ("faults", "right") for case in (shared_cases / kind).iterdir()]
    named += [f"hostile/{case.name}" for case in (shared_cases / "hostile").iterdir() if case.suffix != ".md"]
    folded = text.replace("trunk-of-*", "trunk-of-long")
    assert not [case for case in named if case not in folded]
