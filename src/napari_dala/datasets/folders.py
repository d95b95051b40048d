"""Labelled images in the folders that their publishers chose: BreakHis, UCSB, BACH, Mini-DDSM, plain class folders.

Paths and labels only; no pixel is read here.
"""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar, get_args

import numpy as np

from napari_dala.datasets.copies import check_copies
from napari_dala.datasets.images import ImageDataset, LabelledImage
from napari_dala.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


Item = TypeVar("Item")
Kind: TypeAlias = Literal["breakhis", "ucsb", "bach", "mini-ddsm", "folder"]
GroupBy: TypeAlias = Literal["file", "array", "likeness", "prefix"]

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"})
BREAKHIS_MAGNIFICATIONS = (40, 100, 200, 400)
BREAKHIS_SUBTYPES = {
    "B_A": "adenosis",
    "B_F": "fibroadenoma",
    "B_PT": "phyllodes_tumor",
    "B_TA": "tubular_adenoma",
    "M_DC": "ductal_carcinoma",
    "M_LC": "lobular_carcinoma",
    "M_MC": "mucinous_carcinoma",
    "M_PC": "papillary_carcinoma",
}
_BREAKHIS_NAME = re.compile(
    r"SOB_(?P<subtype>B_(?:A|F|PT|TA)|M_(?:DC|LC|MC|PC))"
    r"-(?P<slide>\d+-(?P<patient>\d+)[A-Z]*)-(?P<magnification>40|100|200|400)-\d+"
)
GROUPS: dict[str, tuple[str, ...]] = {"ucsb": ("file", "array"), "folder": ("likeness", "prefix")}
_BREAKHIS_PX = (700, 460)
_UCSB_NAME = re.compile(r"(?P<array>ytma\d+)_\d+_(?P<label>benign|malignant)\d+.*")
_DDSM_CASE = re.compile(r"[A-D]_(\d+)_\d+\.")

_TOOL_FOLDERS = frozenset({"__macosx", "__pycache__", "system volume information", "lost+found", "recycler", "thumbs"})
_PART = re.compile(
    r"(train|training|val|valid|validation|dev|test|testing|eval|fold)([ _-]*(set|data|images|split|\d+))?"
)

_log = logging.getLogger(__name__)


def load_dataset(
    kind: Kind,
    root: str | Path,
    *,
    magnification: int | None = None,
    subtypes: bool = False,
    group: GroupBy | None = None,
) -> ImageDataset:
    """List the labelled images under a folder.

    Parameters
    ----------
    kind
        - ``breakhis``: read from the file names ``SOB_B_TA-14-4659-40-001.png``, in whatever folders they lie. The
          patient is the number (4659), without the letters that tell its slides apart: 14-22549AB and 14-22549CD are
          one patient, as is 13412, filed under two subtypes.
        - ``ucsb``: fields of breast tissue cores (UCSB Bio-Segmentation benchmark), read from the file names
          ``ytma10_010704_benign1_ccd.tif``, in whatever folders they lie. The set is described as one patient a field,
          and states no pixel size: about 0.25 um, by the size of nuclei.
        - ``bach``: the photographs of ICIAR 2018, in folders Benign, InSitu, Invasive and Normal. The files do not
          name a patient (the organisers list some of them apart from the images), so each image stands alone.
        - ``mini-ddsm``: folders Normal, Benign and Cancer, in them one folder per case with its grey mammograms, such
          as ``Benign/0029/C_0029_1.LEFT_CC.png`` (8 bits a pixel: convert PNG of 16 first). This layout is taken from
          programs that read the set, not from the set itself. The case is the patient and its folder labels all four
          views: in Cancer the healthy breast too. Files with "mask" in their name are outlines of lesions and are left
          out.
        - ``folder``: ``root/class/image`` or ``root/class/patient/.../image``; a folder of the same name under two
          classes is one patient. Folders named as parts of a data set are (train, val, test) are refused.
    root
        Folder that holds the images, at any depth for the published sets. What systems, notebooks and file servers
        put there (hidden folders, ``@eaDir``, ``__MACOSX``) is not entered.
    magnification
        Of BreakHis: 40, 100, 200 or 400; all by default.
    subtypes
        Of BreakHis: its eight diagnoses (those that are there) instead of benign and malignant.
    group
        What a split keeps together. Of UCSB: "file" (the default), or "array" for all fields of a tissue array. Of
        class folders without patients: "likeness" for images that look as if made from one original, as the turned
        and shifted copies of LC25000 are (see `likeness_groups`; reads every image), or "prefix" where file names
        begin with the patient and an underscore, as those of GlaS do here (``benign/p01_train_32.jpg``).

    Raises
    ------
    DatasetError
        When the folder does not hold such a data set, a class of it has no image, or two classes hold one picture (the
        same bytes); one line.
    """
    root = Path(root)
    if kind not in get_args(Kind):
        raise DatasetError(f"{kind}: no such kind of data set; there are {', '.join(get_args(Kind))}")
    if kind != "breakhis" and (subtypes or magnification is not None):
        raise DatasetError(f"{root}: only breakhis has magnifications and subtypes to choose from, not {kind}")
    if group is not None and group not in GROUPS.get(kind, ()):
        known = "; ".join(f"{name} by {' or '.join(ways)}" for name, ways in GROUPS.items())
        raise DatasetError(f"{root}: {kind} cannot be grouped by {group}; there are {known}")
    if not root.is_dir():
        raise DatasetError(f"{root}: there is no such folder; give the one that holds the data set")
    if kind == "breakhis":
        dataset = _breakhis(root, magnification, subtypes)
    elif kind == "ucsb":
        dataset = _ucsb(root, group or "file")
    elif group is not None:
        dataset = {"likeness": _by_likeness, "prefix": _by_prefix}[group](_class_folders(root))
    else:
        dataset = {"bach": _bach, "mini-ddsm": _mini_ddsm, "folder": _class_folders}[kind](root)
    check_copies(root, dataset)
    images = tuple(replace(image, source=dataset.name) for image in dataset.images)
    return replace(dataset, images=images, cohort=dataset.cohort or str(root.resolve()))


