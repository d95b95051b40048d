"""Slides that come into the workspace's list, or are found again where their files are now."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_dala.annotations.adoption import adopt_old_folder
from napari_dala.annotations.slides import remember_slide, slide_in
from napari_dala.errors import DalaError
from napari_dala.slide.found import slide_files
from napari_dala.slide.open import open_slide
from napari_dala.slide.thumbnail import keep_thumbnail

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

    from napari_dala.annotations.slides import AnnotatedSlide

_NAMED = 5  # files that cannot be read, in the text


@dataclass(frozen=True)
class Added:
    """What became of one file.

    Attributes
    ----------
    slide
        As the workspace knows it now; None where the file cannot be read.
    is_moved
        True where the workspace knew the slide at another place, where it no longer is.
    is_known
        True where it was in the list already.
    problem
        Why it cannot be read, one line, or empty.
    """

    slide: AnnotatedSlide | None
    is_moved: bool = False
    is_known: bool = False
    problem: str = ""


def add_slides(
    paths: Iterable[Path],
    folder: str | Path | None = None,
    *,
    only: Collection[str] | None = None,
    icc_profile: bool = True,
) -> Iterator[Added]:
    """Add slides to the workspace's list; they are told by what is in them, so that one that was moved is found again.

    Of a slide that is there twice, the file that was seen first stands. It opens every file: not for the main thread.

    Parameters
    ----------
    paths
        Files, and folders to look through.
    folder
        The workspace.
    only
        Fingerprints of the slides that are looked for; None for all.
    icc_profile
        See `open_slide`.
    """
    for path in slide_files(paths):
        try:
            with open_slide(path, icc_profile=icc_profile) as slide:
                fingerprint = slide.fingerprint
                if only is not None and fingerprint not in only:
                    continue
                adopt_old_folder(slide, folder)
                before = slide_in(fingerprint, folder, icc_profile=icc_profile)
                was_listed = before.path is not None and (before.note is None or before.note.is_listed)
                if not was_listed:
                    remember_slide(slide, folder)
                with suppress(DalaError, OSError):  # the list has no picture then
                    keep_thumbnail(slide)
        except (DalaError, OSError) as error:
            if only is None:
                yield Added(None, problem=str(error))
        else:
            was_lost = before.note is not None and before.note.path is not None and before.path is None
            yield Added(slide_in(fingerprint, folder, icc_profile=icc_profile), was_lost, was_listed)


def added_text(added: Iterable[Added]) -> str:
    """Return what became of files: "4 slides added, 2 found again.", and below it those that cannot be read."""
    added = list(added)
    problems = [one.problem for one in added if one.problem]
    moved, known = sum(one.is_moved for one in added), sum(one.is_known for one in added)
    fresh = len(added) - len(problems) - moved - known
    parts = [f"{fresh} slide{'s'[: fresh != 1]} added"] if fresh else []
    parts += [f"{moved} found again"] if moved else []
    parts += [f"{known} {'was' if known == 1 else 'were'} there already"] if known else []
    text = ", ".join(parts) or ("" if problems else "No slides found there")
    if len(problems) < 2:
        return f"{text}." if not problems else f"{text}{'. ' if text else ''}Cannot be read: {problems[0]}."
    few, more = problems[:_NAMED], len(problems) - _NAMED
    lines = [f"{text}{'. ' if text else ''}{len(problems)} files cannot be read:", *few]
    return "\n".join([*lines, f"and {more} other{'s'[: more != 1]}"] if more > 0 else lines)
