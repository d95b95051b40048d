"""What the version of 2026-11-29 wrote, before the modules were moved, is read and continued by this one.

`data/before-2026-11-29` holds it as that version left it; `make.py` in there says how it was made.
"""

from __future__ import annotations

import json
import lzma
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
import shapely

from napari_dala.analysis.engine import analyze
from napari_dala.annotations.files import load_for, previous_of, read_annotations
from napari_dala.annotations.slides import annotated_slides
from napari_dala.cli import main
from napari_dala.inference.predictor import Prediction, Predictor
from napari_dala.jobs.job import Job, jobs_in
from napari_dala.jobs.state import Status
from napari_dala.model.bundle import load_model
from napari_dala.model.bundle_head import load_head
from napari_dala.model.catalog import list_models
from napari_dala.plugin.learn.jobs import Learned, jobs_folder, open_job
from napari_dala.results.analysis import Analysis
from napari_dala.results.model_check import ModelCheck
from napari_dala.results.store import TileStatus
from napari_dala.slide import open_slide
from napari_dala.slide.fingerprint import ends_hashed
from napari_dala.slide.teaching.slide import teaching_slide
from napari_dala.training.finetune.job import Epoch, Finished, Prepared, config_of, event_of, is_settled

if TYPE_CHECKING:
    from napari_dala.model.card import ModelCard
    from napari_dala.results.progress import Progress

DATA = Path(__file__).with_name("data") / "before-2026-11-29"
RECORDED: dict[str, Any] = json.loads((DATA / "recorded.json").read_text(encoding="utf-8"))
FINGERPRINT: str = RECORDED["slide"]["fingerprint"]


