"""What filled forms say: which map was preferred, how well each matched, how far readers agree."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from napari_dala.errors import ReadingError
from napari_dala.evaluation.cases.study import DT, PLAIN
from napari_dala.evaluation.reading.documents import CANNOT_TELL
from napari_dala.metrics.agreement import cohen_kappa, fleiss_kappa
from napari_dala.metrics.scores import Estimate, mean_estimates

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_dala.evaluation.reading.documents import FilledForm, KeyItem, ReadingKey

EQUAL = "equal"
PREFERENCES = (PLAIN, EQUAL, DT)
MARKS = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Reading:
    """One reader's answer to one pair, unblinded; None for what was left open."""

    reader: str
    item: KeyItem
    diagnosis: str | None
    preferred: str | None
    matches: Mapping[str, int | None]


@dataclass(frozen=True)
class Preference:
    """Which map was preferred in some readings; all shares add to 1.

    Attributes
    ----------
    of
        Which readings.
    count, cases
        Readings, and pairs that they are of.
    shares
        By `PREFERENCES`, with intervals.
    difference
        Share of DT less that of plain Grad-CAM.
    """

    of: str
    count: int
    cases: int
    shares: Mapping[str, Estimate]
    difference: Estimate


@dataclass(frozen=True)
class MatchMarks:
    """How well the maps matched, 1 to 5, in readings that marked both.

    Attributes
    ----------
    of
        Which readings.
    count
        How many.
    means
        By map.
    difference
        Of DT less plain Grad-CAM.
    """

    of: str
    count: int
    means: Mapping[str, Estimate]
    difference: Estimate


@dataclass(frozen=True)
class Agreement:
    """Kappa of the same pairs judged twice, by two readers, by all, or by one reader at two times.

    Attributes
    ----------
    who
        The readers, or a reader.
    cases
        Pairs that were judged both times.
    same
        Part of them with the same preference.
    preference, diagnosis
        Cohen's kappa, of three readers or more together Fleiss'.
    match
        Cohen's kappa of the marks of both maps, quadratic weights; None of several readers.
    """

    who: str
    cases: int
    same: float | None
    preference: float | None
    diagnosis: float | None
    match: float | None


@dataclass(frozen=True)
class ReaderSummary:
    """One reader: pairs answered (of all, repeats too), diagnoses, and how often the left map was the better one."""

    reader: str
    answered: int
    asked: int
    diagnosed: int
    right: int
    cannot_tell: int
    left: int
    decided: int


