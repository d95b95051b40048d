"""Opening files of folders that others may write to, and writing so that nobody ever sees half a file.

Nothing here follows a link that it writes to, or opens what is not an ordinary file: a FIFO would wait for ever.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import os
import re
import secrets
import shutil
import stat
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_TEMPORARY = re.compile(r"\..+-[a-z0-9_]{8}(\.[^.]*)?")  # what `temporary_beside` gives, and `tempfile` gave before
# Not there on every system: links are not followed, a FIFO does not wait, bytes stay as they are.
_SAFELY = sum(getattr(os, flag, 0) for flag in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"))
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)


def open_to_read(path: Path) -> BinaryIO:
    """Open an ordinary file, or a link to one; `OSError` where it is a FIFO, a socket or a device, without waiting."""
    return _ordinary(path, os.open(path, os.O_RDONLY | _SAFELY), "rb")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 (hex) of a file's bytes."""
    with open_to_read(path) as file:
        return hashlib.file_digest(cast("io.BufferedReader", file), "sha256").hexdigest()


def open_to_append(path: Path) -> BinaryIO:
    """Open an ordinary file, unbuffered, to add to its end and to read it; it is made where there is none.

    Raises
    ------
    OSError
        Also where it is a link, a FIFO, a socket or a device.
    """
    if not _NO_LINK and path.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | _NO_LINK | _SAFELY
    return _ordinary(path, os.open(path, flags, 0o666), "ab+")


def _ordinary(path: Path, handle: int, mode: str) -> BinaryIO:
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "not an ordinary file", str(path))
        return cast("BinaryIO", open(handle, mode, buffering=0 if "a" in mode else -1))
    except BaseException:
        os.close(handle)
        raise


def temporary_beside(path: Path) -> Path:
    """Return a name in the folder of `path` that nothing has."""
    return path.with_name(f".{path.stem}-{secrets.token_hex(4)}{path.suffix}")


@contextmanager
def replacing(path: Path, *, private: bool = False) -> Iterator[Path]:
    """Give a temporary name beside `path`; on success sync it to disk and rename it to `path`.

    The temporary file is removed when the body raises, so a full disk leaves the old file as it was. Where `path` is a
    link, it is the link that is replaced.

    Parameters
    ----------
    path
        Its folder is made where there is none.
    private
        For the user alone (0600), as is the folder if it is made (0700): the file may hold a patient's name. Else the
        file that is replaced gives the permissions, or the user's umask.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700 if private else 0o777)
    temporary = temporary_beside(path)
    handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | _NO_LINK | _SAFELY, 0o600 if private else 0o666)
    try:
        with open(handle, "rb") as mine:  # open and locked, it is not taken for what a killed process left
            if sys.platform != "win32":  # where it could not be written to, and an open file cannot be removed
                with suppress(OSError):
                    try_lock(mine.fileno())
            mode = os.fstat(mine.fileno()).st_mode if private else _mode_of(path, mine.fileno())
            yield temporary
            with open(os.open(temporary, os.O_RDWR | _NO_LINK | _SAFELY), "rb") as file:  # the body may have renamed
                os.fsync(file.fileno())
                os.chmod(file.fileno() if os.chmod in os.supports_fd else temporary, stat.S_IMODE(mode))
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder beside `path`; on success sync its files to disk and rename it to `path`.

    A folder that is there already is removed, but only then; what is made is removed when the body raises.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, before = temporary_beside(path), temporary_beside(path)
    temporary.mkdir()
    try:
        yield temporary
        for file in (found for found in temporary.rglob("*") if found.is_file()):
            with open(os.open(file, os.O_RDWR | _NO_LINK | _SAFELY), "rb") as written:
                os.fsync(written.fileno())
        if path.exists():
            path.rename(before)
        temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        if before.exists() and not path.exists():
            before.rename(path)
        raise
    shutil.rmtree(before, ignore_errors=True)


def _mode_of(path: Path, new: int) -> int:
    """Return the mode of the file at `path`; of an open one where there is none."""
    with suppress(OSError):
        old = path.lstat().st_mode
        if stat.S_ISREG(old):
            return old
    return os.fstat(new).st_mode


def sweep(folder: Path) -> None:
    """Remove the temporary files of `replacing` that killed processes left in a folder; never one that is in use."""
    with suppress(OSError):
        for path in [*folder.iterdir()]:
            if _TEMPORARY.fullmatch(path.name) and not path.is_symlink() and path.is_file():
                with suppress(OSError):
                    _remove_abandoned(path)


def _remove_abandoned(path: Path) -> None:
    if sys.platform == "win32":
        path.unlink()  # refused while anybody has it open
    else:
        with open_to_append(path) as file:
            if try_lock(file.fileno()):
                path.unlink()


def try_lock(handle: int) -> bool:
    """Lock an open file and return True, or False where another holds the lock.

    The operating system drops the lock when the process ends in whatever way, so one is never stale.

    Raises
    ------
    OSError
        Where the file system has no locks.
    """
    try:
        if sys.platform == "win32":
            os.lseek(handle, 0, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK):
            return False
        raise
    return True


def write_text(path: Path, text: str, *, private: bool = False) -> None:
    """Write `text` to `path` (UTF-8), whole or not at all; `private` as in `replacing`.

    What a name has beyond UTF-8 comes escaped.
    """
    with replacing(path, private=private) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, value: Any, *, private: bool = False) -> None:
    """Write `value` as indented JSON to `path`, whole or not at all; `private` as in `replacing`."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n", private=private)


def csv_text(rows: Sequence[Mapping[str, object]]) -> str:
    """Return rows as CSV under the names of the row that has most; what a row lacks is left empty.

    Texts are made `plain_cell`s.
    """
    text = io.StringIO()
    longest: Mapping[str, object] = max(rows, key=len)
    writer = csv.DictWriter(text, list(longest), lineterminator="\n")
    writer.writerow({name: plain_cell(name) for name in longest})
    writer.writerows(
        {name: plain_cell(value) if isinstance(value, str) else value for name, value in row.items()} for row in rows
    )
    return text.getvalue()


def plain_cell(text: str) -> str:
    r"""Return a text that stays within its cell of a spreadsheet, and is no formula there.

    >>> plain_cell("=1+1"), plain_cell("two\nlines")
    ("'=1+1", 'two lines')
    """
    text = " ".join(text.split())
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text