def breakhis_mpp(magnification: int) -> float:
    """Return micrometres per pixel of BreakHis: about 0.65 at 100X, the others in proportion.

    A camera pixel of 6.5 um behind the objective alone; nuclei then have 6 to 8 um. The set's description counts a
    relay lens of 3.3 besides, by which a nucleus would measure 2 to 3 um.
    """
    return 65 / magnification


def _breakhis(root: Path, magnification: int | None, subtypes: bool) -> ImageDataset:
    if magnification is not None and magnification not in BREAKHIS_MAGNIFICATIONS:
        raise DatasetError(f"{root}: BreakHis has 40, 100, 200 and 400X, not {magnification}X")
    paths = _image_files(root)
    matches = [(path, match) for path in paths if (match := _BREAKHIS_NAME.fullmatch(path.stem))]
    if not matches:
        raise DatasetError(
            f"{root}: expected BreakHis images named like SOB_B_TA-14-4659-40-001.png, found {_found(root, paths)}"
        )
    if len(matches) < len(paths):
        _log.warning("%s: %d images without a BreakHis name were left out", root, len(paths) - len(matches))
    there = sorted({int(match["magnification"]) for _, match in matches})
    if magnification is not None and magnification not in there:
        raise DatasetError(f"{root}: no image at {magnification}X, found {', '.join(f'{x}X' for x in there)}")
    chosen = _first_of_each(
        root,
        ((path, match) for path, match in matches if magnification in (None, int(match["magnification"]))),
        key=lambda found: found[1].string,
    )
    names: tuple[str, ...] = ("benign", "malignant")
    if subtypes:
        names = tuple(name for code, name in BREAKHIS_SUBTYPES.items() if any(m["subtype"] == code for _, m in chosen))
        if len(names) < 2:
            raise DatasetError(f"{root}: expected at least two BreakHis subtypes, found only {names[0]}")
    images = []
    for path, match in chosen:
        subtype = BREAKHIS_SUBTYPES[match["subtype"]]
        label = names.index(subtype) if subtypes else int(match["subtype"][0] == "M")
        power = int(match["magnification"])
        place = (match["patient"], match["slide"], subtype, power, breakhis_mpp(power), _BREAKHIS_PX)
        images.append(LabelledImage(path, label, *place))
    only = there[0] if magnification is None and len(there) == 1 else magnification
    return _complete(
        root,
        ImageDataset(
            name="breakhis" + (f"-{only}x" if only else "") + ("-subtypes" if subtypes else ""),
            classes=names,
            images=tuple(images),
            cohort="breakhis",
            licence="CC BY 4.0, as other projects state it",
            citation="Spanhol et al. 2016, A Dataset for Breast Cancer Histopathological Image Classification, "
            "IEEE Trans. Biomed. Eng. 63(7)",
        ),
    )


