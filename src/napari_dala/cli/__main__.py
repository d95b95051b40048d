"""`python -m napari_dala.cli`: `dala`, run by the very Python that a job was made with."""

from napari_dala.cli import main

main()
