"""The warm child that analyses for napari: `python -m napari_dala.analysis.worker` (see `jobs.child`)."""

from __future__ import annotations

import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_dala.analysis.control import RunControl
from napari_dala.analysis.engine import analyze, carry_out
from napari_dala.analysis.plan import results_of, tissue_tiles
from napari_dala.analysis.reasons import tile_reasons
from napari_dala.analysis.rescore import rescore
from napari_dala.cores import usable_cores
from napari_dala.errors import BundleError, DalaError
from napari_dala.inference.devices import choose_device, choose_precision, devices
from napari_dala.inference.export import export_model
from napari_dala.inference.predictor import Predictor
from napari_dala.jobs.child import serve
from napari_dala.model.bundle import ModelBundle, load_model
from napari_dala.model.bundle_head import load_head
from napari_dala.model.card import ModelCard
from napari_dala.model.catalog import find_model, list_models
from napari_dala.model.convert import import_checkpoint, install_model
from napari_dala.model.export.formats import ExportFormat
from napari_dala.model.importing.request import ImportRequest
from napari_dala.results.opening import open_store
from napari_dala.results.request import AnalysisRequest
from napari_dala.slide import open_slide
from napari_dala.slide.local_copy import open_local_copy, tidy_copies
from napari_dala.slide.tiles import TileGrid
from napari_dala.validation import checked, conforming

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_dala.jobs.child import Request
    from napari_dala.model.bundle_file import Bundle
    from napari_dala.results.progress import Progress
    from napari_dala.slide import Slide

_FEW_CORES = 4  # on more the window has one to itself
_VIEW_MOVES_S = 0.4  # after each word of a new view, of which ten come a second while it moves


class _Cancelled(Exception):
    """The user ended what is being done before the analysis."""


