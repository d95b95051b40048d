"""The models that come with the program: whole, trained, honest about themselves, and small enough."""

from __future__ import annotations

import torch

from napari_dala.model.bundle import load_model
from napari_dala.model.catalog import DEFAULT, TEACHING, find_card, find_model

MB = 1_000_000


def test_the_default_says_what_it_is() -> None:
    card = find_card("default")
    assert card.name == DEFAULT
    assert card.trained
    assert card.class_names == ("benign", "malignant")
    assert (card.tile_px, round(card.mpp, 2)) == (224, 1.0)
    assert "Research use only" in card.intended_use
    assert "CC BY" in card.licence
    assert "Spanhol" in card.citation
    assert any("of 76 patients" in limit for limit in card.limits)
    assert 0 < card.operating_threshold < 1
    points = card.metrics["operating_points"]
    assert points["at the operating threshold"]["threshold"] == card.operating_threshold
    for wished in (0.90, 0.95):
        assert points[f"for a sensitivity of {wished:.2f}"]["sensitivity"] >= wished
    scores = card.metrics["cross_validated"]["scores"]
    assert {"accuracy", "f1", "iba", "gmean", "recall", "ece"} <= scores.keys()
    assert scores["gmean"]["low"] <= scores["gmean"]["value"] <= scores["gmean"]["high"]
    assert card.metrics["change_of_a_probability_by_10_bits"]["p99"] <= 0.01
    assert card.metrics["change_of_a_probability_by_10_bits"]["max"] <= 0.03


def test_the_default_is_small_and_cautious() -> None:
    bundle = load_model("default")
    assert bundle.path is not None
    assert bundle.path.stat().st_size <= 40 * MB
    assert bundle.familiarity is not None
    assert sum(tensor.nbytes for tensor in bundle.familiarity.values()) < MB
    assert bundle.card.temperature != 1


def test_the_teaching_model_is_a_head_on_the_same_trunk() -> None:
    path = find_model(TEACHING)
    assert path is not None
    assert path.stat().st_size <= 8 * MB
    teaching = load_model(TEACHING)
    weights, own = (load_model(name).network.trunk.state_dict() for name in ("default", TEACHING))
    assert all(torch.equal(weights[key], own[key]) for key in weights)
    assert teaching.hash != load_model("default").hash
    assert "real tissue" in teaching.card.intended_use
