"""Downloading from a server on this machine that can break off, know no ranges, send something else."""

from __future__ import annotations

import hashlib
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest

from napari_dala.errors import FetchError
from napari_dala.files import open_to_append, try_lock
from napari_dala.model.fetch import PUBLISHED, PublishedWeights, by_hand, fetch_weights, place_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONTENT = np.random.default_rng(0).bytes(3_000_000)
FILE = "resnet50-test.pth"


class Server(BaseHTTPRequestHandler):
    """Sends CONTENT; what is wrong with it is set on a subclass."""

    status = 200
    content = CONTENT
    knows_ranges = True
    breaks_after: int | None = None  # bytes
    says_length = True
    delay_s = 0.0  # after each MB
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        wanted = self.headers.get("Range", "")
        self.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.knows_ranges else 0
        body = self.content[start:]
        self.send_response(206 if start else self.status)
        if self.says_length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        body = body[: self.breaks_after]
        with suppress(ConnectionError):  # who asked has gone away
            for begin in range(0, len(body), 1 << 20):
                self.wfile.write(body[begin : begin + (1 << 20)])
                time.sleep(self.delay_s)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(**settings: Any) -> Iterator[tuple[str, list[str]]]:
    """Serve; gives the file's address and the ranges that were asked for."""
    handler = type("Handler", (Server,), {"asked": [], **settings})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/models/{FILE}", handler.asked
        finally:
            server.shutdown()


def weights_at(url: str) -> PublishedWeights:
    return PublishedWeights(url, hashlib.sha256(CONTENT).hexdigest(), len(CONTENT), "Bytes.")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch's folder of downloads."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return tmp_path / "torch" / "hub" / "checkpoints"


def test_it_comes_whole_and_only_once(folder: Path) -> None:
    told: list[tuple[int, int]] = []
    with serving() as (url, asked):
        weights = weights_at(url)
        path = fetch_weights(weights, lambda done, total: told.append((done, total)))
        assert path == fetch_weights(weights) == folder / FILE
        assert path.read_bytes() == CONTENT
        assert [one.name for one in folder.iterdir()] == [FILE]
        assert asked == [""], "the second time it was there"
    assert told[0] == (0, len(CONTENT))
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert told == sorted(told)


def test_a_file_that_was_put_there_by_hand_needs_no_network(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / FILE).write_bytes(CONTENT)
    assert fetch_weights(weights_at(f"http://127.0.0.1:1/{FILE}")) == folder / FILE


def test_a_broken_connection_is_resumed(folder: Path) -> None:
    with (
        serving(breaks_after=1_000_000) as (url, _),
        pytest.raises(FetchError, match=r"the connection broke .* goes on"),
    ):
        fetch_weights(weights_at(url))
    assert (folder / f"{FILE}.part").stat().st_size == 1_000_000
    with serving() as (url, asked):
        path = fetch_weights(weights_at(url))
        assert asked == ["bytes=1000000-"]
    assert path is not None
    assert path.read_bytes() == CONTENT


def test_a_server_without_ranges_sends_all_of_it_again(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / f"{FILE}.part").write_bytes(b"other bytes than what the server sends")
    with serving(knows_ranges=False, says_length=False) as (url, asked):
        assert fetch_weights(weights_at(url)) == folder / FILE
        assert asked == ["bytes=38-"]
    assert (folder / FILE).read_bytes() == CONTENT


@pytest.mark.parametrize("left", [len(CONTENT), len(CONTENT) + 5])
def test_a_part_that_has_all_bytes_or_more(folder: Path, left: int) -> None:
    folder.mkdir(parents=True)
    (folder / f"{FILE}.part").write_bytes((CONTENT + bytes(5))[:left])
    with serving() as (url, asked):
        assert fetch_weights(weights_at(url)) == folder / FILE
        assert len(asked) == (left > len(CONTENT))