class Worker:
    """Keeps the model it used last ready; a new head on the same trunk takes over what is ready."""

    def __init__(self) -> None:
        self._bundle: Bundle | None = None
        self._source: tuple[str, int] | None = None  # the bundle's file and when that was written
        self._predictor: Predictor | None = None
        self._place: tuple[str, str] | None = None  # the predictor's device and precision as they were asked for
        self._slide: tuple[tuple[Any, ...], Slide] | None = None  # that was looked at last, see `_taken`
        self._all_threads = torch.get_num_threads()

    def prepare(self) -> dict[str, Any]:
        """Load the default model and analyse one tile, so that the first analysis starts at once."""
        predictor = self.predictor("default", "auto", "auto")
        card = predictor.bundle.card
        with tempfile.TemporaryDirectory(prefix="dala-warm-") as folder:
            analyze(open_slide(np.zeros((card.tile_px, card.tile_px, 3), np.uint8), mpp=card.mpp), predictor, folder)
        return {"device": str(predictor.device), "precision": predictor.precision, "torch": torch.__version__}

    def bundle(self, model: str) -> Bundle:
        """Return a model, of which a file's trunk is left packed; the last one is kept."""
        path = find_model(model)
        source = ("", 0) if path is None else (str(path.resolve()), path.stat().st_mtime_ns)
        if self._bundle is None or source != self._source:
            self._bundle = load_model(model) if path is None else load_head(model)
            self._source = source
        return self._bundle

    def predictor(self, model: str, device: str, precision: str) -> Predictor:
        """Return the predictor for a model, device and precision; the last one's trunk is kept where it is the same."""
        bundle = self.bundle(model)
        last = self._predictor if self._place == (device, precision) else None
        if last is None or last.bundle.trunk_hash != bundle.trunk_hash:
            last = self._predictor = None  # its memory first
            self._bundle = whole = bundle if isinstance(bundle, ModelBundle) else load_model(model)
            self._predictor = Predictor(whole, device, precision)
            self._place = (device, precision)
        elif last.bundle is not bundle:
            self._predictor = last.with_bundle(bundle)
        assert self._predictor is not None
        return self._predictor

    def look(self, request: Request, *, asked: dict[str, Any]) -> dict[str, Any]:
        """Open a slide that may be analysed next, and find its tissue; not where a copy will be analysed."""
        wanted = AnalysisRequest.of(**asked)
        if wanted.local_copy:
            return {}
        opened = self._taken(wanted)
        self._slide = _known_by(wanted), opened
        card = self.bundle(wanted.model).card
        tissue_tiles(opened, TileGrid.over(opened, card.tile_px, card.mpp, cell_px=card.cell_px))
        return {}

    def _taken(self, wanted: AnalysisRequest, told: Callable[[int, int], None] | None = None) -> Slide:
        """Return a slide, the one that was looked at if it is that; another one that was is closed.

        `told` hears how much of it is copied, where a local copy is asked for.
        """
        seen, self._slide = self._slide, None
        if seen is not None and seen[0] == _known_by(wanted):
            return seen[1]
        if seen is not None:
            seen[1].close()
        path, mpp, icc_profile = _file_of(wanted), wanted.mpp, wanted.icc_profile
        if wanted.local_copy:
            return open_local_copy(path, mpp=mpp, icc_profile=icc_profile, told=told)
        return open_slide(path, mpp=mpp, icc_profile=icc_profile)

    def analyze(self, request: Request, *, asked: dict[str, Any], view: list[float] | None = None) -> dict[str, Any]:
        """Analyse a slide as an `AnalysisRequest` asks; its events are `Progress`.

        What it does before the first tiles it says ("doing"). What is stored of tiles that the same trunk has seen is
        scored before the trunk is loaded. Then comes "opened": whoever shows the results can make ready for them while
        the tissue is being found.
        """
        wanted = AnalysisRequest.of(**asked)
        control = RunControl()
        if view:
            control.look_at((view[0], view[1], view[2], view[3]))
        request.listen(lambda verb, arguments: _steer(control, wanted.device, verb, arguments))
        if control.is_cancelled:
            return {"cancelled": True}  # while it waited: nothing is opened or written
        torch.set_num_threads(wanted.threads or self._all_threads)
        chosen = choose_device(wanted.device)
        request.emit("doing", what="Reading the model")
        bundle = self.bundle(wanted.model)

        def report(progress: Progress) -> None:
            request.emit("progress", **progress.as_json())

        def copied(done: int, total: int) -> None:
            if control.is_cancelled:
                raise _Cancelled
            request.emit("doing", what=f"Copying the slide ({done / 1e9:.1f} of {total / 1e9:.1f} GB)")

        try:
            opened = self._taken(wanted, copied)
        except _Cancelled:
            return {"cancelled": True}
        with opened:
            store = results_of(opened, bundle, choose_precision(wanted.precision, chosen), wanted)
            rescore(store, bundle, control, report)
            request.emit("opened")
            request.emit("doing", what="Loading the network")
            predictor = self.predictor(wanted.model, wanted.device, wanted.precision)
            request.emit("doing", what="Looking for tissue")
            carry_out(opened, predictor, wanted, report, control)
        return {"cancelled": control.is_cancelled}

    def import_model(
        self,
        request: Request,
        *,
        name: str,
        workspace: str,
        bundle: str | None = None,
        weights: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Install the file of a bundle, or what is made of weights as an `ImportRequest` asks; say its name."""
        if weights is None:
            return {"name": install_model(str(bundle), name, workspace).stem}
        made = import_checkpoint(checked(ImportRequest, BundleError, **weights))
        return {"name": install_model(made, name, workspace).stem}

    def export(self, request: Request, *, model: str, to: str, folder: str) -> dict[str, Any]:
        """Write a model for other programs; see `export_model`."""
        difference = export_model(load_model(model), ExportFormat(to), Path(folder))
        return {"folder": folder, "difference": difference}

    def why(
        self, request: Request, *, store: str, bundle_hash: str, setting: str, tile: list[int], class_index: int
    ) -> dict[str, Any]:
        """Say which channels of an analysed tile speak most for or against a class; see `TileReasons`.

        The model is the one used last, or one of the workspace with this hash.
        """
        results = open_store(Path(store), bundle_hash, setting)
        found = self._bundle
        if found is None or found.hash != bundle_hash:
            card = conforming(ModelCard, results.card, f"{store}: its model card", DalaError)
            made = (load_head(one.path or one.name) for one in list_models() if one.made(bundle_hash, card))
            found = next((one for one in made if one.hash == bundle_hash), None)
        if found is None:
            raise DalaError("the model of these results is no longer here; analyse the slide with one that is")
        return tile_reasons(results, found, (tile[0], tile[1]), class_index).as_json()

    def devices(self, request: Request) -> dict[str, Any]:
        """List the devices to choose from."""
        return {"devices": devices()}


def _known_by(wanted: AnalysisRequest) -> tuple[Any, ...]:
    """Return what tells whether a slide is the one that was opened: its file, when that was written, how it is read."""
    file = _file_of(wanted)
    written = file.stat().st_mtime_ns if file.exists() else 0
    return file, written, wanted.mpp, wanted.icc_profile, wanted.local_copy


def _file_of(wanted: AnalysisRequest) -> Path:
    if wanted.slide is None:
        raise DalaError("no slide was named")
    return wanted.slide


def _steer(control: RunControl, device: str, verb: str, arguments: dict[str, Any]) -> None:
    """Do what the parent told an analysis that runs on a device."""
    if verb == "look_at":
        view = arguments["view"]
        control.look_at(None if view is None else (view[0], view[1], view[2], view[3]))
        if usable_cores() <= _FEW_CORES and choose_device(device).type == "cpu":
            control.give_way(_VIEW_MOVES_S)
    elif verb in ("cancel", "pause", "resume"):
        getattr(control, verb)()


def _tidy() -> None:
    """Remove old local copies, also where none is asked for any more."""
    with suppress(OSError):
        tidy_copies()


def main() -> None:
    """Serve until the parent goes away."""
    threading.Thread(target=_tidy, daemon=True, name="dala-tidy").start()
    worker = Worker()
    serve(
        {
            "look": worker.look,
            "analyze": worker.analyze,
            "export": worker.export,
            "devices": worker.devices,
            "import_model": worker.import_model,
            "why": worker.why,
        },
        worker.prepare,
    )


if __name__ == "__main__":
    main()
