"""The warm child that analyses for napari: `python -m napari_dala.analysis.worker` (see `jobs.child`)."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from shapely import Polygon

from napari_dala.analysis.engine import analyze
from napari_dala.analysis.predictor import Predictor, devices
from napari_dala.analysis.run_control import Progress, RunControl
from napari_dala.jobs.child import serve
from napari_dala.model.bundle import load_model
from napari_dala.slide import open_slide

# isort: split
import torch

if TYPE_CHECKING:
    from napari_dala.jobs.child import Request


class Worker:
    """Keeps the model it used last ready."""

    def __init__(self) -> None:
        self._key: tuple[str, str, str] | None = None
        self._predictor: Predictor | None = None
        self._all_threads = torch.get_num_threads()

    def prepare(self) -> dict[str, Any]:
        """Load the default model and run it once, so that the first analysis starts at once."""
        predictor = self.predictor("default", "auto", "auto")
        side = predictor.bundle.card.tile_px
        predictor(np.zeros((predictor.batch_size, side, side, 3), np.uint8))
        return {"device": str(predictor.device), "precision": predictor.precision, "torch": torch.__version__}

    def predictor(self, model: str, device: str, precision: str) -> Predictor:
        """Return the predictor for a model, device and precision; the last one is kept."""
        key = (model, device, precision)
        if self._predictor is None or key != self._key:
            self._predictor = None  # its memory first
            self._predictor = Predictor(load_model(model), device, precision)
            self._key = key
        return self._predictor

    def analyze(
        self,
        request: Request,
        *,
        slide: str,
        out: str,
        model: str = "default",
        mpp: float | list[float] | None = None,
        region: list[list[list[float]]] | None = None,
        overlap: float = 0.0,
        device: str = "auto",
        precision: str = "auto",
        threads: int = 0,
        view: list[float] | None = None,
    ) -> dict[str, Any]:
        """Analyse a slide; progress events name the store's folder, so that it can be read while it grows.

        `threads` are the processor's for the network, 0 for all of them; the rest is as in `engine.analyze`.
        """
        control = RunControl()
        if view:
            control.look_at((view[0], view[1], view[2], view[3]))
        request.listen(lambda verb, arguments: _steer(control, verb, arguments))
        torch.set_num_threads(threads or self._all_threads)
        predictor = self.predictor(model, device, precision)

        def report(progress: Progress) -> None:
            request.emit("progress", path=out, device=str(predictor.device), **asdict(progress))

        with open_slide(slide, mpp=(mpp[0], mpp[1]) if isinstance(mpp, list) else mpp) as opened:
            polygons = None if region is None else [Polygon(ring) for ring in region]
            analyze(
                opened,
                predictor,
                out,
                region=polygons,
                overlap=overlap,
                on_progress=report,
                control=control,
            )
        return {"path": out, "cancelled": control.is_cancelled}

    def devices(self, request: Request) -> dict[str, Any]:
        """List the devices to choose from."""
        return {"devices": devices()}


def _steer(control: RunControl, verb: str, arguments: dict[str, Any]) -> None:
    """Do what the parent told a running analysis."""
    if verb == "look_at":
        view = arguments["view"]
        control.look_at(None if view is None else (view[0], view[1], view[2], view[3]))
    elif verb in ("cancel", "pause", "resume"):
        getattr(control, verb)()


def main() -> None:
    """Serve until the parent goes away."""
    worker = Worker()
    serve({"analyze": worker.analyze, "devices": worker.devices}, worker.prepare)


if __name__ == "__main__":
    main()
