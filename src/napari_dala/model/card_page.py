"""The model card as HTML, for reports and for the docks: a page in words, and all of it as a table. No torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from html import escape
from typing import TYPE_CHECKING, Any

from napari_dala.words import counted, percent

if TYPE_CHECKING:
    from napari_dala.model.card import ModelCard, TrunkSource

_MEASURED = {
    "cross_validated": ("patients that it had not seen, a part of them each time", "photograph"),
    "held_out": ("photographs that were kept apart from training", "photograph"),
    "after": ("tiles that were kept apart from learning", "tile"),
}  # by where a card's metrics have them
_FIGURES = re.compile(r"\b(GMean|F1|IBA|AUROC)\b")


def card_in_short(card: ModelCard) -> str:
    """Return what to know of a model in two or three sentences: what it found, without figures to be explained."""
    sentences = [text for text in re.split(r"(?<=[.!?])\s+", card.summary) if not _FIGURES.search(text)]
    measured = [f"On {where}, it finds {_listed(found)}." for where, found in _measured(card)[:1]]
    return " ".join((*sentences, *measured))


def card_page(card: ModelCard) -> str:
    """Return a card as a page to read: what it is for, what it was trained on, how good it is, its limits."""
    target = card.class_names[card.target_class]
    warning = f"<p><b>This model is {escape(card.warning)}.</b></p>" if card.warning else ""
    looks = (
        f"It tells {escape(_listed(card.class_names))} apart, in squares of {card.tile_px * card.mpp:.0f} µm "
        f"({card.tile_px} px at {card.mpp:g} µm/px). A square counts as {escape(target)} from a probability of "
        f"{card.operating_threshold:.2f}."
    )
    parts = {
        "What it is for": [escape(card.intended_use), looks],
        "What it was trained on": [escape(card.data), *_training(card)],
        "How good it is": [
            f"On {where}, it finds<ul>{''.join(f'<li>{escape(text)}</li>' for text in found)}</ul>"
            for where, found in _measured(card)
        ]
        or ["Nobody has measured it yet, or the card does not say so in counts."],
        "Limits": [escape(limit) for limit in card.limits]
        or ["The card states none. That does not mean there are none."],
        "Licence": [escape(card.licence), escape(card.citation)],
        "Where its trunk is from": _trunk(card.trunk_source),
    }
    return f"<h2>{escape(card.name)}</h2>{warning}<p>{escape(card_in_short(card))}</p>" + "".join(
        f"<h3>{heading}</h3>" + "".join(f"<p>{text}</p>" for text in texts if text)
        for heading, texts in parts.items()
        if any(texts)
    )


def card_table(card: ModelCard, bundle_hash: str | None = None) -> str:
    """Return all of a card as an HTML table.

    Parameters
    ----------
    card
        Of the model.
    bundle_hash
        Of its bundle, where it is known.
    """
    rows = {
        "Name": card.name,
        "Trained": f"NO: {card.warning}" if card.warning else "yes",
        "Summary": card.summary,
        "Intended use": card.intended_use,
        "Limits": card.limits,
        "Classes": card.class_names,
        "Operating threshold": f"{card.operating_threshold:.2f} for {card.class_names[card.target_class]}",
        "Softening of probabilities (temperature)": f"{card.temperature:.2f}",
        "Tile": f"{card.tile_px} px at {card.mpp:g} µm/px",
        "Data": card.data,
        "Metrics": card.metrics or "none stated",
        "Training": card.training,
        "Architecture": card.architecture,
        "Trunk": f"{card.channels} channels, a cell of {card.cell_px} px",
        "Weights of the trunk": {} if card.trunk_source is None else card.trunk_source.model_dump(),
        "Licence": card.licence,
        "Citation": card.citation,
    }
    return table(rows | ({} if bundle_hash is None else {"Hash": bundle_hash}))


def table(values: Mapping[str, Any]) -> str:
    """Return a mapping of JSON values as an HTML table of two columns."""
    rows = (
        f"<tr><th>{escape(str(key).replace('_', ' '))}</th><td>{_cell(value)}</td></tr>"
        for key, value in values.items()
    )
    return "<table><tbody>" + "".join(rows) + "</tbody></table>"


def _trunk(source: TrunkSource | None) -> list[str]:
    """Return what the card says of the file that the trunk's weights came from."""
    if source is None:
        return []
    licence = "\n".join(f"<br>{escape(line)}" for line in source.licence.splitlines())
    return [
        f"Weights that somebody brought: {escape(source.file)}, SHA-256 {source.sha256}. Their licence binds whoever "
        f"uses this model: {licence or 'its text was not given.'}"
    ]


def _measured(card: ModelCard) -> list[tuple[str, list[str]]]:
    """Return on what the model was measured and, for each class, how many of its samples it found."""
    measured = []
    for key, (where, noun) in _MEASURED.items():
        found: Any = card.metrics.get(key)
        if isinstance(found, Mapping) and _is_table(found):
            optimistic = " (same slide, optimistic)" if card.training.get("optimistic") is True else ""
            rows = zip(found["classes"], found["confusion"], strict=True)
            counts = [
                f"{row[index]} of {counted(sum(row), f'{name} {noun}')} ({percent(row[index] / sum(row))})"
                for index, (name, row) in enumerate(rows)
                if sum(row)
            ]
            measured.append((f"{where}{optimistic}", counts))
    return measured


def _is_table(found: Mapping[str, Any]) -> bool:
    classes, confusion = found.get("classes"), found.get("confusion")
    return (
        isinstance(classes, list)
        and isinstance(confusion, list)
        and len(confusion) == len(classes)
        and all(isinstance(row, list) and len(row) == len(classes) for row in confusion)
        and all(isinstance(count, int) for row in confusion for count in row)
    )


def _training(card: ModelCard) -> list[str]:
    """Return what the card's free-form training says in words that are known here."""
    told, texts = card.training, []
    tiles = told.get("tiles_trained")
    if isinstance(tiles, Mapping):
        counts = _listed([f"{number} {name}" for name, number in tiles.items()])
        slides = told.get("slides")
        of = f" of {counted(slides, 'slide')}" if isinstance(slides, int) else ""
        texts.append(f"Labelled tiles: {escape(counts)}{of}.")
    images, patients = told.get("images_trained"), told.get("patients_trained")
    if isinstance(images, int):
        of = f" of {counted(len(patients), 'patient')}" if isinstance(patients, list) and patients else ""
        texts.append(f"{counted(images, 'photograph')}{of}.")
    start = told.get("initial_weights")
    if isinstance(start, str):
        texts.append(f"Start: {escape(start)}.")
    return texts


def _listed(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _cell(value: Any) -> str:
    """Show any JSON value: a mapping as a table, a list as lines or with commas, nothing as a dash."""
    if isinstance(value, Mapping) and value:
        return table(value)
    if isinstance(value, (list, tuple)) and value:
        flat = all(isinstance(part, (int, float)) or len(str(part)) < 24 for part in value)
        return (", " if flat else "<br>").join(_cell(part) for part in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".") if abs(value) >= 0.01 else f"{value:.2g}"
    return escape(str(value)) if value or value == 0 else "–"