def _ucsb(root: Path, group: GroupBy) -> ImageDataset:
    paths = _image_files(root)
    matches = [(path, match) for path in paths if (match := _UCSB_NAME.fullmatch(path.stem))]
    if not matches:
        raise DatasetError(
            f"{root}: expected UCSB fields named like ytma10_010704_benign1_ccd.tif, found {_found(root, paths)}"
        )
    if len(matches) < len(paths):
        _log.warning("%s: %d images without a UCSB name were left out", root, len(paths) - len(matches))
    classes = ("benign", "malignant")
    return _complete(
        root,
        ImageDataset(
            name="ucsb",
            classes=classes,
            images=tuple(
                LabelledImage(
                    path,
                    classes.index(match["label"]),
                    match["array"] if group == "array" else path.stem,
                    path.stem,
                    known_as=path.stem,
                    mpp=0.25,
                    published_px=(896, 768),
                )
                for path, match in _first_of_each(root, matches, key=lambda found: found[1].string)
            ),
            cohort="ucsb",
            licence="none stated",
            citation="Gelasca et al. 2008, Evaluation and Benchmark for Biological Image Segmentation, ICIP 2008",
        ),
    )


def _bach(root: Path) -> ImageDataset:
    classes = ("Benign", "InSitu", "Invasive", "Normal")
    images = []
    for path, label, _ in _under_class_folders(root, classes, _image_files(root)):
        name = path.relative_to(root).as_posix()
        images.append(LabelledImage(path, label, name, name, mpp=0.42))
    return _complete(
        root,
        ImageDataset(
            name="bach",
            classes=classes,
            images=tuple(images),
            patients_known=False,
            cohort="bach",
            licence="CC BY-NC-ND 4.0",
            citation="Aresta et al. 2019, BACH: Grand challenge on breast cancer histology images, "
            "Medical Image Analysis 56; doi 10.5281/zenodo.3632035",
        ),
    )


def _mini_ddsm(root: Path) -> ImageDataset:
    classes = ("Normal", "Benign", "Cancer")
    paths = [path for path in _image_files(root) if "mask" not in path.stem.casefold()]
    found = _first_of_each(
        root, _under_class_folders(root, classes, paths), key=lambda item: f"{item[1]}/{item[0].stem}"
    )
    images = []
    for path, label, below in found:
        number = _DDSM_CASE.match(path.name)
        if not below and number is None:
            raise DatasetError(
                f"{root}: expected mammograms like Benign/0029/C_0029_1.LEFT_CC.png, "
                f"found {path.relative_to(root)}, of which the case is not known"
            )
        case = below[0] if below else number[1] if number else ""
        images.append(LabelledImage(path, label, case, case))
    return _complete(
        root,
        ImageDataset(
            name="mini-ddsm",
            classes=classes,
            images=tuple(images),
            cohort="mini-ddsm",
            citation="Lekamlage et al. 2020, Mini-DDSM: Mammography-based Automatic Age Estimation, DMIP 2020",
        ),
    )


def _class_folders(root: Path) -> ImageDataset:
    paths = _image_files(root)
    inside = [path.relative_to(root).parts for path in paths]
    _refuse_parts(root, inside)
    classes = tuple(sorted({parts[0] for parts in inside if len(parts) > 1}))
    if len(classes) < 2:
        raise DatasetError(
            f"{root}: expected a folder of images for each of at least two classes, found {_found(root, paths)}"
        )
    if any(len(parts) == 1 for parts in inside):
        _log.warning("%s: %d images outside a class folder were left out", root, sum(len(p) == 1 for p in inside))
    images = []
    for path, parts in zip(paths, inside, strict=True):
        if len(parts) == 1:
            continue
        own = "/".join(parts)  # holds a slash, so it is never the name of a patient's folder
        patient = parts[1] if len(parts) > 2 else own
        group = "/".join(parts[1:-1]) if len(parts) > 3 else own
        images.append(LabelledImage(path, classes.index(parts[0]), patient, group))
    known = all(len(parts) != 2 for parts in inside)
    return ImageDataset(root.resolve().name, classes, tuple(images), patients_known=known)