@dataclass(frozen=True)
class ReadingScores:
    """All that filled forms of one key say."""

    key: ReadingKey
    readers: tuple[ReaderSummary, ...]
    preferences: tuple[Preference, ...]
    matches: tuple[MatchMarks, ...]
    between: tuple[Agreement, ...]
    within: tuple[Agreement, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """What must be read beside the figures, a sentence each."""
        unfinished = [
            f"{one.reader} ({one.answered} of {one.asked})" for one in self.readers if one.answered < one.asked
        ]
        few = len({item.patient for item in self.key.items}) < 10 or len(self.readers) < 3
        return (
            "intervals: 95 %, 2000 bootstrap draws of patients with all readings of theirs; the readers are not drawn, "
            "so that nothing is said of other readers",
            "repeated pairs count for agreement within readers alone",
            "the maps are of the class that the model names; where the reader calls it otherwise, no map shows why",
            "DT leaves parts of the tile bare: a reader who knows the methods may guess which is which",
            *([f"not finished: {', '.join(unfinished)}; what they answered counts"] if unfinished else []),
            *(["few patients or readers: take the figures for a trial of the form"] if few else []),
        )


def score_readings(key: ReadingKey, forms: Sequence[FilledForm], *, seed: int = 0) -> ReadingScores:
    """Score filled forms.

    Parameters
    ----------
    key
        Of the form.
    forms
        One of each reader, checked against the key (`read_forms`).
    seed
        Of the bootstrap.

    Raises
    ------
    ReadingError
        If nobody said which map is better.
    """
    everything = [reading for form in forms for reading in _unblinded(key, form)]
    first = [reading for reading in everything if reading.item.repeats is None]
    if not any(reading.preferred for reading in first):
        raise ReadingError("no form says of any pair which map is better: there is nothing to score")
    groups = _groups(key, first, [form.reader for form in forms])
    return ReadingScores(
        key,
        tuple(_summary(key, form) for form in forms),
        tuple(_preference(name, chosen, seed) for name, chosen in groups if any(one.preferred for one in chosen)),
        tuple(_marks(name, chosen, seed) for name, chosen in groups if any(_both(one) for one in chosen)),
        _between(key, first, [form.reader for form in forms]),
        tuple(_within(key, form.reader, everything) for form in forms),
    )


def _unblinded(key: ReadingKey, form: FilledForm) -> list[Reading]:
    found = []
    for item in key.items:
        answer = form.answers.get(item.item)
        if answer is None:
            continue
        by_side = {item.dt: DT, "right" if item.dt == "left" else "left": PLAIN, EQUAL: EQUAL}
        preferred = answer.better and by_side[answer.better]
        matches = {by_side["left"]: answer.left, by_side["right"]: answer.right}
        found.append(Reading(form.reader, item, answer.diagnosis, preferred, matches))
    return found


def _groups(key: ReadingKey, first: list[Reading], readers: list[str]) -> list[tuple[str, list[Reading]]]:
    """Return the readings of each part that is told apart, by what it is called."""
    parts = [
        ("all", first),
        ("DT kept something", [one for one in first if one.item.kept > 0]),
        ("the reader's diagnosis is the model's", [one for one in first if one.diagnosis == one.item.explained]),
        ("the model is right", [one for one in first if one.item.label == one.item.explained]),
        ("the model is wrong", [one for one in first if one.item.label != one.item.explained]),
        *((f"is {name}", [one for one in first if one.item.label == name]) for name in key.classes),
    ]
    if len(readers) > 1:
        parts += [(f"reader {name}", [one for one in first if one.reader == name]) for name in readers]
    return parts


def _preference(of: str, readings: list[Reading], seed: int) -> Preference:
    chosen = [one for one in readings if one.preferred]
    values = np.array([[one.preferred == name for name in PREFERENCES] for one in chosen], np.float64)
    columns = np.column_stack([values, values[:, PREFERENCES.index(DT)] - values[:, PREFERENCES.index(PLAIN)]])
    *shares, difference = mean_estimates(columns, [one.item.patient for one in chosen], seed=seed)
    cases = len({one.item.item for one in chosen})
    return Preference(of, len(chosen), cases, dict(zip(PREFERENCES, shares, strict=True)), difference)


def _both(reading: Reading) -> bool:
    return None not in reading.matches.values()


def _marks(of: str, readings: list[Reading], seed: int) -> MatchMarks:
    chosen = [one for one in readings if _both(one)]
    values = np.array([[one.matches[PLAIN], one.matches[DT]] for one in chosen], np.float64)
    columns = np.column_stack([values, values[:, 1] - values[:, 0]])
    plain, dt, difference = mean_estimates(columns, [one.item.patient for one in chosen], seed=seed)
    return MatchMarks(of, len(chosen), {PLAIN: plain, DT: dt}, difference)


def _between(key: ReadingKey, first: list[Reading], readers: list[str]) -> tuple[Agreement, ...]:
    """Return the agreement of each two readers, and of all where they are more."""
    by_reader = {name: {one.item.item: one for one in first if one.reader == name} for name in readers}
    found = []
    for one, other in combinations(readers, 2):
        pairs = [(by_reader[one][item], by_reader[other][item]) for item in by_reader[one] if item in by_reader[other]]
        found.append(_agreement(key, f"{one} and {other}", pairs))
    if len(readers) > 2:
        rows = [[by_reader[name].get(item.item) for name in readers] for item in key.items]
        preferred = _complete([[one and one.preferred for one in row] for row in rows])
        diagnoses = _complete([[one and one.diagnosis for one in row] for row in rows])
        same = float(np.mean([len(set(row)) == 1 for row in preferred])) if preferred else None
        kappas = fleiss_kappa(preferred, PREFERENCES), fleiss_kappa(diagnoses, (*key.classes, CANNOT_TELL))
        found.append(Agreement("all (Fleiss)", len(preferred), same, *kappas, None))
    return tuple(found)


def _within(key: ReadingKey, reader: str, everything: list[Reading]) -> Agreement:
    own = {one.item.item: one for one in everything if one.reader == reader}
    pairs = [(own[one.item.repeats], one) for one in own.values() if one.item.repeats in own]
    return _agreement(key, reader, pairs)


def _agreement(key: ReadingKey, who: str, pairs: list[tuple[Reading, Reading]]) -> Agreement:
    preferred = _complete([[one.preferred for one in pair] for pair in pairs])
    diagnoses = _complete([[one.diagnosis for one in pair] for pair in pairs])
    marks = _complete([[one.matches[name] for one in pair] for pair in pairs for name in (PLAIN, DT)])
    same = float(np.mean([one == other for one, other in preferred])) if preferred else None
    return Agreement(
        who,
        len(preferred),
        same,
        cohen_kappa(*_columns(preferred), PREFERENCES),
        cohen_kappa(*_columns(diagnoses), (*key.classes, CANNOT_TELL)),
        cohen_kappa(*_columns(marks), MARKS, weights="quadratic"),
    )


def _complete(rows: list[list[object]]) -> list[list[object]]:
    return [row for row in rows if None not in row]


def _columns(rows: list[list[object]]) -> tuple[list[object], list[object]]:
    return [row[0] for row in rows], [row[1] for row in rows]


def _summary(key: ReadingKey, form: FilledForm) -> ReaderSummary:
    readings = _unblinded(key, form)
    told = [one for one in readings if one.item.repeats is None and one.diagnosis not in (None, CANNOT_TELL)]
    answers: list[str] = [answer.better for answer in form.answers.values() if answer.better]
    return ReaderSummary(
        reader=form.reader,
        answered=sum(bool(one.preferred) and bool(one.diagnosis) and _both(one) for one in readings),
        asked=len(key.items),
        diagnosed=len(told),
        right=sum(one.diagnosis == one.item.label for one in told),
        cannot_tell=sum(one.item.repeats is None and one.diagnosis == CANNOT_TELL for one in readings),
        left=answers.count("left"),
        decided=len(answers) - answers.count(EQUAL),
    )
