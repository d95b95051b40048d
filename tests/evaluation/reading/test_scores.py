"""Filled forms whose answers are known, scored."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from napari_dala.errors import ReadingError
from napari_dala.evaluation.cases.study import DT, PLAIN
from napari_dala.evaluation.reading.documents import Answer, FilledForm, KeyItem, ReadingKey, read_forms, read_key
from napari_dala.evaluation.reading.report import tables, write_scores
from napari_dala.evaluation.reading.scores import EQUAL, score_readings

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("benign", "malignant")


def made_key(pairs: int = 8, repeats: int = 2) -> ReadingKey:
    """DT on the left of even items; every pair of its own patient; the model is wrong of the last."""
    items = []
    for number in range(pairs):
        label = NAMES[number % 2]
        explained = label if number < pairs - 1 else NAMES[1 - number % 2]
        items.append(
            KeyItem(
                item=f"{number:03}", dt="left" if number % 2 == 0 else "right", image=f"{number}.png",
                patient=f"p{number}", label=label, explained=explained, probability=0.8, kept=0.4 * (number > 0),
            )
        )  # fmt: skip
    for number in range(repeats):
        first = items[number]
        again = {"item": f"{pairs + number:03}", "repeats": first.item, "dt": "right" if first.dt == "left" else "left"}
        items.append(first.model_copy(update=again))
    return ReadingKey(form="abc", seed=0, classes=NAMES, items=tuple(items))


def filled(key: ReadingKey, reader: str, prefers: Any, marks: tuple[int, int] = (2, 4)) -> FilledForm:
    """A reader who prefers DT, PLAIN or EQUAL by a function of the item, and gives plain and DT these marks."""
    answers = {}
    for item in key.items:
        other = "right" if item.dt == "left" else "left"
        better = {DT: item.dt, PLAIN: other, EQUAL: "equal"}[prefers(item)]
        by_side = {other: marks[0], item.dt: marks[1]}
        answers[item.item] = Answer(diagnosis=item.label, better=better, left=by_side["left"], right=by_side["right"])
    return FilledForm(form=key.form, reader=reader, answers=answers)


def test_sides_are_undone_and_repeats_kept_apart() -> None:
    key = made_key()
    found = score_readings(key, [filled(key, "A", lambda item: DT if item.repeats is None else PLAIN)])
    whole = found.preferences[0]
    assert (whole.of, whole.count, whole.cases) == ("all", 8, 8)
    assert {name: share.value for name, share in whole.shares.items()} == {PLAIN: 0, EQUAL: 0, DT: 1}
    assert whole.difference.value == 1
    assert whole.difference.low is None  # the same in every draw: no certainty is claimed
    assert (found.matches[0].means[PLAIN].value, found.matches[0].difference.value) == (2, 2)
    assert found.within[0].cases == 2
    assert found.within[0].same == 0
    assert found.within[0].match is not None
    assert found.within[0].diagnosis == 1


def test_shares_have_intervals_and_parts_are_told_apart() -> None:
    key = made_key()
    found = score_readings(key, [filled(key, "A", lambda item: DT if int(item.item) < 6 else PLAIN)])
    by_name = {one.of: one for one in found.preferences}
    share = by_name["all"].shares[DT]
    assert share.value == pytest.approx(6 / 8)
    assert share.low is not None
    assert share.high is not None
    assert share.low < 6 / 8 < share.high
    assert {name: one.count for name, one in by_name.items()} == {
        "all": 8,
        "DT kept something": 7,
        "the reader's diagnosis is the model's": 7,
        "the model is right": 7,
        "the model is wrong": 1,
        "is benign": 4,
        "is malignant": 4,
    }
    assert by_name["the model is wrong"].shares[PLAIN].value == 1
    assert found.readers[0].left == sum((item.dt == "left") == (int(item.item) < 6) for item in key.items)


def test_agreement_between_two_and_of_three() -> None:
    key = made_key()
    even = filled(key, "A", lambda item: DT if int(item.item) % 2 == 0 else PLAIN)
    same = filled(key, "B", lambda item: DT if int(item.item) % 2 == 0 else PLAIN)
    against = filled(key, "C", lambda item: PLAIN if int(item.item) % 2 == 0 else DT, marks=(4, 2))
    two = score_readings(key, [even, same]).between
    assert [(one.who, one.cases, one.same, one.preference) for one in two] == [("A and B", 8, 1.0, 1.0)]
    three = score_readings(key, [even, same, against]).between
    assert [one.who for one in three] == ["A and B", "A and C", "B and C", "all (Fleiss)"]
    assert three[1].preference == pytest.approx(-1)
    assert three[1].match is not None
    assert three[1].match < 0
    assert three[3].preference == pytest.approx(-1 / 3)
    assert three[3].diagnosis == pytest.approx(1)


def test_an_unfinished_form_counts_as_far_as_it_goes(tmp_path: Path) -> None:
    key = made_key()
    answers = {"000": Answer(diagnosis="cannot tell"), "001": Answer(diagnosis="benign", better="equal", left=3)}
    found = score_readings(key, [FilledForm(form="abc", reader="A", answers=answers)])
    assert found.preferences[0].count == 1
    assert not found.matches
    summary = found.readers[0]
    assert (summary.answered, summary.asked, summary.diagnosed, summary.cannot_tell) == (0, 10, 1, 1)
    assert any("not finished: A (0 of 10)" in note for note in found.notes)
    written = write_scores(found, "dala reader-study score", tmp_path)
    assert json.loads(written[2].read_text())["preferences"][0]["shares"][EQUAL]["value"] == 1
    html = written[0].read_text()
    assert all(f"<h2>{part.title}" in html for part in tables(found))
    assert "## Agreement of each reader with themselves" in written[1].read_text()


def test_without_a_preference_there_is_nothing_to_score() -> None:
    key = made_key()
    with pytest.raises(ReadingError, match="nothing to score"):
        score_readings(key, [FilledForm(form="abc", reader="A", answers={"000": Answer(diagnosis="benign")})])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"form": "xyz"}, "is of form xyz, the key of form abc"),
        ({"reader": "Jane Doe"}, "damaged, not what it should be (reader"),
        ({"answers": {"777": {}}}, "answers item 777, which the form does not have"),
        ({"answers": {"000": {"diagnosis": "necrosis"}}}, "the diagnosis “necrosis”"),
        ({"answers": {"000": {"left": 6}}}, "damaged, not what it should be (answers.000.left"),
        ({"answers": {"000": {"better": "DT"}}}, "damaged, not what it should be (answers.000.better"),
        ({"more": 1}, "damaged, not what it should be (more"),
        ({"reader": "A"}, "reader A is in"),
    ],
)
def test_what_is_no_answer_is_one_line(tmp_path: Path, change: dict[str, Any], expected: str) -> None:
    key = made_key()
    good, other = tmp_path / "good.json", tmp_path / "other.json"
    form = filled(key, "A", lambda item: EQUAL).model_dump(mode="json")
    good.write_text(json.dumps(form))
    other.write_text(json.dumps({**form, "reader": "B", **change}))
    with pytest.raises(ReadingError) as error:
        read_forms([good, other], key)
    assert expected in str(error.value)
    assert str(other) in str(error.value)
    assert len(read_forms([good], key)) == 1


def test_a_damaged_key_is_one_line(tmp_path: Path) -> None:
    value = made_key().model_dump(mode="json")
    path = tmp_path / "form.key.json"
    path.write_text(json.dumps(value))
    assert read_key(path) == made_key()
    for wrong in ({**value, "items": value["items"][1:]}, {**value, "format": "x"}, []):
        path.write_text(json.dumps(wrong))
        with pytest.raises(ReadingError, match=r"form\.key\.json: damaged"):
            read_key(path)
