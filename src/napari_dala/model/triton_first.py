"""Load triton's compiler library before torch does, bound to its own LLVM.

Once a napari window is up, Mesa's LLVM is in the process. torchvision imports torch._dynamo, which loads triton's
libtriton, whose LLVM symbols would then bind to Mesa's: the process crashes. `RTLD_DEEPBIND` makes the library look
at its own symbols first; Python's later import of it finds it loaded already. Linux with glibc only; nothing
happens elsewhere or without triton.
"""

from __future__ import annotations

import ctypes
import os
from importlib.util import find_spec
from pathlib import Path


def load_libtriton() -> bool:
    """Load libtriton with `RTLD_DEEPBIND` without importing triton; say whether it was loaded."""
    deepbind: int = getattr(os, "RTLD_DEEPBIND", 0)
    spec = find_spec("triton") if deepbind else None
    for folder in (spec and spec.submodule_search_locations) or ():
        library = Path(folder) / "_C" / "libtriton.so"
        if library.is_file():
            try:
                ctypes.CDLL(str(library), mode=os.RTLD_NOW | deepbind)
            except OSError:  # a triton that cannot load here: torch finds that out by itself and does without
                return False
            return True
    return False


load_libtriton()
