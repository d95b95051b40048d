"""The form: what is in the file, and what a reader does with it in a browser, with mouse and keys."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from napari_dala.errors import ReadingError
from napari_dala.evaluation.reading.documents import FilledForm, ReadingKey, read_forms, read_key
from napari_dala.evaluation.reading.form import write_form

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_dala.evaluation.cases.left_out import LeftOut

PAIRS, REPEATS = 4, 2


@pytest.fixture(scope="module")
def form(left_out: LeftOut, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ReadingKey]:
    """A form and its key."""
    path, key = write_form(left_out, tmp_path_factory.mktemp("study"), pairs=PAIRS, repeats=REPEATS, seed=3)
    return path, read_key(key)


def asked(path: Path) -> dict[str, Any]:
    """What the form's script is given."""
    found = re.search(r"const ASKED = (.*);\n", path.read_text())
    assert found
    return json.loads(found[1])


def test_the_form_is_blind(form, left_out: LeftOut) -> None:
    path, key = form
    given = asked(path)
    assert given["form"] == key.form
    assert [one["item"] for one in given["items"]] == [item.item for item in key.items]
    assert {frozenset(one) for one in given["items"]} == {frozenset({"item", "tile", "left", "right"})}
    text = re.sub("data:image/jpeg;base64,[A-Za-z0-9+/=]*", "", path.read_text())
    for word in ("Grad-CAM", "DT", "probability", "threshold", "noise", ".png", *left_out.patients.tolist()):
        assert word not in text, word
    assert "http" not in text.replace("http-equiv", "")
    assert "connect-src" not in text  # default-src 'none' holds


def test_a_repeat_shows_the_same_pair_with_the_sides_swapped(form) -> None:
    path, key = form
    by_item = {one["item"]: one for one in asked(path)["items"]}
    repeats = [item for item in key.items if item.repeats]
    assert len(repeats) == REPEATS
    for again in repeats:
        first = next(item for item in key.items if item.item == again.repeats)
        assert (again.image, again.dt == first.dt) == (first.image, False)
        one, other = by_item[first.item], by_item[again.item]
        assert (one["tile"], one["left"], one["right"]) == (other["tile"], other["right"], other["left"])


def test_the_seed_alone_says_what_is_drawn(form, left_out: LeftOut, tmp_path: Path) -> None:
    path, key = form
    same, _ = write_form(left_out, tmp_path / "same", pairs=PAIRS, repeats=REPEATS, seed=3)
    assert same.read_bytes() == path.read_bytes()
    _, other = write_form(left_out, tmp_path / "other", pairs=PAIRS, repeats=REPEATS, seed=4)
    assert read_key(other).form != key.form
    assert other.stat().st_mode & 0o077 == 0  # the key is nobody else's


def test_a_form_is_never_written_over(form, left_out: LeftOut) -> None:
    before = form[0].read_bytes()
    with pytest.raises(ReadingError, match="holds a form already"):
        write_form(left_out, form[0].parent, pairs=1, repeats=0)
    assert form[0].read_bytes() == before


def test_no_more_can_be_repeated_than_are_shown(left_out: LeftOut, tmp_path: Path) -> None:
    with pytest.raises(ReadingError, match="3 of 2 pairs cannot be repeated"):
        write_form(left_out, tmp_path, pairs=2, repeats=3)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: nothing drives a browser")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("no Chromium here; install it as a package (apt-get install chromium)")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def page(browser: Any, form) -> Iterator[Any]:
    """The form, opened as a file in a fresh profile; any error of its script, and any request, fails the test."""
    context = browser.new_context(accept_downloads=True, offline=True)
    opened = context.new_page()
    wrong: list[str] = []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    opened.on(
        "request", lambda made: wrong.append(made.url) if not made.url.startswith(("file:", "data:", "blob:")) else None
    )
    opened.goto(form[0].as_uri())
    yield opened
    context.close()
    assert not wrong


def begin(page: Any, code: str = "R1") -> None:
    page.fill("#reader", code)
    page.click("#begin button")


def saved(page: Any, tmp_path: Path) -> Path:
    """Save the form as a reader does."""
    with page.expect_download() as waiting:
        page.click("#save")
    target = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(target)
    return target


