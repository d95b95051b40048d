"""The form: one HTML file with pairs of maps side by side, blinded, and the key that undoes the blinding."""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np

from napari_dala.errors import ReadingError
from napari_dala.evaluation.cases.choice import drawn_cases
from napari_dala.evaluation.cases.study import DT, PLAIN, enlarged_tile, pictures_of
from napari_dala.evaluation.reading.documents import CANNOT_TELL, KeyItem, ReadingKey
from napari_dala.files import write_json, write_text
from napari_dala.results.report.html import NOTICE, data_uri, html_page

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_dala.evaluation.cases.left_out import LeftOut
    from napari_dala.evaluation.reading.documents import Side

FORM_FILE, KEY_FILE = "form.html", "form.key.json"


def write_form(
    found: LeftOut,
    out: Path,
    *,
    pairs: int,
    repeats: int,
    seed: int = 0,
    command: str = "",
    on_progress: Callable[[int, int], object] | None = None,
) -> list[Path]:
    """Write form.html and form.key.json into a folder; return their paths.

    Parameters
    ----------
    found
        The tiles that pairs are drawn from.
    out
        A folder without a form, see `check_folder`.
    pairs
        The most that are drawn, as `drawn_cases` draws them.
    repeats
        How many of them are shown a second time, at the end, sides swapped: a reader's agreement with themselves.
    seed
        Of the draw, the order and the sides.
    command
        For the record, in the key.
    on_progress
        Told how many of how many pairs are drawn.

    Raises
    ------
    ReadingError
        If the folder has a form already, or more are to be repeated than there are pairs.
    """
    check_folder(out)
    rng = np.random.default_rng(seed)
    places = drawn_cases(found, pairs, rng)
    if repeats > len(places):
        raise ReadingError(f"{repeats} of {len(places)} pairs cannot be repeated; ask for fewer --repeats")
    sides: list[Side] = ["left", "right"]
    shown = [(place, sides[int(rng.integers(2))], -1) for place in places]
    again = rng.permutation(len(places))[:repeats]
    shown += [(places[number], sides[1 - sides.index(shown[number][1])], number) for number in again.tolist()]

    images: list[dict[str, str]] = []
    items, rows = [], []
    for number, (place, dt, repeated) in enumerate(shown):
        thresholded = found.map_of(place)
        if repeated < 0:
            tile = found.tile(place)
            maps = pictures_of(tile, thresholded, outlined=False)
            images.append({"tile": data_uri(enlarged_tile(tile)), PLAIN: data_uri(maps[PLAIN]), DT: data_uri(maps[DT])})
        drawn = images[number if repeated < 0 else repeated]
        left, right = (DT, PLAIN) if dt == "left" else (PLAIN, DT)
        name = f"{number + 1:03}"
        items.append({"item": name, "tile": drawn["tile"], "left": drawn[left], "right": drawn[right]})
        image, called = found.image(place), int(found.called[place])
        rows.append(
            KeyItem(
                item=name,
                dt=dt,
                repeats=None if repeated < 0 else f"{repeated + 1:03}",
                image=image.path.name,
                patient=found.patient_key(place),
                label=found.dataset.classes[image.label],
                explained=found.dataset.classes[called],
                probability=float(found.probability[place, called]),
                kept=thresholded.kept_fraction,
            )
        )
        if on_progress:
            on_progress(number + 1, len(shown))
    name = hashlib.sha256(json.dumps(items).encode()).hexdigest()[:12]
    key = ReadingKey(form=name, seed=seed, classes=found.dataset.classes, command=command, items=tuple(rows))
    asked = {"form": name, "diagnoses": [*found.dataset.classes, CANNOT_TELL], "items": items}
    write_text(out / FORM_FILE, form_page(asked))
    write_json(out / KEY_FILE, key.model_dump(mode="json"), private=True)
    return [out / FORM_FILE, out / KEY_FILE]


def check_folder(out: Path) -> None:
    """Raise `ReadingError` where a folder holds a form or a key already: a new one would not fit what was filled in."""
    if any((out / name).exists() for name in (FORM_FILE, KEY_FILE)):
        raise ReadingError(f"{out}: holds a form already; choose another folder, or remove {FORM_FILE} and {KEY_FILE}")


def form_page(asked: object) -> str:
    """Return the form for what is asked (see `form.js`), which must not say which map is which."""
    parts = files(__package__)

    def text(name: str) -> str:
        return (parts / name).read_text(encoding="utf-8")

    script = f"const ASKED = {json.dumps(asked).replace('<', chr(92) + 'u003c')};\n" + text("form.js")
    body = text("form.html").replace("NOTICE", NOTICE)
    return html_page("Which map shows it better?", [body], text("form.css"), script)
