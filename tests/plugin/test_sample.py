"""Sample slides, through napari's own menu action."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
from napari._app_model import get_app_model

from napari_dala.errors import DalaError
from napari_dala.plugin import sample
from napari_dala.slide.teaching.slide import cached_teaching_slide
from napari_dala.workspace import cache_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari.viewer import Viewer


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """A web server on this machine; its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def choose(name: str) -> None:
    get_app_model().commands.execute_command(f"napari-dala.{name}").result()


def test_the_teaching_slide_is_drawn_once(viewer: Viewer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "cached_teaching_slide", partial(cached_teaching_slide, 512))
    choose("teaching")
    drawn = cached_teaching_slide(512).stat().st_mtime_ns
    choose("teaching")
    assert cached_teaching_slide(512).stat().st_mtime_ns == drawn
    assert [layer.data.shape for layer in viewer.layers] == [(512, 512, 3)] * 2
    assert viewer.layers[0].metadata["dala_slide"].mpp == (0.5, 0.5)


def test_the_public_slide_is_fetched_once(viewer: Viewer, monkeypatch: pytest.MonkeyPatch, shared_data: Path) -> None:
    with serving(shared_data / "slides") as address:
        monkeypatch.setattr(sample, "CMU_URL", f"{address}/CMU-1-Small-Region.svs")
        choose("cmu-1-small-region")
    choose("cmu-1-small-region")  # from the cache: the server is gone
    assert [layer.data.shape for layer in viewer.layers] == [(2967, 2220, 3)] * 2


def test_another_file_than_expected_is_not_kept(
    viewer: Viewer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "CMU-1-Small-Region.svs").write_bytes(b"<html>please log in</html>")
    with serving(tmp_path) as address:
        monkeypatch.setattr(sample, "CMU_URL", f"{address}/CMU-1-Small-Region.svs")
        with pytest.raises(DalaError, match="another file than expected"):
            choose("cmu-1-small-region")
    assert not list((cache_folder() / "samples").glob("*"))


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/a.svs", "http://no-such-host.invalid/a.svs"])
def test_without_internet_one_line_says_so(viewer: Viewer, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr(sample, "CMU_URL", url)
    with pytest.raises(DalaError, match=r"^CMU-1-Small-Region.svs: cannot be fetched from .*internet.*") as caught:
        choose("cmu-1-small-region")
    assert "\n" not in str(caught.value)
    assert not viewer.layers
