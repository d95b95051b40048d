"""What attention does in bundles: tables, plots and one page."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_dala.evaluation.attention.gates import AS_TRAINED, VARIANTS
from napari_dala.evaluation.attention.panels import beyond_chance, difference_panels, figure_key, heading
from napari_dala.evaluation.attention.plots import added_by_channels, gates_by_class
from napari_dala.evaluation.figures import write_figures
from napari_dala.evaluation.page import evaluation_page
from napari_dala.evaluation.tables import Table, signed
from napari_dala.files import csv_text, write_json, write_text
from napari_dala.metrics.paired import mean_figures, paired_differences

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from napari_dala.datasets.images import ImageDataset
    from napari_dala.evaluation.attention.gates import BundleGates
    from napari_dala.metrics.scores import Estimate

_CAPTIONS = {
    "gate-replaced": "What replacing the gates does at inference: figures with the gates replaced less figures as "
    "trained, on the same photographs. Dots and lines: difference and 95 % interval. Dashed: no difference.",
    "gates": "The gates. Left: how often a gate of a tile has which value, by the tile's class. Right: each channel's "
    "mean gate by class; above the dashed line it is raised more in the second class. Black, grey: bundles in turn.",
    "contributions": "How few channels make up a logit: part of all that channels add or take, the largest first.",
}


@dataclass(frozen=True, eq=False)
class AttentionStudy:
    """Bundles, each on photographs of patients that it never saw.

    Attributes
    ----------
    dataset
        The photographs.
    bundles
        What was found of each.
    command
        The command line, for the record.
    n_boot
        Draws of patients for the intervals.
    """

    dataset: ImageDataset
    bundles: tuple[BundleGates, ...]
    command: str
    n_boot: int = 2000

    @property
    def target(self) -> int:
        """The class whose logit the strongest channels and tiles are of: that which the first bundle looks for."""
        return self.bundles[0].target

    @property
    def figures(self) -> tuple[str, ...]:
        """Names of the figures: recalls, GMean, AUROC."""
        return (*(f"recall {number}" for number in range(len(self.dataset.classes))), "gmean", "auroc")

    @cached_property
    def scores(self) -> dict[str, dict[str, Estimate]]:
        """By what stands in for the gates: each figure over all bundles, with an interval by patient."""
        return {name: mean_figures(self._labels, self._pooled(name), **self._how) for name in VARIANTS}

    @cached_property
    def differences(self) -> dict[str, Mapping[str, Estimate]]:
        """The same less the figures as trained, on the same photographs and draws of patients."""
        trained = self._pooled(AS_TRAINED)
        return {
            name: paired_differences(self._labels, self._pooled(name), trained, **self._how) for name in VARIANTS[1:]
        }

    @property
    def notes(self) -> tuple[str, ...]:
        """What must be read beside the figures, a sentence each."""
        trained = all(bundle.mean_of_training for bundle in self.bundles)
        own = [
            "a photograph counts as its likeliest class at temperature 1, before anything was fitted",
            "off (a = 0) takes away not only the choice of channels but about a third of every channel's size, which "
            "shifts all logits; one number for all channels keeps the size and takes the choice alone",
            f"the mean of each gate is that over {'training tiles stored in the bundle' if trained else 'these tiles'}",
            "the gate is one number per channel for a whole tile: it says nothing of where in the tile",
            "channels of different bundles are different things, whatever their numbers",
        ]
        if not self.dataset.patients_known:
            own.append("patients unknown: the intervals take images for independent")
        return tuple(dict.fromkeys((*own, *(note for bundle in self.bundles for note in bundle.notes))))

    @property
    def _labels(self) -> Any:
        return np.concatenate([self.dataset.labels[bundle.indices] for bundle in self.bundles])

    @property
    def _how(self) -> dict[str, Any]:
        groups = np.concatenate([self.dataset.patients[bundle.indices] for bundle in self.bundles])
        known = self.dataset.patients_known
        return {"groups": groups if known else None, "figures": self.figures, "n_boot": self.n_boot}

    def _pooled(self, variant: str) -> Any:
        return np.concatenate([bundle.probabilities[variant] for bundle in self.bundles])


def attention_tables(study: AttentionStudy) -> list[Table]:
    """Return the tables: figures and differences of each variant, the gates of each bundle, its strongest channels."""
    classes = study.dataset.classes
    headings = [heading(name, classes) for name in study.figures]
    target = classes[study.target]
    return [
        Table(
            "With the gates as trained, and replaced at inference (95 % interval)",
            ("Gates", *headings),
            tuple((name, *map(str, found.values())) for name, found in study.scores.items()),
        ),
        Table(
            "Difference from the gates as trained, on the same photographs (95 % interval)",
            ("Gates", *headings),
            tuple((name, *map(signed, found.values())) for name, found in study.differences.items()),
        ),
        Table(
            "The gates a of each bundle, on its own photographs",
            (
                "Bundle",
                "Photographs",
                "Tiles",
                "Mean",
                *(f"Mean, {name}" for name in classes),
                "SD between channels",
                "SD between tiles",
                "Channels raised more in each class",
                f"Channels for half of {target}'s logit",
            ),
            tuple(_row(number, bundle, study) for number, bundle in enumerate(study.bundles, 1)),
        ),
        *(_channels(number, bundle, study) for number, bundle in enumerate(study.bundles, 1)),
    ]


def write_attention_report(study: AttentionStudy, out: Path) -> list[Path]:
    """Write attention.html and .json, the tables as CSV and the plots into a folder; return their paths."""
    classes = study.dataset.classes
    write_json(out / "attention.json", _as_json(study))
    csvs = {"variants.csv": _variant_rows(study), "channels.csv": _channel_rows(study), "tiles.csv": _tile_rows(study)}
    for name, rows in csvs.items():
        write_text(out / name, csv_text(rows))
    drawn = {
        "gate-replaced": difference_panels(study.differences, classes, ("replaced less as trained", "gates")),
        "gates": gates_by_class(study.bundles, classes),
        "contributions": added_by_channels(study.bundles, study.target, classes),
    }
    names = ", ".join(
        f"bundle {number}: {bundle.name} ({bundle.bundle_hash[:8]})" for number, bundle in enumerate(study.bundles, 1)
    )
    words = [
        "Asked: what does the channel attention do? Each gate a, between 0 and 1, multiplies its channel by 1 + a, by "
        "what all channels are in this tile. Here the gates are looked at, and replaced without training again.",
        "With the gates replaced, against as trained:",
        *beyond_chance(study.differences, classes),
    ]
    page = evaluation_page(
        f"The attention on {study.dataset.name}",
        f"{study.dataset.summary}. {names}. {study.command}",
        words,
        attention_tables(study),
        study.notes,
        {_CAPTIONS[name]: figure for name, figure in drawn.items()},
    )
    write_text(out / "attention.html", page)
    return [*(out / name for name in ("attention.html", "attention.json", *csvs)), *write_figures(drawn, out)]


def _row(number: int, bundle: BundleGates, study: AttentionStudy) -> tuple[str, ...]:
    return (
        f"bundle {number}",
        str(len(bundle.indices)),
        str(bundle.tiles),
        f"{bundle.gates.mean():.3f}",
        *("–" if np.isnan(mean) else f"{mean:.3f}" for mean in bundle.by_class.mean(1)),
        f"{bundle.gates.mean(0).std():.3f}",
        f"{bundle.gates.std(0).mean():.3f}",
        _raised(bundle, study.dataset.classes),
        str(bundle.half[study.target]),
    )


def _raised(bundle: BundleGates, classes: Sequence[str]) -> str:
    """Say how many channels' gates differ by class beyond the interval, and of how many."""
    bounds = [(one.low, one.high) for one in bundle.differences if one.low is not None and one.high is not None]
    if not bounds:
        return "–"
    above, below = sum(low > 0 for low, _ in bounds), sum(high < 0 for _, high in bounds)
    return f"{classes[1]} {above}, {classes[0]} {below} of {len(bundle.differences)}"