def _refuse_parts(root: Path, inside: Sequence[tuple[str, ...]]) -> None:
    """Raise `DatasetError` where folders such as "train" and "test" stand in the place of classes or of patients."""
    for depth, place in enumerate(("classes", "patients")):
        there = {parts[depth] for parts in inside if len(parts) > depth + 1}
        parts = sorted((name for name in there if _PART.fullmatch(name.casefold())), reverse=True)
        if parts:
            named = " and ".join(f"“{name}”" for name in parts)
            advice = "put the folders of patients, or the images, right into those of the classes"
            raise DatasetError(
                f"{root}: {named} look like parts of a data set, not like {place}; "
                + (advice if depth else f"give --root {root / parts[0]}")
            )


def _by_likeness(dataset: ImageDataset) -> ImageDataset:
    from napari_dala.datasets.likeness import likeness_groups

    images = list(dataset.images)
    for label, name in enumerate(dataset.classes):
        places = np.flatnonzero(dataset.labels == label)
        groups = likeness_groups([images[place].path for place in places])
        for place, group in zip(places.tolist(), groups.tolist(), strict=True):
            images[place] = replace(images[place], patient=f"{name}/{group}", known_as=images[place].patient)
    return replace(dataset, images=tuple(images))


def _by_prefix(dataset: ImageDataset) -> ImageDataset:
    images = []
    for image in dataset.images:
        patient, found, _ = image.path.name.partition("_")
        if not found:
            raise DatasetError(
                f"{image.path}: expected a name like PATIENT_1.png, in which an underscore ends the patient"
            )
        images.append(replace(image, patient=patient))
    return replace(dataset, images=tuple(images), patients_known=True)


def _image_files(root: Path) -> list[Path]:
    """Image files at any depth, in the order of their paths; hidden ones (macOS leaves ``._name.png``) are not."""
    paths = []
    for folder, inside, names in os.walk(root):
        inside[:] = [name for name in inside if not _is_of_a_tool(name)]
        paths += [Path(folder, name) for name in names if not name.startswith(".")]
    return sorted(path for path in paths if path.suffix.casefold() in IMAGE_SUFFIXES and path.is_file())


def _is_of_a_tool(folder: str) -> bool:
    """Tell a folder that a system, a notebook or a file server made, by its name."""
    return folder.startswith((".", "@", "$", "#")) or folder.casefold() in _TOOL_FOLDERS


def _under_class_folders(
    root: Path, classes: Sequence[str], paths: Iterable[Path]
) -> Iterator[tuple[Path, int, tuple[str, ...]]]:
    """Give each image in a class's folder: its path, its label, and the folders between the two."""
    numbers = {name.casefold(): number for number, name in enumerate(classes)}
    for path in paths:
        folders = path.relative_to(root).parts[:-1]
        for depth, folder in reversed(list(enumerate(folders))):
            if folder.casefold() in numbers:
                yield path, numbers[folder.casefold()], folders[depth + 1 :]
                break


def _first_of_each(root: Path, items: Iterable[Item], key: Callable[[Item], str]) -> list[Item]:
    """Drop further copies of an image: BreakHis' own script for folds leaves five, Mini-DDSM comes as JPEG and PNG."""
    first: dict[str, Item] = {}
    copies = sum(first.setdefault(key(item), item) is not item for item in items)
    if copies:
        _log.warning("%s: %d further copies of images were left out", root, copies)
    return list(first.values())


def _complete(root: Path, dataset: ImageDataset) -> ImageDataset:
    """Return the data set if every class has an image."""
    counts = Counter(image.label for image in dataset.images)
    missing = [name for label, name in enumerate(dataset.classes) if not counts[label]]
    if missing:
        there = [f"{counts[label]} {name}" for label, name in enumerate(dataset.classes) if counts[label]]
        found = f"{', '.join(there)} and no {', '.join(missing)}" if there else _found(root, _image_files(root))
        raise DatasetError(f"{root}: expected images of the classes {', '.join(dataset.classes)}, found {found}")
    return dataset


def _found(root: Path, images: Sequence[Path]) -> str:
    """Say in a few words what a folder holds."""
    folders = sorted(path.name for path in root.iterdir() if path.is_dir() and not _is_of_a_tool(path.name))
    shown = ", ".join(folders[:4]) + (", ..." if len(folders) > 4 else "")
    return f"{len(images)} images" + (f" and the folders {shown}" if folders else " and no folder")
