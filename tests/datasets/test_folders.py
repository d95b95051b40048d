from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from napari_dala.datasets.folders import BREAKHIS_SUBTYPES, breakhis_mpp, load_dataset
from napari_dala.datasets.images import joined_datasets
from napari_dala.errors import DatasetError

if TYPE_CHECKING:
    from pathlib import Path

BREAKHIS = [
    "benign/SOB/adenosis/SOB_B_A_14-22549AB/40X/SOB_B_A-14-22549AB-40-001.png",
    "benign/SOB/adenosis/SOB_B_A_14-22549AB/100X/SOB_B_A-14-22549AB-100-001.png",
    "benign/SOB/adenosis/SOB_B_A_14-22549CD/100X/SOB_B_A-14-22549CD-100-002.jpg",
    "benign/SOB/fibroadenoma/SOB_B_F_14-21998CD/100X/SOB_B_F-14-21998CD-100-001.tif",
    "benign/SOB/phyllodes_tumor/SOB_B_PT_14-21998AB/100X/SOB_B_PT-14-21998AB-100-001.png",
    "benign/SOB/tubular_adenoma/SOB_B_TA_14-4659/200X/SOB_B_TA-14-4659-200-014.png",
    "malignant/SOB/ductal_carcinoma/SOB_M_DC_14-13412/100X/SOB_M_DC-14-13412-100-001.png",
    "malignant/SOB/lobular_carcinoma/SOB_M_LC_14-13412/100X/SOB_M_LC-14-13412-100-001.JPEG",
    "malignant/SOB/mucinous_carcinoma/SOB_M_MC_14-10147/400X/SOB_M_MC-14-10147-400-001.png",
    "malignant/SOB/papillary_carcinoma/SOB_M_PC_14-15687B/100X/SOB_M_PC-14-15687B-100-001.png",
]
BACH = ["Benign/b001.tif", "Benign/b002.tif", "InSitu/is001.tif", "Invasive/iv001.tif", "Normal/n001.tif"]
UCSB = [
    "benign/ytma10_010704_benign1_ccd.jpg",
    "benign/ytma12_010804_benign2_ccd.jpg",
    "malignant/ytma10_010704_malignant1_ccd.jpg",
]
MINI_DDSM = [
    "Benign/0029/C_0029_1.LEFT_CC.png",
    "Benign/0029/C_0029_1.RIGHT_MLO.png",
    "Benign/0029/C_0029_1.LEFT_CC_Mask.png",
    "Benign/0029/C_0029_1.LEFT_CC_Mask2.png",
    "Benign/0029/C-0029-1.ics",
    "Cancer/0045/C_0045_1.RIGHT_MLO.png",
    "Normal/0002/A_0002_1.LEFT_MLO.jpg",
]


def tree(root: Path, names: list[str]) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def test_breakhis_by_name(tmp_path: Path) -> None:
    root = tree(tmp_path / "BreaKHis_v1", [f"histology_slides/breast/{name}" for name in BREAKHIS])
    every = load_dataset("breakhis", root)
    assert every.classes == ("benign", "malignant")
    assert len(every) == len(BREAKHIS)
    assert every.mpp == breakhis_mpp(40)  # the coarsest
    assert Counter(every.labels.tolist()) == {0: 6, 1: 4}
    assert set(every.patients) == {"22549", "21998", "4659", "13412", "10147", "15687"}
    assert every.patients_known

    at_100 = load_dataset("breakhis", root, magnification=100)
    assert len(at_100) == 7
    assert at_100.name == "breakhis-100x"
    assert at_100.mpp == 0.65
    assert {image.magnification for image in at_100.images} == {100}
    assert {image.group for image in at_100.images if image.patient == "22549"} == {"14-22549AB", "14-22549CD"}
    filed_twice = {image.subtype for image in at_100.images if image.patient == "13412"}
    assert filed_twice == {"ductal_carcinoma", "lobular_carcinoma"}
    assert "malignant 3 of 2 patients" in at_100.summary


