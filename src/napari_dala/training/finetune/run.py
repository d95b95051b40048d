"""What a fine-tuning job does in either way: attention and head on channel means, or layers of the trunk too."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError

from napari_dala.annotations.held_out import HeldOut, hold_out
from napari_dala.errors import AnnotationError, BundleError, JobError, SlideError
from napari_dala.files import write_json
from napari_dala.jobs.state import job_errors
from napari_dala.model.bundle_file import trunk_to_share
from napari_dala.model.bundle_head import load_head
from napari_dala.model.card import within_threshold
from napari_dala.model.trunks.names import RESNET50
from napari_dala.training.finetune.card import child_card, counts_of, figures, held_out_seen_before, with_figures
from napari_dala.training.finetune.check import (
    NOT_REFITTED,
    REFITTED,
    check_of,
    kept_threshold,
    picture_of,
    refitted_temperature,
    tempered,
    verdict,
)
from napari_dala.training.finetune.features import labelled_features, readable
from napari_dala.training.finetune.gather import gather
from napari_dala.training.finetune.job import (
    BUNDLE_FILE,
    RESULT_FILE,
    FinetuneConfig,
    FinetuneEvent,
    Finished,
    Prepared,
    as_json,
)
from napari_dala.training.finetune.quick import ChannelMeans, epochs_for, fit_head, mixed_replay, probabilities

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_dala.jobs.run import JobRun
    from napari_dala.model.bundle import ModelBundle
    from napari_dala.model.bundle_file import Bundle
    from napari_dala.model.bundle_head import BundleHead
    from napari_dala.training.epochs import Epoch
    from napari_dala.training.finetune.gather import LabelledTiles
    from napari_dala.training.finetune.job import FinetuneSettings


NO_HEAD = "the model before was a trunk alone, its head random: there are no figures of before"
NO_REPLAY = "the model before brings no tiles to be shown again: it may forget what it knew of tissue not labelled here"


@dataclass(frozen=True, eq=False)
class _Measured:
    """A new model and what it and its parent make of the held-out tiles and of the parent's own."""

    bundle: BundleHead | ModelBundle
    before: NDArray[np.float64]
    after: NDArray[np.float64]  # at temperature 1
    replay: dict[str, Any] | None
    epoch_kept: int | None = None  # from 1; None where it was not chosen


