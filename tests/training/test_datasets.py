from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_dala.errors import DatasetError
from napari_dala.training.datasets import BREAKHIS_SUBTYPES, breakhis_mpp, load_dataset

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
    assert every.mpp is None
    assert Counter(every.labels.tolist()) == {0: 6, 1: 4}
    assert set(every.patients) == {"22549", "21998", "4659", "13412", "10147", "15687"}
    assert every.patients_known

    at_100 = load_dataset("breakhis", root, magnification=100)
    assert len(at_100) == 7
    assert at_100.name == "breakhis-100x"
    assert at_100.mpp == 0.197
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
    assert breakhis_mpp(40) == pytest.approx(0.4925)
    assert breakhis_mpp(400) == pytest.approx(0.04925)


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
    assert dataset.mpp == 0.197
    assert load_dataset("breakhis", root) == dataset
    assert len(load_dataset("breakhis", root, subtypes=True).classes) == 7


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
        ("folder", ["only/1.png", "2.png"], {}, "at least two classes, found 2 images and the folders only"),
        ("imagenet", ["a/1.png"], {}, "no such kind of data set; there are breakhis, bach, mini-ddsm, folder"),
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
