"""`dala` run in the test's own process."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from napari_dala.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run `dala` with these arguments; return exit code, standard output and standard error."""

    def dala(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["dala", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), *capsys.readouterr()

    return dala