def test_breakhis_subtypes(tmp_path: Path) -> None:
    root = tree(tmp_path, BREAKHIS)
    every = load_dataset("breakhis", root, subtypes=True)
    assert every.classes == tuple(BREAKHIS_SUBTYPES.values())
    assert [every.classes[image.label] for image in every.images] == [image.subtype for image in every.images]
    at_100 = load_dataset("breakhis", root, subtypes=True, magnification=100)
    assert "tubular_adenoma" not in at_100.classes  # there is none at 100X here
    assert sorted(set(at_100.labels)) == list(range(len(at_100.classes)))


def test_breakhis_pixels_are_in_proportion_to_the_magnification() -> None:
    assert breakhis_mpp(40) == pytest.approx(1.625)
    assert breakhis_mpp(400) == pytest.approx(0.1625)


def test_copies_of_an_image_count_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    name = "SOB_B_A-14-22549AB-100-001.png"
    root = tree(tmp_path, [*BREAKHIS, f"fold1/train/100X/{name}", f"fold2/test/100X/{name}", "fold1/notes.png"])
    assert len(load_dataset("breakhis", root)) == len(BREAKHIS)
    assert "2 further copies" in caplog.text
    assert "1 images without a BreakHis name" in caplog.text


def test_breakhis_here(shared_data: Path) -> None:
    root = shared_data / "breakhis-100x"
    dataset = load_dataset("breakhis", root, magnification=100)
    assert len(dataset) == 348
    assert np.bincount(dataset.labels).tolist() == [184, 164]
    assert [len(set(dataset.patients[dataset.labels == label])) for label in (0, 1)] == [5, 13]
    assert dataset.mpp == 0.65
    assert load_dataset("breakhis", root) == dataset
    assert len(load_dataset("breakhis", root, subtypes=True).classes) == 7


@pytest.mark.parametrize(("size", "mpp"), [((700, 460), 0.65), ((500, 328), 0.91), ((460, 460), 0.65)])
def test_a_resized_photograph_has_larger_pixels(size: tuple[int, int], mpp: float, tmp_path: Path) -> None:
    images = load_dataset("breakhis", tree(tmp_path, BREAKHIS), magnification=100).images
    assert images[0].mpp_at(*size) == pytest.approx(mpp)


def test_ucsb(tmp_path: Path, shared_data: Path) -> None:
    root = tree(tmp_path, [*UCSB, "notes/plan.png"])
    dataset = load_dataset("ucsb", root)
    assert (dataset.name, dataset.classes, dataset.mpp) == ("ucsb", ("benign", "malignant"), 0.25)
    assert dataset.labels.tolist() == [0, 0, 1]
    assert len(set(dataset.patients)) == 3
    by_array = load_dataset("ucsb", root, group="array")
    assert by_array.patients.tolist() == ["ytma10", "ytma12", "ytma10"]
    here = load_dataset("ucsb", shared_data / "ucsb-breast")
    assert np.bincount(here.labels).tolist() == [23, 23]


def test_parts_of_one_data_set_are_joined(shared_data: Path) -> None:
    parts = [load_dataset("breakhis", shared_data / name) for name in ("breakhis-100x", "breakhis-more")]
    whole = joined_datasets([*parts, parts[0]])
    assert len(whole) == 348 + 225
    assert len(set(whole.patients)) < sum(len(set(part.patients)) for part in parts)  # some are in both
    assert whole.labels.sum() == sum(part.labels.sum() for part in parts)


def test_classes_of_several_data_sets(tmp_path: Path) -> None:
    one = load_dataset("folder", tree(tmp_path / "lung", ["aca/1.png", "n/1.png"]))
    other = load_dataset("folder", tree(tmp_path / "colon", ["N/1.png", "scc/1.png"]))
    both = joined_datasets([one, other])
    assert both.classes == ("aca", "n", "scc")
    assert both.labels.tolist() == [0, 1, 1, 2]
    assert both.mpp is None
    assert both.with_mpp(0.5).mpp == 0.5
    assert joined_datasets([one]) is one