def test_keys_alone_fill_the_form_and_it_can_be_scored(page: Any, form, tmp_path: Path) -> None:
    _, key = form
    page.locator("#reader").focus()
    page.keyboard.type("R1")
    page.keyboard.press("Enter")
    for number in range(len(key.items)):
        assert page.inner_text("#where") == f"Pair {number + 1} of {len(key.items)}"
        assert page.is_hidden("#left")  # the diagnosis comes first
        page.keyboard.press("2")
        assert page.is_visible("#left")
        for digit in ("1", "5", "3"):
            page.keyboard.press(digit)
        if number + 1 < len(key.items):
            page.keyboard.press("Enter")
    assert "All pairs are answered" in page.inner_text("#message")
    path = saved(page, tmp_path)
    assert path.name == f"reading-{key.form}-R1.json"
    (filled,) = read_forms([path], key)
    assert {tuple(vars(answer).values()) for answer in filled.answers.values()} == {("malignant", "left", 5, 3)}
    assert len(filled.answers) == len(key.items)


def test_the_mouse_fills_a_pair_and_answers_can_be_changed(page: Any, form, tmp_path: Path) -> None:
    begin(page)
    assert page.is_disabled("#ask-better input >> nth=0")  # the diagnosis comes first
    page.click("#ask-diagnosis label >> nth=0")
    page.click("#ask-better label >> nth=2")
    page.click("#ask-better label >> nth=1")
    page.click("#ask-right label >> nth=3")
    (filled,) = read_forms([saved(page, tmp_path)], form[1])
    (answer,) = filled.answers.values()
    assert tuple(vars(answer).values()) == ("benign", "equal", None, 4)


def test_an_unfinished_form_goes_on_after_a_reload(page: Any) -> None:
    begin(page)
    for digit in ("1", "2", "3", "4"):
        page.keyboard.press(digit)
    page.reload()
    begin(page)
    assert page.inner_text("#where").startswith("Pair 2 of")  # the first that is open
    assert "1 answered" in page.inner_text("#count")
    page.keyboard.press("Backspace")
    assert page.is_checked("#ask-left input >> nth=2")
    page.click("#open-one")
    assert page.inner_text("#where").startswith("Pair 2 of")
    page.reload()
    begin(page, "R2")  # another reader on this computer begins anew
    assert "0 answered" in page.inner_text("#count")


def test_a_saved_file_goes_on_elsewhere_and_a_wrong_one_is_refused(page: Any, form, tmp_path: Path) -> None:
    _, key = form
    answers = {key.items[0].item: {"diagnosis": "benign", "better": "left", "left": 4, "right": 2}}
    mine = tmp_path / "mine.json"
    mine.write_text(json.dumps(FilledForm(form=key.form, reader="R7", answers=answers).model_dump(exclude_none=True)))
    wrong = {
        "no JSON": ("{", "it is not a saved form"),
        "another form": (mine.read_text().replace(key.form, "other"), "it is of form other"),
        "no such item": (mine.read_text().replace(f'"{key.items[0].item}"', '"999"'), "it is damaged"),
        "no such answer": (mine.read_text().replace('"left": 4', '"left": 9'), "it is damaged"),
    }
    for text, expected in wrong.values():
        (bad := tmp_path / "bad.json").write_text(text)
        page.set_input_files("#start .open", bad)
        page.locator("#message", has_text=f"bad.json cannot be opened: {expected}").wait_for()
    page.set_input_files("#start .open", mine)
    page.wait_for_selector("#pair:not([hidden])")
    assert "1 answered · reader R7" in page.inner_text("#count")
    (filled,) = read_forms([saved(page, tmp_path)], key)
    assert filled.answers[key.items[0].item].left == 4
    mine.write_text(mine.read_text().replace("R7", "R8"))
    page.set_input_files("#pair .open", mine)
    page.locator("#message", has_text="it is of reader R8, not R7").wait_for()


@pytest.mark.parametrize("code", ["", "Jane Doe", "<b>"])
def test_a_reader_needs_a_code_that_is_no_name(page: Any, code: str) -> None:
    begin(page, code)
    assert page.is_hidden("#pair")
