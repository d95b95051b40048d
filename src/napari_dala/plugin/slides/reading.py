"""What is read and written of slides for the table, in threads: files may be many, and far away."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]
from superqt.utils import create_worker

from napari_dala.annotations.adding import add_slides, added_text
from napari_dala.annotations.adoption import adopt_old_folder
from napari_dala.annotations.slide_table import SlideRow, slide_row
from napari_dala.annotations.slides import listed_slides, open_known, remember_profile, remember_slide, slide_in
from napari_dala.errors import DalaError
from napari_dala.plugin.preferences import load_preferences
from napari_dala.slide.thumbnail import keep_thumbnail, kept_thumbnail

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from pathlib import Path

    from napari_dala.annotations.adding import Added
    from napari_dala.annotations.slides import AnnotatedSlide
    from napari_dala.model.catalog import ModelEntry
    from napari_dala.plugin.preferences import Preferences
    from napari_dala.slide import Slide


_writing = Lock()  # so that the row that is read last is shown last


class SlideReader(QObject):
    """Reads rows of slides for a model; what is not wanted any more is not read on."""

    row_read = Signal(object)
    """A `SlideRow`."""
    listed = Signal(object)
    """The fingerprints of all slides in the list."""
    said = Signal(str)
    """How the adding of slides is getting on."""
    failed = Signal(str)
    """What could not be done, one line."""

    def __init__(self) -> None:
        super().__init__()
        self._entry: ModelEntry | None = None
        self._whole: Any = None  # the worker that reads the whole list
        self._workers: set[Any] = set()
        self._noted: set[str] = set()
        self._is_stopped = False

    def read_all(self, entry: ModelEntry | None) -> None:
        """Read the whole list for a model, from now on also where single rows are read; then draw missing pictures."""
        self._entry = entry
        if self._whole is not None:
            self._whole.quit()
        self._whole = self._work(_rows, load_preferences(), entry)

    def read(self, fingerprint: str) -> None:
        """Read one slide's row anew."""
        self._work(_row, fingerprint, load_preferences(), self._entry)

    def add(self, paths: Sequence[Path], only: Collection[str] | None = None) -> None:
        """Add files, and the slides below folders, to the list; or find only these slides again."""
        added: list[Added] = []

        def count(one: Added | SlideRow) -> None:
            if not isinstance(one, SlideRow):
                added.append(one)
                self.said.emit(f"Reading slides… {len(added)}")

        self.said.emit("Reading slides…")
        self._work(
            _added,
            [*paths],
            load_preferences(),
            self._entry,
            only,
            yielded=count,
            returned=lambda _: self.said.emit(added_text(added)),
        )

    def note(self, slide: Slide) -> None:
        """Add a slide that is open to the list, once."""
        if slide.fingerprint not in self._noted:
            self._noted.add(slide.fingerprint)
            self._work(_noted, slide, load_preferences().workspace, self._entry)

    def write(self, call: Callable[..., object], slide: AnnotatedSlide, *said: object) -> None:
        """Write something of a slide, then read its row anew."""
        self._work(_written, call, slide, said, self._entry)

    def do(self, call: Callable[[], Any], then: Callable[[Any], object]) -> None:
        """Do something that takes a while, then this with what it returns."""
        self._work(call, returned=then)

    def stop(self) -> None:
        """Read no more; for when nobody is left to be told."""
        self._is_stopped = True
        for worker in self._workers:
            if hasattr(worker, "quit"):
                worker.quit()

    def _work(self, function: Callable[..., Any], *asked: Any, **then: Callable[[Any], object]) -> Any:
        worker = create_worker(function, *asked, _start_thread=False)
        if hasattr(worker, "yielded"):
            worker.yielded.connect(self._on_yielded)
        for name, call in then.items():
            getattr(worker, name).connect(partial(self._tell, call))
        worker.errored.connect(self._on_failed)
        worker.finished.connect(lambda: self._workers.discard(worker))
        self._workers.add(worker)
        worker.start()
        return worker

    def _tell(self, call: Callable[[Any], object], result: Any) -> None:
        if not self._is_stopped:
            call(result)

    def _on_yielded(self, one: Any) -> None:
        if isinstance(one, SlideRow):
            self.row_read.emit(one)
        elif isinstance(one, set):
            self.listed.emit(one)

    def _on_failed(self, error: Exception) -> None:
        self.said.emit("")
        self.failed.emit(str(error))


def _rows(preferences: Preferences, entry: ModelEntry | None) -> Iterator[SlideRow | set[str]]:
    """Give the rows of all slides in the list, then once more those whose pictures had to be drawn."""
    slides = listed_slides(preferences.workspace, icc_profile=preferences.icc_profile)
    rows = []
    for slide in slides:
        rows.append(slide_row(_with_profile(slide), entry))
        yield rows[-1]
    yield {slide.fingerprint for slide in slides}
    for row in rows:
        if row.slide.path is not None and kept_thumbnail(row.slide.pixels_id) is None and _draw(row.slide):
            yield row


def _with_profile(slide: AnnotatedSlide) -> AnnotatedSlide:
    """Return a slide of which it is known what ICC profile it has: notes of before do not say so."""
    if slide.note is None or slide.note.own_profile_id is not None or slide.path is None:
        return slide
    try:
        with open_known(slide) as opened:
            remember_profile(slide, opened)
    except (DalaError, OSError):
        return slide
    return slide_in(slide.fingerprint, slide.workspace, icc_profile=slide.icc_profile)


def _draw(slide: AnnotatedSlide) -> bool:
    """Draw a slide's picture; False where it cannot be."""
    try:
        with open_known(slide) as opened:
            keep_thumbnail(opened)
    except (DalaError, OSError):
        return False
    return True


def _row(fingerprint: str, preferences: Preferences, entry: ModelEntry | None) -> Iterator[SlideRow]:
    yield slide_row(slide_in(fingerprint, preferences.workspace, icc_profile=preferences.icc_profile), entry)


def _added(
    paths: Sequence[Path], preferences: Preferences, entry: ModelEntry | None, only: Collection[str] | None
) -> Iterator[Added | SlideRow]:
    for one in add_slides(paths, preferences.workspace, only=only, icc_profile=preferences.icc_profile):
        yield one
        if one.slide is not None:
            yield slide_row(one.slide, entry)


def _noted(slide: Slide, workspace: Path, entry: ModelEntry | None) -> Iterator[SlideRow]:
    adopt_old_folder(slide, workspace)
    remember_slide(slide, workspace)
    with suppress(DalaError, OSError):
        keep_thumbnail(slide)
    yield slide_row(slide_in(slide.fingerprint, workspace, icc_profile=slide.uses_profile), entry)


def _written(
    call: Callable[..., object], slide: AnnotatedSlide, said: tuple[object, ...], entry: ModelEntry | None
) -> Iterator[SlideRow]:
    with _writing:
        call(slide, *said)
        yield slide_row(slide_in(slide.fingerprint, slide.workspace, icc_profile=slide.icc_profile), entry)