def test_it_can_be_stopped_and_goes_on(folder: Path) -> None:
    with serving() as (url, asked):
        have: list[int] = []
        assert fetch_weights(weights_at(url), lambda done, _: have.append(done), lambda: len(have) > 3) is None
        part = (folder / f"{FILE}.part").stat().st_size
        assert 0 < part == have[-1] < len(CONTENT)
        assert fetch_weights(weights_at(url)) == folder / FILE
        assert asked == ["", f"bytes={part}-"]
    assert (folder / FILE).read_bytes() == CONTENT


FAILURES: dict[str, tuple[dict[str, Any], str]] = {
    "another file of the same size": (
        {"content": bytes(len(CONTENT))},
        r"what came is not the file that was published \(another SHA-256\), and was removed; .*without internet: ",
    ),
    "not found": ({"status": 404}, r"the server answers 404 \(Not Found\); try later, or without internet: download"),
    "a page to log in": ({"content": b"<html>Who are you?"}, r"the answer has 18 bytes and not 3000000: .*proxy"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_what_goes_wrong_is_one_line_and_leaves_nothing(name: str, folder: Path) -> None:
    settings, reason = FAILURES[name]
    with serving(**settings) as (url, _), pytest.raises(FetchError, match=reason) as error:
        fetch_weights(weights_at(url))
    assert "\n" not in str(error.value)
    assert [one for one in folder.iterdir() if one.stat().st_size] == []


def test_no_network_at_all(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/{FILE}"
        with pytest.raises(
            FetchError, match=r"it cannot be reached \(Connection refused\); without internet: .*put it at"
        ):
            fetch_weights(weights_at(url))
    with pytest.raises(FetchError, match=r"it cannot be reached .*put it at"):
        fetch_weights(weights_at(f"http://no-such-host.invalid/{FILE}"))


def test_another_file_in_its_place_is_not_overwritten(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / FILE).write_bytes(b"mine")
    with pytest.raises(FetchError, match="this is not the file that was published; remove it"):
        fetch_weights(weights_at(f"http://127.0.0.1:1/{FILE}"))
    assert (folder / FILE).read_bytes() == b"mine"


def test_two_at_once(folder: Path) -> None:
    folder.mkdir(parents=True)
    with open_to_append(folder / f"{FILE}.part") as file:
        assert try_lock(file.fileno())
        with pytest.raises(FetchError, match="another program is downloading it just now"):
            fetch_weights(weights_at(f"http://127.0.0.1:1/{FILE}"))


def test_a_proxy_of_the_environment_is_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as (url, asked):
        monkeypatch.setenv("http_proxy", url.rpartition("/models/")[0])
        assert fetch_weights(weights_at(f"http://weights.invalid/models/{FILE}")) == folder / FILE
        assert asked == [""]


def test_a_disk_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", str(small)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs (root on Linux)")
    try:
        monkeypatch.setenv("TORCH_HOME", str(small))
        with (
            serving() as (url, _),
            pytest.raises(FetchError, match=r"cannot be written \(\d+ MB are free, 2 MB are needed"),
        ):
            fetch_weights(weights_at(url))
        monkeypatch.setattr("napari_dala.model.fetch.shutil.disk_usage", lambda _: type("Usage", (), {"free": 1 << 40}))
        with serving() as (url, _), pytest.raises(FetchError, match=r"cannot be written \(No space left"):
            fetch_weights(weights_at(url))  # another program filled it meanwhile
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)


def test_the_published_file_is_torchvisions_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.hub import get_dir
    from torchvision.models import ResNet50_Weights

    weights, theirs = PUBLISHED["imagenet-resnet50"], ResNet50_Weights.IMAGENET1K_V2
    assert weights.url == theirs.url
    assert weights.sha256.startswith(theirs.url.rpartition("-")[2].removesuffix(".pth"))
    assert weights.size >> 20 == int(theirs.meta["_file_size"])
    for home, cache in (("", ""), ("", "/cache"), ("/home", ""), ("~/torch", "")):
        for name, value in (("TORCH_HOME", home), ("XDG_CACHE_HOME", cache)):
            (monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name, raising=False))
        assert str(place_of(weights).parent) == f"{get_dir()}/checkpoints"
        assert str(place_of(weights)) in by_hand(weights)
