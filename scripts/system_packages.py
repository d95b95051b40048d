"""Make sure that the system libraries which Qt, OpenGL and the tests' X server need are there.

Standard library only. On Debian and its kin the missing packages are installed where we are root and `CI` or
`DALA_APT=1` is set; anywhere else the exact command is printed and the exit status is 1.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from glob import glob

# Package -> the library it brings, asked of the dynamic loader itself, as Qt will ask.
LIBRARIES = {
    "libdbus-1-3": "libdbus-1.so.3",
    "libegl1": "libEGL.so.1",
    "libfontconfig1": "libfontconfig.so.1",
    "libgl1": "libGL.so.1",
    "libglib2.0-0": "libglib-2.0.so.0",
    "libxcb-cursor0": "libxcb-cursor.so.0",
    "libxcb-icccm4": "libxcb-icccm.so.4",
    "libxcb-image0": "libxcb-image.so.0",
    "libxcb-keysyms1": "libxcb-keysyms.so.1",
    "libxcb-render-util0": "libxcb-render-util.so.0",
    "libxcb-shape0": "libxcb-shape.so.0",
    "libxcb-xinerama0": "libxcb-xinerama.so.0",
    "libxkbcommon-x11-0": "libxkbcommon-x11.so.0",
}
# Mesa's software renderer is a plug-in that OpenGL looks for in these places.
MESA_DRIVERS = ("/usr/lib*/dri/swrast_dri.so", "/usr/lib*/*/dri/swrast_dri.so", "/usr/lib*/*/libgallium-*.so")


def missing_packages() -> list[str]:
    """Return the Debian names of the packages that are not there."""
    missing = [package for package, library in LIBRARIES.items() if not _loads(library)]
    if not any(glob(pattern) for pattern in MESA_DRIVERS):
        missing.append("libgl1-mesa-dri")
    if not shutil.which("Xvfb"):
        missing.append("xvfb")
    return missing


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def main() -> int:
    """Install or name what is missing; return the exit status."""
    missing = missing_packages() if sys.platform == "linux" else []
    if not missing:
        return 0
    if not shutil.which("apt-get"):
        print("The tests need what Debian calls", " ".join(missing), "- please install it and run again.")
        return 1
    update = ["apt-get", "update"]
    install = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
    root = os.geteuid() == 0
    if root and (os.environ.get("CI") or os.environ.get("DALA_APT") == "1"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (update, install):
            print("+", *command, flush=True)
            subprocess.run(command, check=True, env=environment, stdin=subprocess.DEVNULL)
        missing = missing_packages()
        if missing:
            print("Installed, yet still not found:", " ".join(missing))
        return 1 if missing else 0
    sudo = "" if root else "sudo "
    print("The tests need system packages that are not here. Install them and run again:\n")
    print(f"    {sudo}{' '.join(update)} && {sudo}{' '.join(install)}\n")
    if root:
        print("(or run tox with DALA_APT=1, which does this for you)")
    return 1


if __name__ == "__main__":
    sys.exit(main())