def _channels(number: int, bundle: BundleGates, study: AttentionStudy) -> Table:
    classes = study.dataset.classes
    rows = []
    for channel, tiles in bundle.driving.items():
        first = tiles[0]
        rows.append(
            (
                str(channel),
                f"{bundle.contributions[study.target, channel]:+.4f}",
                f"{bundle.shares[study.target, channel]:.2%}",
                *(_gate(mean) for mean in bundle.by_class[:, channel]),
                signed(bundle.differences[channel]) if bundle.differences else "–",
                f"{first.contribution:+.4f}, {study.dataset.images[first.image].path.name}, "
                f"square {first.square[0]} of {first.square[1]}",
            )
        )
    return Table(
        f"Bundle {number}: the {len(rows)} channels that move {classes[study.target]}'s logit most",
        ("Channel", "Adds, mean", "Share", *(f"Gate, {name}" for name in classes), "Difference", "Most, in"),
        tuple(rows),
    )


def _gate(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.3f}"


def _variant_rows(study: AttentionStudy) -> list[dict[str, object]]:
    classes = study.dataset.classes
    rows = []
    for variant in VARIANTS:
        row: dict[str, object] = {"gates": variant}
        for suffix, found in (("", study.scores[variant]), ("_difference", study.differences.get(variant, {}))):
            for name, one in found.items():
                row |= one.as_columns(f"{figure_key(name, classes)}{suffix}")
        rows.append(row)
    return rows


