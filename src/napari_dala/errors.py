"""The errors a user may meet. Each message is one line: which file, what is wrong, what to do."""

from __future__ import annotations

import errno
import os
import re

# Control characters, among them line breaks and what begins a terminal's escapes; bytes of a name that is not UTF-8;
# what turns the direction of writing.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

_PASSING = {
    os.strerror(code)
    for code in (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EACCES, errno.ENOENT, errno.EHOSTDOWN)
}


def shown(text: object) -> str:
    """Return a text as one line that does nothing to a terminal: what is not to be seen in it comes escaped."""
    return _UNSEEN.sub(lambda found: _escape(ord(found[0])), str(text))


def _escape(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:  # Python's stand-in for a byte that is not UTF-8
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


class DalaError(Exception):
    """Something the user can act on; shown as one line, never with a traceback."""

    def __str__(self) -> str:
        return shown(super().__str__())


class SlideError(DalaError):
    """A slide cannot be opened, read or analysed as asked."""


class BundleError(DalaError):
    """A model bundle is missing, damaged or does not fit the network."""


class FetchError(DalaError):
    """Published weights cannot be downloaded."""


class AnnotationError(DalaError):
    """A GeoJSON file of regions cannot be used."""


class JobError(DalaError):
    """A job's folder cannot be read or written, or the job is not in a state to do what was asked."""


class DatasetError(DalaError):
    """A folder is not the data set it should be, or its images cannot be split as asked."""


class ReadingError(DalaError):
    """A reader study's form, key or filled form cannot be made or used."""


class ClusterError(DalaError):
    """A cluster's scheduler or one of its workers cannot take part."""


def may_pass(error: BaseException | None) -> bool:
    """Return whether pixels may be read another time: the file system failed, the picture's bytes are not to blame."""
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None:
            return True
        if any(reason in str(error) for reason in _PASSING):  # OpenSlide hands on the words alone
            return True
        error = error.__cause__
    return False
