"""Save… and Picture…: results and views as files, written in a thread."""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from napari.utils.history import get_save_history, update_save_history
from qtpy.QtCore import QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QGridLayout, QPushButton, QWidget
from superqt.utils import create_worker

from napari_dala.errors import DalaError
from napari_dala.plugin.analyze.save_dialogs import PictureDialog, ResultsDialog
from napari_dala.plugin.analyze.view_legend import color_bars, notes_of, swatches_of, take_view, um_per_px_of
from napari_dala.plugin.parts.notes import Note
from napari_dala.results.report.outputs import output_folder, save_results
from napari_dala.results.report.view_picture import save_picture, with_legend

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.viewer import Viewer
    from numpy.typing import NDArray

    from napari_dala.plugin.viewer.session import Session
    from napari_dala.slide import Slide

_ABOUT_RESULTS = (
    "A folder with the report, a table of the tiles, the regions for QuPath and an overview picture, at the threshold "
    "and the band of doubt that are set."
)
_ABOUT_PICTURE = "What is in view, with scale bar and legend, as PNG and as PDF."


class SavePanel(QWidget):
    """The two buttons, and below them what was saved where.

    Parameters
    ----------
    session
        Of the viewer.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.save_button, self.picture_button = QPushButton("Save…"), QPushButton("Picture…")
        self.save_button.setToolTip("Report, tables, regions and maps of this slide as files")
        self.picture_button.setToolTip("What is in view as PNG and PDF, with scale bar and legend")
        self.saved, self.error, self.show_button = Note("offer"), Note("error"), QPushButton("Show folder")
        self._folder: Path | None = None
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.save_button, 0, 0)
        layout.addWidget(self.picture_button, 0, 1)
        layout.addWidget(self.saved, 1, 0, 1, 2)
        layout.addWidget(self.show_button, 2, 0, 1, 2)
        layout.addWidget(self.error, 3, 0, 1, 2)
        self.show_button.hide()
        self.save_button.clicked.connect(self._ask_results)
        self.picture_button.clicked.connect(self._ask_picture)
        self.show_button.clicked.connect(self._open_folder)
        self._about = session.layer
        session.slides_changed.connect(self._follow)

    def _follow(self) -> None:
        """Say nothing of another slide."""
        if self._session.layer is not self._about:
            self._about = self._session.layer
            for note in (self.saved, self.error):
                note.say("")
            self.show_button.hide()

    def _ask_results(self) -> None:
        dialog = ResultsDialog(self, "Save results", Path(get_save_history()[0]), _ABOUT_RESULTS)
        dialog.wanted.connect(lambda: self._save(dialog))
        dialog.open()

    def _ask_picture(self) -> None:
        slide = self._session.open_slide()
        if slide is None:
            return
        dialog = PictureDialog(self, "Save a picture", _picture_path(slide, anonymous=False), _ABOUT_PICTURE)

        def follow(anonymous: bool) -> None:
            """Let the name that was offered leave out the slide's too; one that the user typed stays."""
            if dialog.path.text() == str(_picture_path(slide, anonymous=not anonymous)):
                dialog.path.setText(str(_picture_path(slide, anonymous=anonymous)))

        dialog.anonymous.toggled.connect(follow)
        dialog.wanted.connect(lambda: self._picture(dialog))
        dialog.open()

    def _save(self, dialog: ResultsDialog) -> None:
        results, slide, out = self._session.results, self._session.open_slide(), dialog.chosen_path
        if results is None or slide is None or out is None:
            return
        self._begin("Saving…")
        self._work(
            save_results,
            copy(results.analysis),  # at the threshold that is set now
            slide,
            out,
            anonymous=dialog.anonymous.isChecked(),
            maps=dialog.maps.isChecked(),
            rule=results.explanation.rule,
        )

    def _picture(self, dialog: PictureDialog) -> None:
        results, slide, base = self._session.results, self._session.open_slide(), dialog.chosen_path
        if results is None or slide is None or base is None:
            return
        times = dialog.times
        title = slide.fingerprint[:8] if dialog.anonymous.isChecked() else slide.name
        dialog.hide()
        self._begin("Drawing…")
        view = take_view(cast("Viewer", self._session.viewer), times)
        self._work(
            _write_picture,
            view,
            base,
            title=title,
            times=times,
            um_per_px=um_per_px_of(self._session, view.shape[1]),
            bars=color_bars(results),
            swatches=swatches_of(self._session, results),
            notes=notes_of(results.analysis, results),
        )

    def _begin(self, text: str) -> None:
        self.error.say("")
        self.saved.say(text)
        self._set_busy(True)

    def _work(self, write: Callable[..., Path], *args: Any, **options: Any) -> None:
        create_worker(write, *args, **options, _connect={"returned": self._on_saved, "errored": self._on_failed})

    def _on_saved(self, path: Path) -> None:
        self._folder = path if path.is_dir() else path.parent
        update_save_history(str(path))
        self.saved.say(f"Saved: {path}")
        self._set_busy(False)
        self.show_button.show()

    def _on_failed(self, error: Exception) -> None:
        self.saved.say("")
        self.error.say(str(error))
        self._set_busy(False)

    def _set_busy(self, is_busy: bool) -> None:
        for button in (self.save_button, self.picture_button):
            button.setEnabled(not is_busy)
        self.show_button.hide()

    def _open_folder(self) -> None:
        if self._folder is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._folder)))


def _picture_path(slide: Slide, *, anonymous: bool) -> Path:
    """Return where a picture of a slide goes, without its ending."""
    return output_folder(Path(get_save_history()[0]), slide, anonymous=anonymous)


def _write_picture(view: NDArray[Any], base: Path, *, title: str, times: int, **legend: Any) -> Path:
    """Write a view with its legend as PNG and PDF; return the PNG's path.

    Raises
    ------
    DalaError
        When the folder cannot be written to.
    """
    try:
        return save_picture(with_legend(view, title=title, times=times, **legend), base, title=title, times=times)[0]
    except OSError as error:
        raise DalaError(
            f"{base.parent}: cannot be written ({error.strerror or error}); choose another folder"
        ) from error
