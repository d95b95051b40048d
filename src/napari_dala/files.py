"""Writing files so that a reader sees the old content or the new one, never half of it."""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; on success sync it to disk and rename it to `path`.

    The temporary file is removed when the body raises, so a full disk leaves the old file as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` (UTF-8), whole or not at all; what a name has beyond UTF-8 comes escaped."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON to `path`, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def csv_text(rows: Sequence[Mapping[str, object]]) -> str:
    """Return rows as CSV under the names of the row that has most; what a row lacks is left empty."""
    text = io.StringIO()
    longest: Mapping[str, object] = max(rows, key=len)
    writer = csv.DictWriter(text, list(longest), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