def _channel_rows(study: AttentionStudy) -> list[dict[str, object]]:
    """Return a row for each bundle and channel."""
    classes = study.dataset.classes
    rows = []
    for bundle in study.bundles:
        mean, spread = bundle.gates.mean(0), bundle.gates.std(0)
        for channel in range(bundle.gates.shape[1]):
            row: dict[str, object] = {
                "bundle": bundle.bundle_hash[:16],
                "channel": channel,
                "gate": float(mean[channel]),
                "gate_sd_between_tiles": float(spread[channel]),
            }
            for number, name in enumerate(classes):
                value = float(bundle.by_class[number, channel])
                row[f"gate_{name}"] = None if np.isnan(value) else value
            if bundle.differences:
                row |= bundle.differences[channel].as_columns("gate_difference")
            for number, name in enumerate(classes):
                row[f"adds_to_{name}"] = float(bundle.contributions[number, channel])
                row[f"share_of_{name}"] = float(bundle.shares[number, channel])
            rows.append(row)
    return rows


def _tile_rows(study: AttentionStudy) -> list[dict[str, object]]:
    """Return a row for each tile that drives one of the strongest channels."""
    rows: list[dict[str, object]] = []
    for bundle in study.bundles:
        for channel, tiles in bundle.driving.items():
            for rank, tile in enumerate(tiles, 1):
                image = study.dataset.images[tile.image]
                rows.append(
                    {
                        "bundle": bundle.bundle_hash[:16],
                        "channel": channel,
                        "rank": rank,
                        "image": image.path.name,
                        "label": study.dataset.classes[image.label],
                        "square": tile.square[0],
                        "squares": tile.square[1],
                        "adds": tile.contribution,
                        "gate": tile.gate,
                    }
                )
    return rows


def _as_json(study: AttentionStudy) -> dict[str, Any]:
    classes = study.dataset.classes

    def plain(found: Mapping[str, Estimate]) -> dict[str, Any]:
        return {figure_key(name, classes): asdict(one) for name, one in found.items()}

    return {
        "data": study.dataset.summary,
        "command": study.command,
        "target": classes[study.target],
        "scores": {name: plain(found) for name, found in study.scores.items()},
        "difference_from_trained": {name: plain(found) for name, found in study.differences.items()},
        "bundles": [
            {
                "name": bundle.name,
                "hash": bundle.bundle_hash,
                "photographs": len(bundle.indices),
                "tiles": bundle.tiles,
                "gate": float(bundle.gates.mean()),
                "gate_sd_between_channels": float(bundle.gates.mean(0).std()),
                "gate_sd_between_tiles": float(bundle.gates.std(0).mean()),
                "channels_for_half": dict(zip(classes, bundle.half, strict=True)),
            }
            for bundle in study.bundles
        ],
        "notes": list(study.notes),
    }