@dataclass(eq=False)
class FinetuneRun:
    """One run of a job: from the model and the drawings to the result.

    Parameters
    ----------
    run
        Entered.
    config
        What was asked for.
    settings
        Its settings, with the mode's own values where they were None.
    on_event
        Told what is reported.
    """

    run: JobRun
    config: FinetuneConfig
    settings: FinetuneSettings
    on_event: Callable[[FinetuneEvent], object] | None
    started: float = field(default_factory=time.perf_counter)

    def quick(self) -> Path | None:
        """Train attention and head."""
        self.run.say("reading the model")
        parent = load_head(self.config.model)
        with gather(self.config.slides, parent.card, parent.trunk_hash, self.settings) as tiles:
            features, had = labelled_features(
                tiles,
                self.settings,
                self._whole,
                parent.card.channels,
                on_progress=self._tell_reading,
                should_stop=self.run.should_stop,
            )
        if self.run.should_stop():
            return None
        tiles, features = _decoded(tiles, had), features[had]
        held_out, notes = self._prepared(parent, tiles)
        everything = ChannelMeans(torch.from_numpy(features).float(), torch.from_numpy(tiles.examples.label))
        train, test = everything.at(held_out.split.train), everything.at(held_out.split.test)
        replayed = everything.at(np.zeros(0, np.intp))
        if parent.replay is not None:
            replayed = ChannelMeans(parent.replay.features.float(), parent.replay.labels)
        network = fit_head(
            parent.network,
            len(tiles.classes),
            train,
            test,
            replayed,
            self.settings,
            on_epoch=self._tell_epoch,
            should_stop=self.run.should_stop,
        )
        if network is None:
            return None
        card = child_card(parent.card, parent.hash, self.config, tiles, held_out, self.settings, notes)
        child = parent.with_head(network, card, mixed_replay(replayed, train, self.settings.seed))
        replay = None
        if len(replayed):
            right = [
                float((probabilities(one.network, replayed.features).argmax(1) == replayed.labels.numpy()).mean())
                for one in (parent, child)
            ]
            replay = {"tiles": len(replayed), "before": right[0], "after": right[1]}
        before = probabilities(parent.network, test.features, parent.card.temperature)
        after = probabilities(child.network, test.features)
        return self._finished(parent, tiles, held_out, notes, _Measured(child, before, after, replay))

    def by_layers(self) -> Path | None:
        """Train layer4 too, or everything."""
        # These modes need the whole network, which takes seconds to import.
        from napari_dala.training.finetune.deep import NOTES, fit_layers
        from napari_dala.training.run_epochs import drop_checkpoints

        self.run.say("reading the model")
        parent = self._whole()
        if self.settings.mode == "deep" and parent.card.architecture != RESNET50:
            raise BundleError(
                f"{parent.card.name}: its trunk, {parent.card.architecture}, has no layer4, which the mode deep "
                "trains; choose quick, which keeps the trunk, or full"
            )
        with gather(self.config.slides, parent.card, parent.trunk_hash, self.settings) as tiles:
            had = readable(tiles, self.run.should_stop)
            if self.run.should_stop():
                return None
            tiles = _decoded(tiles, had)
            held_out, notes = self._prepared(parent, tiles)
            fitted = fit_layers(
                parent,
                tiles,
                held_out.split,
                self.settings,
                self.run.job.folder,
                on_epoch=self._tell_epoch,
                should_stop=self.run.should_stop,
            )
            if fitted is None or self.run.should_stop():
                return None
            notes += NOTES
            if fitted.epoch_kept is not None:
                notes.append(
                    f"epoch {fitted.epoch_kept} of {self.settings.epochs} was kept, the best on the held-out tiles: as "
                    "they chose it, their figures come out a little too good"
                )
            base = parent.card.model_copy(update={"temperature": 1.0})
            card = child_card(base, parent.hash, self.config, tiles, held_out, self.settings, notes)
            child = replace(fitted.bundle, card=card)
            self.run.say("measuring on the held-out tiles")
            found = self._predicted(tiles, held_out.split.test, parent, child)
        if found is None:
            return None
        before, after = found
        measured = _Measured(child, before, after, None, fitted.epoch_kept)
        path = self._finished(parent, tiles, held_out, notes, measured)
        drop_checkpoints(self.run.job.folder)
        return path

    def _predicted(
        self, tiles: LabelledTiles, indices: NDArray[np.intp], *bundles: ModelBundle
    ) -> list[NDArray[np.float64]] | None:
        """Return each bundle's probabilities of some tiles, (n, C) each; None where the job was stopped."""
        from napari_dala.inference.predictor import Predictor

        predictors = [Predictor(one, self.settings.device, self.settings.precision) for one in bundles]
        found = [[np.zeros((0, len(one.card.classes)))] for one in bundles]
        size = predictors[0].batch_size
        for start in range(0, len(indices), size):
            if self.run.should_stop():
                return None
            pixels = np.stack([tiles.read(index) for index in indices[start : start + size].tolist()])
            for predictor, rows in zip(predictors, found, strict=True):
                rows.append(predictor(pixels).probability.astype(np.float64))
        return [np.concatenate(rows) for rows in found]

    def _prepared(self, parent: Bundle, tiles: LabelledTiles) -> tuple[HeldOut, list[str]]:
        """Choose what to hold out; report what there is to learn from."""
        brings = parent.replay is not None and len(parent.replay.labels) > 0 and self.settings.replay > 0
        quick = self.settings.mode == "quick"
        if not (quick and brings) and sum(count > 0 for count in tiles.examples.counts.values()) < 2:
            raise AnnotationError("tiles of one class only are labelled: draw regions of another class too")
        grids = {source.fingerprint: source.grid for source in tiles.sources}
        held_out = hold_out(tiles.examples, grids, self.settings.validation, self.settings.seed)
        split = held_out.split
        if self.settings.epochs is None and self.settings.batch_size is not None:
            train = len(split.train)
            epochs = epochs_for(train, self.settings.batch_size, from_scratch=parent.card.trunk_only)
            self.settings = self.settings.model_copy(update={"epochs": epochs})
        further = [held_out_seen_before(parent.card, tiles, held_out)]
        if parent.card.trunk_only:
            further.append(NO_HEAD)
        else:
            further += [NO_REPLAY if quick and not brings else None, parent.card.warning]
        notes = [*split.notes, *tiles.notes, *(note for note in further if note)]
        assert self.settings.epochs is not None
        sides = counts_of(tiles, split.train), counts_of(tiles, split.test)
        self._report(Prepared(*sides, held_out.unit, split.optimistic, tuple(notes), self.settings.epochs))
        return held_out, notes

    def _finished(
        self, parent: Bundle, tiles: LabelledTiles, held_out: HeldOut, notes: list[str], measured: _Measured
    ) -> Path:
        """Measure, and write the result."""
        labels = tiles.examples.label[held_out.split.test]
        temperature = refitted_temperature(labels, measured.after)
        if len(labels):
            notes = [*notes, NOT_REFITTED if temperature is None else REFITTED]
        card = measured.bundle.card
        card = card.model_copy(update={"temperature": temperature or card.temperature})
        if len(card.classes) == 2:
            threshold = kept_threshold(card.operating_threshold, parent.card.temperature, card.temperature)
            card = card.model_copy(update={"operating_threshold": within_threshold(threshold)})
        probability = tempered(measured.after, card.temperature)
        after = figures(tiles, held_out, probability, card, self.settings)
        before = None  # of a random head they would mean nothing
        if not parent.card.trunk_only:
            before = figures(tiles, held_out, measured.before, parent.card, self.settings)
        child = replace(measured.bundle, card=with_figures(card, before, after))
        path = self.run.job.result / BUNDLE_FILE
        _save(child, path, trunk_to_share(parent.path) if self.settings.mode == "quick" else None)
        check = check_of(tiles, held_out, card, probability, temperature is not None)
        weak = held_out_seen_before(parent.card, tiles, held_out) or (check.too_few if check is not None else "")
        if check is not None:
            check.save(path.parent)
        result = {
            "mode": self.settings.mode,
            "name": self.config.name,
            "classes": list(tiles.examples.class_names),
            "parent": parent.hash,
            "bundle": child.hash,
            "same_trunk": self.settings.mode == "quick",
            "split": held_out.unit,
            "optimistic": held_out.split.optimistic,
            "notes": notes,
            "examples": {
                "train": counts_of(tiles, held_out.split.train),
                "held_out": counts_of(tiles, held_out.split.test),
            },
            "before": before,
            "after": after,
            "verdict": verdict(before, after),
            "verdict_is_weak": weak,
            "epoch_kept": measured.epoch_kept,
            "replay": measured.replay,
            "seconds": round(time.perf_counter() - self.started, 2),
            "settings": self.settings.model_dump(mode="json"),
        }
        with job_errors(path.with_name(RESULT_FILE)):
            write_json(path.with_name(RESULT_FILE), result)
        self._report(Finished())
        if check is not None:
            from napari_dala.results.report.check_page import write_check_page

            with tiles:
                at = held_out.split.test
                write_check_page(check, path.parent, lambda place: picture_of(tiles, int(at[place])))
        return path

    def _whole(self) -> ModelBundle:
        from napari_dala.model.bundle import load_model

        return load_model(self.config.model)

    def _tell_reading(self, done: int, total: int) -> None:
        self.run.say(f"reading tiles: {done} of {total}")

    def _tell_epoch(self, row: Epoch) -> None:
        self.run.say(f"epoch {row.epoch + 1} of {self.settings.epochs}")
        self._report(row)

    def _report(self, event: FinetuneEvent) -> None:
        self.run.report(**as_json(event))
        if self.on_event:
            self.on_event(event)


def _decoded(tiles: LabelledTiles, had: NDArray[np.bool_]) -> LabelledTiles:
    """Return those tiles that could be decoded, with a note on the others."""
    if not had.any():
        raise SlideError("none of the labelled tiles can be decoded; copy the slide's file again")
    if had.all():
        return tiles
    return tiles.only(had, [f"{int((~had).sum())} labelled tiles cannot be decoded and were left out"])


def _save(bundle: Bundle, path: Path, trunk_of: str | None) -> None:
    with job_errors(path):
        try:
            bundle.save(path, trunk_of=trunk_of)
        except SafetensorError as error:  # it has no other word for a disk that is full
            raise JobError(f"{path}: cannot be written, is the disk full? ({error})") from error