def test_copies_that_were_turned_are_one_group(tmp_path: Path, shared_data: Path) -> None:
    originals = [image.path for image in load_dataset("breakhis", shared_data / "breakhis-100x").images[::40]]
    for number, path in enumerate(originals):
        square = Image.open(path).crop((100, 0, 560, 460)).resize((224, 224))
        for turn in range(4):
            name = tmp_path / ("a" if number % 2 else "b") / f"{number}-{turn}.png"
            name.parent.mkdir(exist_ok=True)
            square.rotate(90 * turn).save(name)
    dataset = load_dataset("folder", tmp_path, group="likeness")
    groups: dict[str, set[str]] = {}
    for image in dataset.images:
        groups.setdefault(image.path.stem.split("-")[0], set()).add(image.patient)
    assert all(len(found) == 1 for found in groups.values())
    assert len(set(dataset.patients)) == len(originals)


def test_a_files_name_begins_with_its_patient(tmp_path: Path, shared_data: Path) -> None:
    names = ["benign/p01_train_1.png", "benign/p02_1.png", "malignant/p01_testA_3.png"]
    dataset = load_dataset("folder", tree(tmp_path, names), group="prefix")
    assert dataset.patients_known
    assert dataset.patients.tolist() == ["p01", "p02", "p01"]  # both fields of p01 on one side of a split
    glas = load_dataset("folder", shared_data / "glas-colon", group="prefix")
    assert (len(glas), len(set(glas.patients))) == (165, 16)


@pytest.mark.parametrize("inside", ["", "ICIAR2018_BACH_Challenge/Photos"])
def test_bach(tmp_path: Path, inside: str) -> None:
    root = tree(tmp_path, [f"{inside}/{name}".lstrip("/") for name in BACH] + ["WSI/A01.tif", "Benign/._b001.tif"])
    dataset = load_dataset("bach", root)
    assert dataset.classes == ("Benign", "InSitu", "Invasive", "Normal")
    assert np.bincount(dataset.labels).tolist() == [2, 1, 1, 1]
    assert dataset.mpp == 0.42
    assert not dataset.patients_known
    assert len(set(dataset.patients)) == len(dataset)
    assert "unknown patients" in dataset.summary


@pytest.mark.parametrize("inside", ["", "MINI-DDSM-Complete-PNG-16"])
def test_mini_ddsm(tmp_path: Path, inside: str) -> None:
    dataset = load_dataset("mini-ddsm", tree(tmp_path, [f"{inside}/{name}".lstrip("/") for name in MINI_DDSM]))
    assert dataset.classes == ("Normal", "Benign", "Cancer")
    found = [(image.path.name, image.label, image.patient) for image in dataset.images]
    assert found == [
        ("C_0029_1.LEFT_CC.png", 1, "0029"),
        ("C_0029_1.RIGHT_MLO.png", 1, "0029"),
        ("C_0045_1.RIGHT_MLO.png", 2, "0045"),
        ("A_0002_1.LEFT_MLO.jpg", 0, "0002"),
    ]
    assert dataset.mpp is None


def test_mini_ddsm_takes_each_mammogram_once_and_the_case_from_flat_names(tmp_path: Path) -> None:
    flat = ["Normal/A_0002_1.LEFT_CC.png", "Benign/C_0029_1.LEFT_CC.png", "Cancer/C_0045_1.LEFT_CC.png"]
    root = tree(tmp_path, [*(f"png/{name}" for name in flat), *(f"jpg/{name[:-3]}jpg" for name in flat)])
    assert load_dataset("mini-ddsm", root).patients.tolist() == ["0029", "0045", "0002"]
    tree(tmp_path, ["png/Normal/scan.png"])
    with pytest.raises(DatasetError, match=r"scan\.png, of which the case is not known"):
        load_dataset("mini-ddsm", root)


