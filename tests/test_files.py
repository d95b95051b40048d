"""How files are written: whole or not at all, never through a link, with the permissions that the user wants."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_dala.annotations.document import AnnotationDocument
from napari_dala.annotations.files import load_for, previous_of, save_for
from napari_dala.errors import AnnotationError
from napari_dala.files import open_to_append, open_to_read, replacing, replacing_folder, sweep, write_json, write_text
from napari_dala.jobs.job import PROGRAMS, Job
from napari_dala.jobs.run import JobRun
from napari_dala.jobs.state import JobState, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

posix = pytest.mark.skipif(sys.platform == "win32", reason="links, FIFOs and permissions of POSIX")
DOCUMENT = AnnotationDocument("f" * 32)


def with_replacing(path: Path) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(b"new")


def with_a_file_of_its_own(path: Path) -> None:
    """As libraries do that write to another name first."""
    with replacing(path) as temporary:
        temporary.with_suffix(".own").write_bytes(b"new")
        temporary.with_suffix(".own").rename(temporary)


def with_rows(path: Path) -> None:
    from napari_dala.training.finetune.tile_rows import write_rows

    write_rows(path, (1, 2), np.uint8, [np.ones((1, 2), np.uint8)])


def with_a_job(folder: Path) -> None:
    """All that a job writes whole: made, started, run, asked and given up."""
    Job.create(folder, "test", {})
    job = Job.open(folder)
    job.start()
    job.wait(20)
    with JobRun(folder) as run:
        run.say("epoch 1")
        job.pause()
        job.resume()
    JobState(Status.INTERRUPTED).write(folder)
    job.cancel()


WRITERS: list[Callable[[Path], object]] = [
    with_replacing,
    with_a_file_of_its_own,
    lambda path: write_text(path, "new"),
    lambda path: write_json(path, {}, private=True),
    lambda path: save_for(DOCUMENT, path),
    with_rows,
    with_a_job,
]


@pytest.mark.parametrize("write", WRITERS)
def test_what_is_renamed_was_synced_before(
    write: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut a name never leads to an empty file."""
    monkeypatch.setitem(PROGRAMS, "test", ("-c", "pass"))
    synced: set[int] = set()
    replaced: list[str] = []
    fsync, replace = os.fsync, os.replace

    def sync(handle: int) -> None:
        fsync(handle)
        synced.add(os.fstat(handle).st_ino)

    def rename(source: Any, target: Any) -> None:
        assert os.stat(source).st_ino in synced, f"{target} is renamed before it is on the disk"
        replaced.append(str(target))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", rename)
    write(tmp_path / "new")
    written = [path for path in (tmp_path / "new").rglob("*") if path.is_file()]
    appended = {"lock", "log.txt", "progress.jsonl"}
    assert replaced
    assert {path.name for path in written} - appended <= {os.path.basename(name) for name in replaced}
    assert not list(tmp_path.rglob(".*"))


@posix
def test_a_link_is_replaced_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (tmp_path / "link").symlink_to(precious)
    write_text(tmp_path / "link", "new")
    assert precious.read_text() == "precious"
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "link").read_text() == "new"
    for target in (precious, tmp_path / "nothing"):
        (tmp_path / "log").symlink_to(target)
        with pytest.raises(OSError, match="symbolic links"):
            open_to_append(tmp_path / "log")
        (tmp_path / "log").unlink()
    assert not (tmp_path / "nothing").exists()


@pytest.fixture(params=["fifo", "socket", "device", "folder"])
def no_file(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "odd"
    if request.param == "folder":
        path.mkdir()
    elif sys.platform == "win32":
        pytest.skip("POSIX")
    elif request.param == "fifo":
        os.mkfifo(path)
    elif request.param == "device":
        if os.geteuid():
            pytest.skip("only root makes devices")
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))  # /dev/zero, which never ends
    else:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(os.path.relpath(path))
            yield path
        return
    yield path


@pytest.mark.timeout(20)
def test_what_is_no_file_is_neither_read_nor_written(no_file: Path) -> None:
    for opened in (open_to_read, open_to_append):
        with pytest.raises(OSError, match=r"ordinary|No such device|directory|denied"):
            opened(no_file)


@posix
@pytest.mark.timeout(20)
def test_annotations_that_are_a_fifo_hang_nobody(tmp_path: Path) -> None:
    path = save_for(DOCUMENT, tmp_path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(AnnotationError, match="not an ordinary file"):
        load_for(DOCUMENT.fingerprint, tmp_path)
    save_for(DOCUMENT, tmp_path)
    assert load_for(DOCUMENT.fingerprint, tmp_path) is not None


def modes(folder: Path) -> dict[str, str]:
    return {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in (folder, *folder.rglob("*"))}


@posix
@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_permissions_are_the_users_or_nobodys_else(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        file, folder = oct(0o666 & ~umask), oct(0o777 & ~umask)
        path = save_for(DOCUMENT, tmp_path / "plain")
        assert modes(path.parent) == {"f" * 32: folder, "annotations.geojson": file}
        path.chmod(0o640)  # the user's own wish holds
        save_for(AnnotationDocument("f" * 32, others=({},)), tmp_path / "plain")
        assert modes(path.parent)["annotations.geojson"] == "0o640"

        path = save_for(AnnotationDocument("f" * 32, patient="Jane Doe"), tmp_path / "named")
        save_for(DOCUMENT, tmp_path / "named")
        assert modes(path.parent) == {"f" * 32: "0o700", path.name: "0o600", previous_of(path).name: "0o600"}

        job = Job.create(tmp_path / "job", "test", {}, files={"annotations/001.geojson": path})
        found = modes(job.folder)
        assert (found["job"], found["job.json"], found["001.geojson"]) == ("0o700", "0o600", "0o600")
        assert found["state.json"] == file
    finally:
        os.umask(before)


def test_leftovers_of_the_dead_are_swept_and_of_the_living_are_not(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from napari_dala.files import replacing\n"
        "with replacing(Path(sys.argv[1]) / 'rows.npy') as temporary:\n"
        "    temporary.write_bytes(bytes(100)); print(temporary, flush=True); time.sleep(60)\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE) for _ in range(2)]
    try:
        names = []
        for writer in writers:
            assert writer.stdout is not None
            with writer.stdout:
                names.append(os.path.basename(writer.stdout.readline().decode().strip()))
        writers[0].kill()
        writers[0].wait()
        others = {".bashrc", "rows-0123abcd.npy", ".ipynb_checkpoints"}
        for name in others:
            (tmp_path / name).touch()
        (tmp_path / ".old-a1_b2c3d.npy").touch()  # of a version that did not lock them
        sweep(tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == others | {names[1]}
    finally:
        for writer in writers:
            writer.send_signal(signal.SIGTERM)
            writer.wait()
    sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == others
    shutil.rmtree(tmp_path)
    sweep(tmp_path)  # nothing to do


def half_a_folder(path: Path) -> None:
    with replacing_folder(path) as temporary:
        (temporary / "half").write_text("half")
        (temporary / "none" / "more").write_text("more")


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    for text in ("old", "new"):
        with replacing_folder(path) as temporary:
            (temporary / "deep").mkdir()
            (temporary / "deep" / "file").write_text(text)
    assert (path / "deep" / "file").read_text() == "new"
    with pytest.raises(FileNotFoundError):
        half_a_folder(path)
    assert (path / "deep" / "file").read_text() == "new"
    assert [one.name for one in tmp_path.iterdir()] == ["folder"]
