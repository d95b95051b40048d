"""`dala explain-cases` and `dala reader-study`, from class folders and bundles to filled forms that are scored."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def data(noise_photographs: Path) -> tuple[object, ...]:
    return ("--dataset", "folder", "--root", noise_photographs, "--device", "cpu")


def test_cases_are_written(run, noise_photographs: Path, fold_models, data, tmp_path: Path) -> None:
    code, printed, err = run("explain-cases", *fold_models, *data, "--each", 1, "--out", tmp_path / "out")
    assert code == 0, err
    assert "photograph 16/16" in printed
    stored = json.loads((tmp_path / "out" / "cases.json").read_text())
    assert [one["name"] for one in stored["models"]] == ["fold 1", "fold 2"]
    assert {case["kind"] for case in stored["cases"]} <= {"best", "typical", "failed"}
    assert len(stored["cases"]) >= 3
    assert str(noise_photographs.parent) not in json.dumps(stored)
    assert (tmp_path / "out" / "cases.html").read_text().startswith("<!DOCTYPE html>")


def test_a_form_is_made_filled_and_scored(run, fold_models, data, tmp_path: Path) -> None:
    out = tmp_path / "study"
    asked = ("reader-study", "form", *fold_models, *data, "--pairs", 4, "--repeats", 1, "--out", out)
    code, _, err = run(*asked)
    assert code == 0, err
    code, _, err = run(*asked)
    assert code == 2
    assert "holds a form already" in err
    key = json.loads((out / "form.key.json").read_text())
    for reader in ("A", "B"):
        answers = {
            item["item"]: {"diagnosis": item["label"], "better": item["dt"], "left": 3, "right": 3}
            for item in key["items"]
        }
        form = {"format": "napari-dala filled form", "form": key["form"], "reader": reader, "answers": answers}
        (tmp_path / f"{reader}.json").write_text(json.dumps(form))
    files = (tmp_path / "A.json", tmp_path / "B.json")
    scored = ("--key", out / "form.key.json", "--out", tmp_path / "scores")
    code, printed, err = run("reader-study", "score", *files, *scored)
    assert code == 0, err
    assert "Agreement between readers" in printed
    stored = json.loads((tmp_path / "scores" / "reading.json").read_text())
    assert stored["preferences"][0]["shares"]["DT Grad-CAM"]["value"] == 1
    assert [one["who"] for one in stored["between"]] == ["A and B"]
    assert all((tmp_path / "scores" / f"reading.{kind}").stat().st_size for kind in ("html", "md"))

    code, _, err = run("reader-study", "score", files[0], files[0], *scored)
    assert (code, err.strip().count("\n")) == (2, 0)
    assert "reader A is in" in err
    code, _, err = run("reader-study", "score", files[0], "--key", files[1], "--out", tmp_path / "more")
    assert (code, err.strip().count("\n")) == (2, 0)
    assert "B.json: damaged" in err
    assert not (tmp_path / "more").exists()


def test_a_model_that_says_nothing_of_its_patients_is_one_line(run, data, tmp_path: Path) -> None:
    code, _, err = run("explain-cases", "untrained", *data, "--out", tmp_path / "out")
    assert code == 2
    assert "does not name the patients it was trained on" in err
    assert err.strip().count("\n") == 0
    assert not (tmp_path / "out").exists()
