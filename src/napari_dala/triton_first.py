"""Load triton's compiler library bound to its own LLVM, whoever imports triton.

Once a napari window is up, Mesa's LLVM is in the process. torchvision imports torch._dynamo, and that imports triton;
triton's LLVM symbols would then bind to Mesa's, and the process crashes. `RTLD_DEEPBIND` makes the library look at its
own symbols first; Python's import of it, which follows, finds it loaded. Linux with glibc only; nothing happens
elsewhere.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


class _BeforeTriton:
    """A finder of modules that finds none; it hears when triton is about to be imported, and steps aside."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "triton":
            sys.meta_path.remove(self)
            load_libtriton()
        return None


def load_libtriton() -> bool:
    """Load libtriton with `RTLD_DEEPBIND` without importing triton; say whether it was loaded."""
    deepbind: int = getattr(os, "RTLD_DEEPBIND", 0)
    spec = find_spec("triton") if deepbind else None
    for folder in (spec and spec.submodule_search_locations) or ():
        library = Path(folder) / "_C" / "libtriton.so"
        if library.is_file():
            import ctypes

            try:
                ctypes.CDLL(str(library), mode=os.RTLD_NOW | deepbind)
            except OSError:  # a triton that cannot load here: torch finds that out by itself and does without
                return False
            return True
    return False


def watch() -> None:
    """Load libtriton as soon as anything looks for triton."""
    if "triton" not in sys.modules:
        sys.meta_path.insert(0, _BeforeTriton())
