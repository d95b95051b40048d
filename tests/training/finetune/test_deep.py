from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from shapely import box
from skimage.io import imsave

from napari_dala.annotations.document import Annotation, AnnotationClass, AnnotationDocument
from napari_dala.annotations.files import write_annotations
from napari_dala.datasets.splits import Split
from napari_dala.errors import JobError
from napari_dala.model.bundle import ModelBundle, load_bundle, untrained
from napari_dala.slide import open_slide
from napari_dala.training.finetune.deep import AfterLayer3, fit_layers
from napari_dala.training.finetune.gather import LabelledTiles, gather
from napari_dala.training.finetune.job import FinetuneSettings, SlideExamples
from napari_dala.training.finetune.tile_rows import RowFile, tile_rows, write_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from torch import Tensor

    from napari_dala.training.epochs import Epoch

TILE = 64
COLOURS = {"benign": (200, 150, 200), "Malignant": (110, 60, 150), "stroma": (230, 190, 190)}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Batches this small gain nothing from a second thread, and lose much on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def parent() -> ModelBundle:
    """Random weights, but batch norms that know coloured noise, so that features have the size of a trained trunk's."""
    bundle = untrained()
    rng = np.random.default_rng(1)
    noise = rng.normal(rng.uniform(60, 230, (24, 1, 1, 3)), 20, (24, TILE, TILE, 3)).clip(0, 255).astype(np.uint8)
    norms = [part for part in bundle.network.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    with torch.no_grad():
        bundle.network.features(bundle.normalize(torch.from_numpy(noise)))
    for norm in norms:
        norm.momentum = 0.1
    return replace(bundle, card=bundle.card.model_copy(update={"tile_px": TILE, "mpp": 0.5})).as_stored()


def settings(mode: str, **values: object) -> FinetuneSettings:
    asked = {"mode": mode, "epochs": 2, "batch_size": 4, "precision": "fp32", "device": "cpu", **values}
    return FinetuneSettings.model_validate(asked)


@pytest.fixture(scope="module")
def tiles(parent: ModelBundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelledTiles]:
    """A photograph of 6 x 3 tiles, each row of tiles coloured noise of its own class."""
    folder = tmp_path_factory.mktemp("slide")
    rng = np.random.default_rng(0)
    bands = [rng.normal(colour, 20, (TILE, 6 * TILE, 3)) for colour in COLOURS.values()]
    imsave(folder / "slide.png", np.concatenate(bands).clip(0, 255).astype(np.uint8))
    with open_slide(folder / "slide.png", mpp=0.5) as slide:
        fingerprint = slide.fingerprint
    document = AnnotationDocument(
        fingerprint=fingerprint,
        classes=tuple(AnnotationClass(name, colour) for name, colour in COLOURS.items()),
        annotations=tuple(
            Annotation.drawn(box(0, row * TILE, 6 * TILE, (row + 1) * TILE), name) for row, name in enumerate(COLOURS)
        ),
    )
    write_annotations(document, folder / "drawn.geojson")
    one = SlideExamples(slide=folder / "slide.png", annotations=folder / "drawn.geojson", mpp=0.5)
    with gather([one], parent.card, parent.trunk_hash, settings("deep")) as found:
        assert found.examples.counts == {"benign": 6, "malignant": 6, "stroma": 6}
        yield found


@pytest.fixture(scope="module")
def split(tiles: LabelledTiles) -> Split:
    held_out = tiles.examples.column >= 4
    return Split(np.flatnonzero(~held_out), np.flatnonzero(held_out))


class Told:
    """Keeps the rows of the epochs; says stop at the n-th question, if n is given."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.rows: list[Epoch] = []
        self.asked, self.stop_at = 0, stop_at
        self.kept: int | None = None

    def should_stop(self) -> bool:
        self.asked += 1
        return self.asked == self.stop_at


@pytest.fixture(scope="module")
def fit(parent: ModelBundle, tiles: LabelledTiles, split: Split) -> Callable[..., tuple[ModelBundle | None, Told]]:
    def run(folder: Path, mode: str, stop_at: int | None = None, **values: object) -> tuple[ModelBundle | None, Told]:
        told = Told(stop_at)
        asked = settings(mode, **values)
        fitted = fit_layers(
            parent, tiles, split, asked, folder, on_epoch=told.rows.append, should_stop=told.should_stop
        )
        told.kept = fitted.epoch_kept if fitted else None
        return fitted and fitted.bundle, told

    return run


@pytest.fixture(scope="module", params=["deep", "full"])
def done(request, fit, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, ModelBundle, Told]:
    folder = tmp_path_factory.mktemp(request.param)
    bundle, told = fit(folder, request.param)
    return request.param, folder, bundle, told


def weights(bundle: ModelBundle) -> dict[str, Tensor]:
    return bundle.network.state_dict()


def test_what_learns_and_what_stays(done, parent: ModelBundle) -> None:
    mode, _, bundle, _ = done
    before, after = weights(parent), weights(bundle)
    changed = {name for name in before if name in after and not torch.equal(before[name], after[name])}
    statistics = {name for name in before if name.startswith("trunk.") and "running_" in name}
    if mode == "deep":
        assert all(name.startswith(("trunk.layer4.", "attention.", "head.")) for name in changed)
        assert not changed & statistics
        assert {"trunk.layer4.0.conv1.weight", "trunk.layer4.2.bn3.weight", "attention.fc.weight"} <= changed
    else:
        assert statistics <= changed
        assert "trunk.conv1.weight" in changed


def test_the_bundle_has_what_later_training_needs(done, parent: ModelBundle, split: Split, tmp_path: Path) -> None:
    _, _, bundle, _ = done
    assert bundle.card.class_names == ("benign", "malignant", "stroma")
    assert (bundle.card.parent, bundle.card.temperature, bundle.familiarity) == (parent.hash, 1.0, None)
    assert bundle.trunk_hash != parent.trunk_hash
    assert torch.bincount(bundle.replay.labels).tolist() == [4, 4, 4]
    assert torch.allclose(bundle.basis.T @ bundle.basis, torch.eye(128), atol=1e-2)  # stored in 16 bits
    bundle.save(tmp_path / "bundle.safetensors")
    assert load_bundle(tmp_path / "bundle.safetensors").hash == bundle.hash


def test_layer3_s_maps_give_what_the_pixels_give(parent: ModelBundle, tiles: LabelledTiles, tmp_path: Path) -> None:
    indices = np.array([5, 17, 0, 9])
    path = tile_rows(tmp_path, "layer3", parent, tiles, indices, settings("deep"))
    pixels = torch.from_numpy(np.stack([tiles.read(index) for index in indices.tolist()]))
    with RowFile(path) as rows, torch.no_grad():
        maps = torch.from_numpy(np.stack([rows[place] for place in range(4)])).permute(0, 3, 1, 2).float()
        found = AfterLayer3(parent.network).eval()(maps)
        assert torch.allclose(found, parent.network(parent.normalize(pixels)), atol=1e-3)


def test_the_replayed_features_are_the_new_trunk_s(done, tiles: LabelledTiles, split: Split) -> None:
    _, _, bundle, _ = done
    pixels = torch.from_numpy(np.stack([tiles.read(index) for index in split.train.tolist()]))
    with torch.no_grad():
        means = bundle.network.features(bundle.normalize(pixels)).mean((2, 3))
    assert torch.equal(bundle.replay.labels, torch.from_numpy(tiles.examples.label[split.train]))
    assert torch.allclose(bundle.replay.features.float(), means, atol=2e-3 * float(means.max()))


def test_the_folder_when_it_is_done(done) -> None:
    _, folder, _, told = done
    with (folder / "metrics.csv").open(newline="") as file:
        assert [float(row["val_loss"]) for row in csv.DictReader(file)] == [row.val_loss for row in told.rows]
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["best.safetensors", "last.ckpt"]
    torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


@pytest.mark.parametrize("done", ["full"], indirect=True)  # deep: test_deep_job.py, by a kill
def test_an_interrupted_training_comes_to_the_same_end(done, fit, tmp_path: Path) -> None:
    mode, _, whole, told = done
    reading, batches, judging = 3, 3, 3  # 18 tiles by 8; 12 by 4; 6 by 2
    while_it_reads, while_it_judges, in_the_second_epoch = 2, reading + batches + 2, batches + judging + 2
    rows: list[Epoch] = []
    for stop_at, epochs in ((while_it_reads, 0), (while_it_judges, 0), (in_the_second_epoch, 1)):
        stopped, interrupted = fit(tmp_path, mode, stop_at)
        assert stopped is None
        assert interrupted.asked == stop_at  # at once
        rows += interrupted.rows
        assert len(rows) == epochs
        assert (tmp_path / "metrics.csv").exists() == bool(epochs)
    left = tmp_path / "checkpoints" / ".last-0a1b2c3d.ckpt"
    left.write_bytes(b"half written when the power went")
    torch.randn(7)  # what was drawn since does not matter
    again, second = fit(tmp_path, mode)
    rows += second.rows
    assert len(rows) == len(told.rows) == 2
    for here, there in zip(rows, told.rows, strict=True):
        assert here.train_loss == pytest.approx(there.train_loss, abs=1e-4)
        assert here.val_loss == pytest.approx(there.val_loss, abs=1e-4)
    ours, theirs = weights(again), weights(whole)
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) < 1e-3
    assert not left.exists()


def test_the_penalty_holds_the_weights_near_the_parent_s(fit, parent: ModelBundle, tmp_path: Path) -> None:
    def distance(penalty: float) -> float:
        bundle, _ = fit(tmp_path / str(penalty), "deep", epochs=1, penalty=penalty)
        name = "trunk.layer4.2.conv3.weight"
        return float((weights(bundle)[name] - weights(parent)[name]).norm())

    assert 0 < distance(5000.0) < 0.7 * distance(0.0)  # half the way back after each step


def test_the_best_epoch_is_handed_over(done, tiles: LabelledTiles, split: Split) -> None:
    _, _, bundle, told = done
    losses = [row.val_loss for row in told.rows]
    assert told.kept == int(np.argmin(losses)) + 1
    pixels = torch.from_numpy(np.stack([tiles.read(index) for index in split.test.tolist()]))
    with torch.no_grad():
        logits = bundle.network(bundle.normalize(pixels))
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(tiles.examples.label[split.test]))
    assert float(loss) == pytest.approx(min(losses), abs=0.02)  # 16 bits, and layer3's maps in float16


def test_an_epoch_that_made_it_worse_is_not_kept(
    parent: ModelBundle, tiles: LabelledTiles, split: Split, tmp_path: Path
) -> None:
    """The held-out tiles are called by other names than those to learn from: the more is learned, the worse."""
    label = tiles.examples.label.copy()
    label[split.test] = (label[split.test] + 1) % 3
    other = LabelledTiles(replace(tiles.examples, label=label), tiles.classes, tiles.sources, ())
    told: list[Epoch] = []
    fitted = fit_layers(parent, other, split, settings("deep", epochs=4), tmp_path, on_epoch=told.append)
    losses = [row.val_loss for row in told]
    assert fitted is not None
    assert fitted.epoch_kept == int(np.argmin(losses)) + 1 < len(told)
    pixels = torch.from_numpy(np.stack([tiles.read(index) for index in split.test.tolist()]))
    with torch.no_grad():
        logits = fitted.bundle.network(fitted.bundle.normalize(pixels))
    loss = float(torch.nn.functional.cross_entropy(logits, torch.from_numpy(label[split.test])))
    assert abs(loss - min(losses)) < abs(loss - losses[-1])  # the weights are that epoch's


def test_it_learns_with_nothing_held_out(parent: ModelBundle, tiles: LabelledTiles, tmp_path: Path) -> None:
    everything = Split(np.arange(len(tiles)), np.zeros(0, np.intp))
    told: list[Epoch] = []
    fitted = fit_layers(parent, tiles, everything, settings("deep", epochs=4), tmp_path, on_epoch=told.append)
    assert fitted is not None
    assert fitted.epoch_kept is None
    assert (told[0].val_loss, told[0].val_gmean) == (None, None)
    assert told[-1].train_loss < told[0].train_loss / 2
    assert told[-1].train_accuracy > 0.7


def test_rows_are_whole_or_not_there(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(7, 2, 3)).astype(np.float16)
    path = tmp_path / "rows.npy"
    write_rows(path, values.shape, np.float16, iter([values[:4], values[4:]]))
    assert np.array_equal(np.load(path), values)
    with RowFile(path) as rows:
        assert np.array_equal(rows[5], values[5])

    def broken() -> Iterator[np.ndarray]:
        yield values[:4]
        raise RuntimeError("the power went")

    with pytest.raises(RuntimeError, match="the power went"):
        write_rows(tmp_path / "other.npy", values.shape, np.float16, broken())
    assert [left.name for left in tmp_path.iterdir()] == ["rows.npy"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a file system of 64 KB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if sys.platform != "linux" or subprocess.run(["mount", *options], capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_is_one_line(small_disk: Path) -> None:
    block = np.zeros((1, 4096), np.uint8)
    with pytest.raises(JobError, match=r"rows\.npy: the disk is full; free some space"):
        write_rows(small_disk / "rows.npy", (64, 4096), np.uint8, (block for _ in range(64)))
    assert not list(small_disk.iterdir())


def test_nothing_is_kept_outside_the_folder(fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a run that is killed while it writes a checkpoint would leave it for ever."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "there is none"))
    bundle, _ = fit(tmp_path, "deep", epochs=1)
    assert bundle is not None


def test_rows_of_other_tiles_do_not_stay(parent: ModelBundle, tiles: LabelledTiles, tmp_path: Path) -> None:
    for indices in ([0, 1], [1, 2]):
        path = tile_rows(tmp_path, "pixels", parent, tiles, np.array(indices), settings("full"))
        assert list(tmp_path.iterdir()) == [path]