class Before(NamedTuple):
    """A workspace of before, and where its slide lies."""

    workspace: Path
    slide: Path

    @property
    def analyses(self) -> Path:
        return self.workspace / FINGERPRINT / "analyses"


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder as it was, before its paths are filled in; tests work on copies."""
    root = tmp_path_factory.mktemp("unpacked")
    shutil.copytree(DATA / "workspace", root / "workspace")
    for packed in (root / "workspace" / "models").glob("*.xz"):
        packed.with_suffix("").write_bytes(lzma.decompress(packed.read_bytes()))
        packed.unlink()
    for job in (root / "workspace" / FINGERPRINT / "jobs").iterdir():
        for name in ("checkpoints", "result"):  # git keeps no empty folder
            (job / name).mkdir(exist_ok=True)
    teaching_slide(root / "drawn.tif", RECORDED["slide"]["width"])
    return root


@pytest.fixture
def before(unpacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Before:
    root = tmp_path / "before"
    shutil.copytree(unpacked, root)
    for path in (root / "workspace").rglob("*.json"):
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace("{root}", root.as_posix()).replace("{python}", "python"), encoding="utf-8")
    monkeypatch.setenv("DALA_WORKSPACE", str(root / "workspace"))
    slide = root / "drawn.tif"
    # With other libraries the same picture may fill other bytes.
    monkeypatch.setattr("napari_dala.slide.base.ends_hashed", lambda path: FINGERPRINT)
    return Before(root / "workspace", slide)


def test_a_file_is_known_by_the_fingerprint_of_before(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(bytes(number % 251 for number in range(300_000)))
    assert ends_hashed(tmp_path / "bytes") == RECORDED["fingerprint of 300000 bytes"]


def as_then(card: ModelCard) -> dict[str, Any]:
    """Return a card as that version would have written it: what is new of cards is what all had then."""
    values = card.model_dump(mode="json")
    new = {"channels": 2048, "cell_px": 32, "trunk_source": None}
    assert {name: values.pop(name) for name in new} == new
    return values


def test_models_are_the_same(before: Before) -> None:
    assert {"before", "before head"} == set(RECORDED["models"]) <= {entry.name for entry in list_models()}
    for name, recorded in RECORDED["models"].items():
        bundle = load_head(name)
        found = {"hash": bundle.hash, "trunk_hash": bundle.trunk_hash, "card": as_then(bundle.card)}
        assert found == recorded
        assert bundle.basis is not None
        assert bundle.familiarity is not None
    assert load_head("before").replay is not None
    assert load_model("before head").hash == RECORDED["models"]["before head"]["hash"]


def test_an_analysis_says_the_same(before: Before) -> None:
    recorded = RECORDED["analysis"]
    analysis = Analysis.open(before.analyses)
    summary, counted = vars(analysis.summary()), ("threshold", "analysed", "unreadable", "todo", "unfamiliar")
    assert {name: summary[name] for name in counted} == {name: recorded["summary"][name] for name in counted}
    # Tiles that are unfamiliar counted then; they are not judged now, and the others are called as before.
    classes = analysis.class_map()
    assert not classes[analysis.unfamiliar].any()
    analysis.unfamiliar = np.zeros_like(analysis.unfamiliar)
    for name, value in (recorded["summary"] | {"unfamiliar": 0}).items():
        assert getattr(analysis.summary(), name) == (pytest.approx(value) if isinstance(value, dict) else value)
    assert [vars(spot) for spot in analysis.spots()] == recorded["spots"]
    assert analysis.status.tolist() == recorded["status"]
    assert as_then(analysis.card) == RECORDED["models"]["before"]["card"]
    assert analysis.slide == {name: RECORDED["slide"][name] for name in analysis.slide}
    assert {"width", "height", "mpp", "fingerprint"} <= analysis.slide.keys()
    assert not analysis.approximate.any()
    assert {f"{row} {column}" for row, column in np.argwhere(analysis.analysed)} == recorded["probability"].keys()
    cam, features, cells = analysis.cam(1), analysis.store.read("features"), analysis.grid.cells
    for row, column in np.argwhere(analysis.analysed):
        at = f"{row} {column}"
        assert analysis.probability[:, row, column].tolist() == recorded["probability"][at]
        of_tile = cam[row * cells : (row + 1) * cells, column * cells : (column + 1) * cells]
        assert of_tile.tolist() == recorded["cam of the target"][at]
        assert features[row, column].astype(np.float64).sum() == recorded["sum of the features"][at]


def test_an_analysis_goes_on_where_it_was_cancelled(before: Before) -> None:
    class Counting(Predictor):
        tiles = 0

        def __call__(self, tiles: Any) -> Prediction:
            found = super().__call__(tiles)
            self.tiles += len(found.probability)
            return found

    recorded = RECORDED["analysis"]
    was = Analysis.open(before.analyses)
    predictor = Counting(load_model("before"), "cpu", "fp32")
    told: list[Progress] = []
    region = [shapely.box(*recorded["region"])]
    with open_slide(before.slide) as slide:
        features = was.store.read("features")
        now = analyze(slide, predictor, region=region, on_progress=told.append)  # in the workspace, where it was found
        assert now.store.setting == replace(was.store.setting, fingerprint=slide.fingerprint)
    assert (told[0].done, told[0].total) == (recorded["done"], recorded["total"])
    assert (told[-1].done, predictor.tiles) == (recorded["total"], recorded["total"] - recorded["done"])
    done = was.analysed
    np.testing.assert_array_equal(now.probability[:, done], was.probability[:, done])
    np.testing.assert_array_equal(now.store.read("features")[done], features[done])
    assert (now.status[now.analysed] == TileStatus.DONE).all()
    assert now.analysed.sum() == recorded["total"]


def test_a_job_that_was_interrupted_goes_on_to_its_end(before: Before, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = RECORDED["jobs"]["interrupted"]
    finished, interrupted = sorted(jobs_in(jobs_folder(FINGERPRINT, before.workspace)), key=lambda job: job.created)
    job = open_job(FINGERPRINT, before.workspace)
    assert job == interrupted
    assert job.status == recorded["status"] == Status.INTERRUPTED
    events, read = job.events()
    assert events == recorded["events"]
    assert [type(event_of(event)) for event in events] == [Prepared, Epoch, Epoch]
    assert config_of(job).slides[0].slide == before.slide

    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")  # which the command sets
    monkeypatch.setattr(sys, "argv", ["dala", "finetune", "--out", str(job.folder)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert Job.open(job.folder).status is Status.DONE
    found = [event_of(event) for event in job.events(read)[0]]
    assert [type(event) for event in found] == [Prepared, *[Epoch] * 5, Finished]
    assert found[0] == event_of(events[0])
    learned = Learned.of(job)
    once = json.loads((finished.result / "result.json").read_text(encoding="utf-8"))
    assert learned.report.keys() >= once.keys()
    for name in ("mode", "name", "classes", "parent", "same_trunk", "split", "optimistic", "examples"):
        assert learned.report[name] == once[name]
    assert learned.report["settings"].items() >= once["settings"].items()
    assert load_head(learned.bundle).card.parent == RECORDED["models"]["before"]["hash"]
    assert load_head(learned.bundle).hash == learned.report["bundle"]


def test_what_was_learned_can_be_looked_at(before: Before) -> None:
    done = jobs_in(jobs_folder(FINGERPRINT, before.workspace))[-1]
    assert done.status == RECORDED["jobs"]["done"]["status"] == Status.DONE
    assert is_settled(done)
    assert [type(event_of(event)) for event in done.events()[0]] == [Prepared, *[Epoch] * 5, Finished]
    shutil.copy(before.workspace / "models" / "before.safetensors", done.result / "bundle.safetensors")
    report = Learned.of(done).report
    check = ModelCheck.open(done.result)
    assert len(check.samples) == report["after"]["n"] == sum(report["examples"]["held_out"].values())


def test_what_was_drawn_is_there(before: Before) -> None:
    recorded = RECORDED["drawn"]
    (known,) = annotated_slides(before.workspace)
    assert (known.fingerprint, known.path, known.name) == (FINGERPRINT, before.slide, "drawn")
    assert (known.patient, known.is_readable, known.analysis) == (recorded["patient"], True, before.analyses)
    assert known.note is not None
    assert [*known.note.dimensions, list(known.note.mpp or ()), known.note.mpp_source] == [
        RECORDED["slide"][name] for name in ("width", "height", "mpp", "mpp_source")
    ]
    document = load_for(FINGERPRINT, before.workspace)
    assert document is not None
    assert [[item.name, list(item.color), item.ignore] for item in document.classes] == recorded["classes"]
    for one, (identity, name, area, is_ellipse) in zip(document.annotations, recorded["regions"], strict=True):
        assert (one.id, one.class_name, one.ellipse is not None) == (identity, name, is_ellipse)
        assert one.geometry.area == pytest.approx(area)
    assert len(read_annotations(previous_of(known.annotations)).annotations) == 1


def test_preferences_hold(tmp_path: Path) -> None:
    chosen = (DATA / "config" / "napari-dala.yaml").read_text(encoding="utf-8").replace("{root}", "/somewhere")
    (tmp_path / "napari-dala.yaml").write_text(chosen, encoding="utf-8")
    code = "from napari_dala.plugin.preferences import load_preferences; print(load_preferences())"
    environment = {**os.environ, "NAPARI_CONFIG": str(tmp_path / "settings.yaml")}
    del environment["DALA_WORKSPACE"]
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    workspace = repr(Path("/somewhere/workspace"))
    for each in ("device='cpu'", "precision='fp32'", "threads=3", workspace, "own_slides=False"):
        assert each in done.stdout
