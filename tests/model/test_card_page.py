"""A card is a page to read: counts lead, what wants an explanation is left to the table of all of it."""

from __future__ import annotations

import re

import pytest

from napari_dala.model.card import UNTRAINED_CARD
from napari_dala.model.card_page import card_in_short, card_page, card_table
from napari_dala.model.catalog import list_models

CARDS = {entry.name: entry.card for entry in list_models() if entry.card}
MEASURED = {"classes": ["benign", "malignant"], "confusion": [[7, 3], [1, 9]], "n_patients": 4}


@pytest.mark.parametrize("name", CARDS)
def test_a_page_in_words(name: str) -> None:
    page = card_page(CARDS[name])
    assert [f"<h3>{heading}</h3>" in page for heading in ("What it is for", "How good it is", "Limits")] == [True] * 3
    assert not re.search(r"GMean|AUROC|\bF1\b|\biba\b|\d\.\d{4}|parent|temperature", page)


def test_what_it_finds_leads() -> None:
    card = UNTRAINED_CARD.model_copy(
        update={
            "summary": "Of tiles. GMean 0.9 (0.8–0.95), as measured. No expert.",
            "metrics": {"before": MEASURED, "after": MEASURED},
            "training": {"optimistic": True},
        }
    )
    assert card_in_short(card) == (
        "Of tiles. No expert. On tiles that were kept apart from learning (same slide, optimistic), it finds "
        "7 of 10 benign tiles (70 %) and 9 of 10 malignant tiles (90 %)."
    )
    assert "9 of 10 malignant tiles (90 %)" in card_page(card)


@pytest.mark.parametrize(
    "odd", [7, [], {"classes": ["a"]}, MEASURED | {"confusion": [[1]]}, MEASURED | {"confusion": "x"}]
)
def test_free_form_figures_stop_nothing(odd: object) -> None:
    card = UNTRAINED_CARD.model_copy(
        update={"metrics": {"after": odd}, "training": {"slides": "x", "tiles_trained": 3}}
    )
    assert "Nobody has measured it yet" in card_page(card)


def test_no_more_decimals_than_mean_something() -> None:
    card = UNTRAINED_CARD.model_copy(update={"metrics": {"a": 0.6781411359724613, "lr": 0.0003, "s": 430.0}})
    assert [f"<td>{text}</td>" in card_table(card) for text in ("0.678", "0.0003", "430")] == [True] * 3
