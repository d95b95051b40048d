"""Which results on disk are of which model: each model has its own on a slide, and none is shown as another's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from napari_dala.errors import DalaError
from napari_dala.model.card import ModelCard
from napari_dala.results.store import Setting
from napari_dala.slide.resolution import is_at
from napari_dala.validation import read_json

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

    from napari_dala.model.catalog import ModelEntry

OTHER_COLOURS = "Found in other colours of the slide (its ICC profile was applied, or was not): run the analysis again."


@dataclass(frozen=True)
class ModelResults:
    """One model's results in an `analysis.zarr`.

    Attributes
    ----------
    bundle_hash, setting
        As `open_store` takes them.
    card
        The model's, as it was when it ran, but for the name: see `results_in`.
    mpp
        Micrometres per level-0 pixel (x, y) that the analysis used.
    profile_id
        Of the slide as the analysis read it, see `Slide.profile_id`.
    """

    bundle_hash: str
    setting: str
    card: ModelCard
    mpp: tuple[float, float]
    profile_id: str


def results_by(entry: ModelEntry, path: Path, mpp: tuple[float, float], profile_id: str) -> ModelResults | None:
    """Return a model's results in an `analysis.zarr`, or None; some small files are read.

    Results of the slide in other colours are none. Of several, at other resolutions or in another precision, those that
    fit the slide's resolution, and of these the ones that were written last.

    Parameters
    ----------
    path
        The `.zarr` folder; need not exist.
    mpp
        Of the slide now, um per level-0 px (x, y).
    profile_id
        Of the slide as it is read now.
    """
    return _best(path, mpp, profile_id, lambda one: entry.made(one.bundle_hash, one.card))


def last_results(
    path: Path, mpp: tuple[float, float], profile_id: str, models: Collection[ModelEntry] = ()
) -> ModelResults | None:
    """Return the results that were written last, whichever model's, as `results_by` does, or None."""
    return _best(path, mpp, profile_id, lambda _: True, models)


def ran_in_other_colours(entry: ModelEntry, path: Path, profile_id: str) -> bool:
    """Tell whether a model has results of the slide in other colours than it is read in now."""
    return any(entry.made(one.bundle_hash, one.card) and one.profile_id != profile_id for one in results_in(path, None))


def _best(
    path: Path,
    mpp: tuple[float, float],
    profile_id: str,
    is_wanted: Callable[[ModelResults], bool],
    models: Collection[ModelEntry] = (),
) -> ModelResults | None:
    latest = _attributes(path).get("latest") or []
    found = [one for one in results_in(path, profile_id, models) if is_wanted(one)]
    found.sort(key=lambda one: (is_at(one.mpp, mpp), [one.setting, one.bundle_hash[:12]] == latest))
    return found[-1] if found else None


def results_in(path: Path, profile_id: str | None, models: Collection[ModelEntry] = ()) -> Iterator[ModelResults]:
    """Give the results in an `analysis.zarr` that hold a tile; some small files are read.

    A damaged header is passed over, the run that mends it names it.

    Parameters
    ----------
    path
        The `.zarr` folder; need not exist.
    profile_id
        Only those of the slide read by this profile (see `Slide.profile_id`); all where it is None.
    models
        Results of one of these are under the name that it has now: a model that learned got its name after it had run.
    """
    for mark in sorted(path.glob("*/*/scored/c")):
        head, tiles = mark.parent.parent, mark.parent.parent.parent
        try:
            about, setting = _attributes(head), Setting.from_attributes(_attributes(tiles)["setting"])
            card, bundle_hash = ModelCard.model_validate(about["card"]), str(about["bundle_hash"])
            scale_x, scale_y = setting.grid.scale
            name = next((entry.name for entry in models if entry.made(bundle_hash, card)), card.name)
            card = card.model_copy(update={"name": name})
            mpp = card.mpp / scale_x, card.mpp / scale_y
            if profile_id in (None, setting.profile_id):
                yield ModelResults(bundle_hash, tiles.name, card, mpp, setting.profile_id)
        except (LookupError, TypeError, ValueError, ArithmeticError, ValidationError):
            continue


def _attributes(group: Path) -> dict[str, Any]:
    try:
        attributes = read_json(group / "zarr.json", DalaError, special=True)["attributes"]
        return dict(attributes)
    except (DalaError, LookupError, TypeError, ValueError):
        return {}
