from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from napari_dala.analysis import plan
from napari_dala.analysis.worker import Worker
from napari_dala.inference.predictor import Predictor
from napari_dala.model.bundle_head import BundleHead
from napari_dala.results.analysis import Analysis
from napari_dala.results.request import AnalysisRequest

if TYPE_CHECKING:
    from pathlib import Path


class _Request:
    """Notes what the worker tells."""

    def __init__(self, *heard: str) -> None:
        self.told: list[dict[str, Any]] = []
        self.doing: list[str] = []
        self.heard = heard

    def emit(self, event: str, **payload: Any) -> None:
        if event == "doing":
            self.doing.append(payload["what"])
        else:
            self.told.append({"event": event, **payload})

    def listen(self, hear: Any) -> None:
        for verb in self.heard:
            hear(verb, {})


def asked(**values: Any) -> dict[str, Any]:
    """Return what the window sends."""
    return AnalysisRequest.of(
        **{name: str(value) if name == "model" else value for name, value in values.items()}
    ).as_json()


def test_a_new_head_keeps_the_trunk_and_is_scored_before_one_is_loaded(
    drawn_slide: Path,
    seen: Path,
    with_basis: Predictor,
    new_head: BundleHead,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old, new, folder = tmp_path / "old.safetensors", tmp_path / "new.safetensors", tmp_path / "analysis"
    with_basis.bundle.save(old)
    new_head.save(new)
    shutil.copytree(seen, folder)
    scored: list[int] = []  # each time a trunk is made ready
    make = Predictor.__init__

    def noted(self: Predictor, *arguments: Any) -> None:
        scored.append(int(Analysis.open(folder).analysed.sum()))
        make(self, *arguments)

    monkeypatch.setattr(Predictor, "__init__", noted)
    request, worker = _Request(), Worker()
    worker.analyze(request, asked=asked(slide=drawn_slide, out=folder, model=str(new)))
    tiles = request.told[-1]["total"]
    assert scored == [tiles]
    assert request.told[0]["approximate"] == tiles
    assert request.told[-1]["approximate"] == 0
    assert not Analysis.open(folder).approximate.any()

    trunk = worker.predictor(str(new), "auto", "auto").trunk
    request.told.clear()
    worker.analyze(request, asked=asked(slide=drawn_slide, out=folder, model=str(old)))
    assert [told["event"] for told in request.told] == ["opened", "progress"]  # the latter, that all is there
    assert worker.predictor(str(old), "auto", "auto").trunk is trunk
    assert isinstance(worker.bundle(str(old)), BundleHead)
    assert worker.bundle(str(old)).hash == with_basis.bundle.hash
    new_head.save(old)  # a file that was written anew is read anew
    assert worker.bundle(str(old)).hash == new_head.hash


def test_the_store_can_be_read_before_the_tissue_is_sought(
    drawn_slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[tuple[str, ...]] = []
    request = _Request()
    seek = plan.tissue_tiles

    def noted(*arguments: Any) -> Any:
        found.append(tuple(told["event"] for told in request.told))
        assert not Analysis.open(tmp_path).analysed.any()
        return seek(*arguments)

    monkeypatch.setattr(plan, "tissue_tiles", noted)
    Worker().analyze(request, asked=asked(slide=drawn_slide, out=tmp_path, model="untrained"))
    assert found == [("opened",)]
    assert request.doing == ["Reading the model", "Loading the network", "Looking for tissue"]
    assert request.told[1]["event"] == "progress"
    assert not request.told[1]["blocks"]  # by which the reader knows that the tissue is marked
    assert request.told[-1]["done"] == int(Analysis.open(tmp_path).analysed.sum()) > 0


def test_what_was_cancelled_while_it_waited_writes_nothing(drawn_slide: Path, tmp_path: Path) -> None:
    request = _Request("cancel")
    answer = Worker().analyze(request, asked=asked(slide=drawn_slide, out=tmp_path / "new", model="untrained"))
    assert answer == {"cancelled": True}
    assert (request.told, request.doing) == ([], [])
    assert not (tmp_path / "new").exists()


def test_a_slide_that_was_looked_at_is_not_opened_or_searched_again(
    drawn_slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker()
    worker.look(_Request(), asked=asked(slide=drawn_slide, model="untrained"))
    with monkeypatch.context() as patch:
        patch.setattr("napari_dala.analysis.worker.open_slide", None)
        patch.setattr("napari_dala.slide.tissue.tissue_in", None)
        worker.analyze(_Request(), asked=asked(slide=drawn_slide, out=tmp_path / "seen", model="untrained"))
    worker.look(_Request(), asked=asked(slide=drawn_slide, model="untrained"))
    os.utime(drawn_slide)  # as one that was written anew
    with monkeypatch.context() as patch:
        patch.setattr("napari_dala.analysis.worker.open_slide", None)
        with pytest.raises(TypeError, match="not callable"):  # it would be opened again
            worker.analyze(_Request(), asked=asked(slide=drawn_slide, out=tmp_path / "anew", model="untrained"))
    worker.look(_Request(), asked=asked(slide=drawn_slide, model="untrained", mpp=1.0))  # of another resolution
    worker.analyze(_Request(), asked=asked(slide=drawn_slide, out=tmp_path / "unseen", model="untrained"))
    seen, unseen = Analysis.open(tmp_path / "seen"), Analysis.open(tmp_path / "unseen")
    assert seen.analysed.any()
    assert (seen.probability[:, seen.analysed] == unseen.probability[:, unseen.analysed]).all()


def test_a_slide_is_copied_first_where_that_is_asked_for(
    drawn_slide: Path, with_basis: Predictor, tmp_path: Path, workspace: Path
) -> None:
    model, request, worker = tmp_path / "model.safetensors", _Request(), Worker()
    with_basis.bundle.save(model)
    values: dict[str, Any] = {"slide": drawn_slide, "model": model, "local_copy": True}
    assert worker.look(request, asked=asked(**values)) == {}
    assert not (workspace / "cache/slides").exists(), "looking ahead copies nothing"
    worker.look(request, asked=asked(**values | {"local_copy": False}))  # before copies were switched on
    worker.analyze(request, asked=asked(**values, out=tmp_path / "out"))
    assert any(what.startswith("Copying the slide (") for what in request.doing)
    assert len([*(workspace / "cache/slides").iterdir()]) == 1
    assert Analysis.open(tmp_path / "out").analysed.any()


def test_who_cancels_while_a_slide_is_copied_stops_that(drawn_slide: Path, tmp_path: Path, workspace: Path) -> None:
    class _Later(_Request):
        """Cancels once copying has begun."""

        def listen(self, hear: Any) -> None:
            self.hear = hear

        def emit(self, event: str, **payload: Any) -> None:
            super().emit(event, **payload)
            if payload.get("what", "").startswith("Copying"):
                self.hear("cancel", {})

    big = tmp_path / "big.tiff"
    big.write_bytes(drawn_slide.read_bytes() + bytes(16 << 20))
    values = asked(slide=big, model="untrained", local_copy=True, out=tmp_path / "out")
    assert Worker().analyze(_Later(), asked=values) == {"cancelled": True}
    assert not [*(workspace / "cache/slides").iterdir()]
    assert not (tmp_path / "out").exists()