def test_class_folders(tmp_path: Path) -> None:
    root = tree(tmp_path / "mine", ["tumour/p1/a.png", "tumour/p2/slide 3/b.png", "stroma/p1/c.jpg", "stray.png"])
    dataset = load_dataset("folder", root)
    assert (dataset.name, dataset.classes) == ("mine", ("stroma", "tumour"))
    assert dataset.labels.tolist() == [0, 1, 1]
    assert dataset.patients.tolist() == ["p1", "p1", "p2"]  # one patient, in both classes
    assert [image.group for image in dataset.images] == ["stroma/p1/c.jpg", "tumour/p1/a.png", "p2/slide 3"]
    assert dataset.patients_known


def test_class_folders_without_patients(tmp_path: Path) -> None:
    dataset = load_dataset("folder", tree(tmp_path, ["a/1.png", "a/2.png", "b/1.png", "b/p1/2.png"]))
    assert not dataset.patients_known
    assert len(set(dataset.patients)) == 4


@pytest.mark.parametrize(
    ("kind", "names", "options", "message"),
    [
        ("breakhis", [], {}, "expected BreakHis images named like .*, found 0 images and no folder"),
        ("breakhis", ["a/1.png", "b/2.png"], {}, "found 2 images and the folders a, b"),
        ("breakhis", BREAKHIS[:3], {}, "expected images of the classes benign, malignant, found 3 benign and no malig"),
        ("breakhis", BREAKHIS[:3], {"subtypes": True}, "found only adenosis"),
        ("breakhis", BREAKHIS[1:3], {"magnification": 40}, "no image at 40X, found 100X"),
        ("breakhis", BREAKHIS, {"magnification": 20}, "has 40, 100, 200 and 400X, not 20X"),
        ("bach", BACH[:4], {}, "found 2 Benign, 1 InSitu, 1 Invasive and no Normal"),
        ("bach", ["x/1.tif"], {}, "classes Benign, InSitu, Invasive, Normal, found 1 images and the folders x"),
        ("bach", BACH, {"magnification": 100}, "only breakhis has magnifications"),
        ("mini-ddsm", MINI_DDSM[:5], {}, "found 2 Benign and no Normal, Cancer"),
        ("ucsb", ["benign/a.jpg"], {}, "expected UCSB fields named like ytma10_010704_benign1_ccd.tif, found 1 images"),
        ("ucsb", UCSB[:1], {}, "found 1 benign and no malignant"),
        ("ucsb", UCSB, {"group": "likeness"}, "ucsb cannot be grouped by likeness; there are ucsb by file or array"),
        ("bach", BACH, {"group": "file"}, "bach cannot be grouped by file"),
        ("folder", ["only/1.png", "2.png"], {}, "at least two classes, found 2 images and the folders only"),
        ("folder", ["a/p1_1.png", "b/1.png"], {"group": "prefix"}, "1.png: expected a name like PATIENT_1.png"),
        ("imagenet", ["a/1.png"], {}, "no such kind of data set; there are breakhis, ucsb, bach, mini-ddsm"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    tmp_path: Path, kind: str, names: list[str], options: dict[str, int], message: str
) -> None:
    with pytest.raises(DatasetError, match=message) as caught:
        load_dataset(kind, tree(tmp_path, names), **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="there is no such folder"):
        load_dataset("bach", tmp_path / "gone")


def test_folders_of_one_name_are_two_data_sets_and_patients_are_known_again(tmp_path: Path) -> None:
    sets = [load_dataset("folder", tree(tmp_path / site / "train", ["a/7/1.png", "b/8/1.png"])) for site in "xy"]
    both = joined_datasets(sets)
    assert both.name == "train+train 2"
    assert len(set(both.patients)) == 4
    assert set(both.sources) == {"train", "train 2"}
    assert [image.identity for image in both.images] == ["7", "8"] * 2  # as a card knows them
    assert str(tmp_path) not in " ".join(both.patients)
    ucsb = tree(tmp_path / "ucsb", UCSB)
    by_array, by_file = (load_dataset("ucsb", ucsb, group=group) for group in ("array", "file"))
    assert [image.identity for image in by_array.images] == [image.identity for image in by_file.images]
    parts = [
        load_dataset("breakhis", tree(tmp_path / str(n), BREAKHIS), magnification=m) for n, m in ((1, 100), (2, None))
    ]
    assert len(set(joined_datasets(parts).patients)) == 6  # one cohort, whatever the sets are called


TOOL_FOLDERS = [".git", ".ipynb_checkpoints", "@eaDir", "__MACOSX", "$RECYCLE.BIN", "System Volume Information"]


@pytest.mark.parametrize("tool", TOOL_FOLDERS)
@pytest.mark.parametrize("kind", ["folder", "bach"])
def test_folders_of_tools_are_not_entered(tmp_path: Path, kind: str, tool: str) -> None:
    right = ["Benign/p0/1.png", "InSitu/p1/2.png", "Invasive/p1/3.png", "Normal/p2/4.png"]
    root = tree(tmp_path / ".data", right)
    expected = load_dataset(kind, root)  # type: ignore[arg-type]
    tree(
        root, [f"{tool}/a.png", f"Benign/{tool}/1.png", f"Benign/p0/{tool}/1.png/THUMB.jpg", f"{tool}/Benign/p9/x.png"]
    )
    assert load_dataset(kind, root) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train/a/1.png", "train/b/2.png", "test/a/3.png", "test/b/4.png"], "“train” and “test” .*--root .*/train$"),
        (["Training set/a/1.png", "Val/b/2.png"], "“Val” and “Training set” look like parts"),
        (["train/a/1.png", "train/b/2.png"], "“train” look like parts of a data set, not like classes"),
        (["train/1.png", "test/2.png", "a/3.png"], "“train” and “test” look like parts"),
        (["fold1/a/1.png", "fold2/a/2.png"], "“fold2” and “fold1” look like parts"),
        (["a/train/1.png", "a/test/2.png", "b/train/3.png"], "“train” and “test” .*not like patients; put the folders"),
    ],
)
def test_parts_of_a_data_set_are_no_classes(tmp_path: Path, names: list[str], message: str) -> None:
    with pytest.raises(DatasetError, match=message) as caught:
        load_dataset("folder", tree(tmp_path, names))
    assert "\n" not in str(caught.value)


def test_names_that_only_resemble_parts_are_classes(tmp_path: Path) -> None:
    root = tree(tmp_path, ["testis/p1/1.png", "validated/p1/2.png", "trained by hand/p1/3.png"])
    assert len(load_dataset("folder", root).classes) == 3


def test_one_picture_in_two_classes_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tree(tmp_path, ["a/p1/1.png", "a/p2/2.png", "b/p3/3.png", "b/p4/4.png"])
    for number, name in enumerate(("a/p1/1.png", "a/p2/2.png", "b/p3/3.png")):
        (root / name).write_bytes(bytes(9000) + bytes([number]))  # alike in size and in the middle
    assert len(load_dataset("folder", root)) == 4
    assert not caplog.text
    (root / "a/p2/2.png").write_bytes((root / "a/p1/1.png").read_bytes())
    assert len(load_dataset("folder", root)) == 4
    assert "1 images lie there under more than one patient" in caplog.text
    (root / "b/p3/3.png").write_bytes((root / "a/p1/1.png").read_bytes())
    with pytest.raises(DatasetError, match=r"a/p1/1\.png and b/p3/3\.png are the same picture in two classes"):
        load_dataset("folder", root)
