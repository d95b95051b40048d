"""Headers of safetensors files from anywhere: refused in one line before the library maps the file."""

from __future__ import annotations

import json
import random
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from napari_dala.errors import BundleError
from napari_dala.model.bundle import load_bundle, untrained
from napari_dala.model.bundle_head import load_head
from napari_dala.model.card import UNTRAINED_CARD, read_card
from napari_dala.model.catalog import TEACHING, find_card, find_model, install_file, list_models
from napari_dala.model.tensor_file import SUMS_FILE, UNSEALED, check_seal, read_header, seal
from napari_dala.model.weights import unpack
from napari_dala.workspace import models_folder

if TYPE_CHECKING:
    from pathlib import Path

CARD = UNTRAINED_CARD.model_dump_json()


def _written(path: Path, header: Any, data: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


def _entry(shape: list[Any], begin: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_what_the_library_writes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    tensors = {"a": np.arange(6.0).reshape(2, 3), "none": np.zeros((0, 4), np.float32), "one": np.float16([1])}
    save_file(tensors, path, {"card": CARD})
    found = read_header(path)
    assert found.metadata == {"card": CARD}
    assert {name: entry.shape for name, entry in found.tensors.items()} == {k: v.shape for k, v in tensors.items()}


@pytest.mark.parametrize(
    ("header", "data", "reason"),
    [
        ({"a": _entry([1], 0, 4)}, b"", "truncated"),
        ({"a": _entry([1], 0, 4)}, b"12345678", "4 bytes behind its last tensor"),
        ({"a": _entry([2], 0, 4)}, b"1234", "not where its shape says"),
        ({"a": _entry([2**40, 2**40], 0, 4)}, b"1234", "not where its shape says"),
        ({"a": _entry([10**30], 0, 4)}, b"1234", "damaged"),
        ({"a": _entry([-1], 0, 4)}, b"1234", "damaged"),
        ({"a": _entry([1.5], 0, 4)}, b"1234", "damaged"),
        ({"a": _entry([True], 0, 4)}, b"1234", "damaged"),
        ({"a": _entry([1] * 9, 0, 4)}, b"1234", "damaged"),
        ({"a": _entry([1], 4, 0)}, b"1234", "not where its shape says"),
        ({"a": _entry([1], 0, 4), "b": _entry([1], 0, 4)}, b"12345678", "not where its shape says"),
        ({"a": _entry([1], 0, 4), "b": _entry([1], 8, 12)}, b"1" * 12, "not where its shape says"),
        ({"a": _entry([1], 0, 4, "F8_E4M3")}, b"1234", "stored as F8_E4M3"),
        ({"a": {"dtype": "F32", "shape": [1]}}, b"1234", "data_offsets: Field required"),
        ({"a": 3}, b"", "damaged"),
        ({"__metadata__": {"card": 3}}, b"", "damaged"),
        ({"__metadata__": [1]}, b"", "damaged"),
        (b"[]", b"", "not a safetensors file"),
        (b'{"a": ' * 50_000, b"", "nested too deep"),
        (b'{"a": 1, "a": 2}', b"", "“a” is there twice"),
        ({f"t{n}": _entry([0], 0, 0) for n in range(10_001)}, b"", "10001 tensors"),
        ({"__metadata__": {"card": "9" * 5000}}, b"", "its model card: damaged, not JSON .a number of 5000 digits"),
        ({"__metadata__": {"card": "[" * 100_000}}, b"", "its model card: damaged, not JSON .nested too deep"),
        ({"__metadata__": {"card": '{"classes": 3}'}}, b"", "its model card is not valid"),
        ({"__metadata__": {"card": CARD, "trunk_of": "x" * 5000}}, b"", "must lie in the same folder"),
        ({"__metadata__": {"card": CARD, "trunk_of": "../a"}}, b"", "must lie in the same folder"),
        ({"__metadata__": {"card": CARD, "trunk_of": "\0"}}, b"", "must lie in the same folder"),
        ({"__metadata__": {"card": CARD, "trunk_of": ""}}, b"", "must lie in the same folder"),
        ({"__metadata__": {"card": CARD, "trunk_of": "bad.safetensors"}}, b"", "of itself"),
    ],
)
def test_each_fault_is_named_and_the_others_are_listed(workspace: Path, header: Any, data: bytes, reason: str) -> None:
    path = _written(models_folder() / "bad.safetensors", header, data)
    for read in (read_card, find_card, load_bundle, load_head, lambda one: install_file(one, "new")):
        with pytest.raises(BundleError, match=reason) as error:
            read(path)
        assert str(error.value).startswith("bad.safetensors: ")
        assert "\n" not in str(error.value)
    entries = {entry.name: entry for entry in list_models()}
    assert entries["bad"].card is None
    assert entries["untrained"].card is not None


@pytest.mark.parametrize("length", [2**63, 10**15, 2**40])
def test_a_header_longer_than_the_file(tmp_path: Path, length: int) -> None:
    with pytest.raises(BundleError, match="not a safetensors file"):
        read_header(_written(tmp_path / "long.safetensors", {}, length=length))


def test_a_file_longer_than_any_model(tmp_path: Path) -> None:
    path = _written(tmp_path / "huge.safetensors", {"a": _entry([2**32], 0, 2**34)})
    with path.open("rb+") as file:
        file.truncate(path.stat().st_size + 2**34)
    with pytest.raises(BundleError, match="16384 MB; a model of at most 8192 MB"):
        read_header(path)


def test_a_trunk_has_no_trunk_elsewhere(tmp_path: Path) -> None:
    for name, other in (("a", "b"), ("b", "a")):
        metadata = {"card": CARD, "trunk_of": f"{other}.safetensors"}
        _written(tmp_path / f"{name}.safetensors", {"__metadata__": metadata})
    for load in (load_bundle, load_head):
        with pytest.raises(BundleError, match=r"^a\.safetensors: its trunk is that of b\.safetensors, which has none"):
            load(tmp_path / "a.safetensors")


def test_packed_parts_that_would_not_fit_into_memory(tmp_path: Path) -> None:
    untrained().save(tmp_path / "small.safetensors", bits=10)
    packed = load_file(tmp_path / "small.safetensors")
    name = "trunk.conv1.weight"
    for part, value in (
        ("shape", np.array([2**62, 4, 1, 1])),
        ("shape", np.array([64, -1, 7, 7])),
        ("shape", np.array([], np.int64)),
        ("shape", np.array([64.0, 3, 7, 7])),
        ("scale", np.ones(10**6, np.float32)),
        ("scale", np.float32(1)),
        ("bytes", np.zeros((64, 7), np.uint8)),
    ):
        path = tmp_path / "bad.safetensors"
        save_file(packed | {f"{name}.{part}": np.asarray(value)}, path, {"card": CARD})
        with pytest.raises(BundleError, match=r"trunk\.conv1\.weight is packed, and its parts do not fit together"):
            load_bundle(path)
    assert unpack({}, "nothing") == {}


def _check_sealed(path: Path) -> None:
    metadata = read_header(path).metadata
    if "sha256" not in metadata:  # the changed bit was in this name
        raise BundleError("there is no seal any more")
    check_seal(path, metadata)


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "sealed.safetensors"
    save_file({"a": np.arange(100.0)}, path, {"card": CARD, **UNSEALED})
    seal(path)
    whole = path.read_bytes()
    _check_sealed(path)
    draw = random.Random(21)
    for _ in range(200):
        place = draw.randrange(len(whole))
        bit = 1 << draw.randrange(8)
        path.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
        with pytest.raises(BundleError):
            _check_sealed(path)


def test_another_threshold_has_a_seal_of_its_own(tmp_path: Path, saved: Path) -> None:
    other = install_file(saved, "mine", tmp_path, threshold=1.0)
    assert other.path is not None
    assert load_head(other.path).card.operating_threshold < 1
    assert load_head(other.path).hash == load_head(saved).hash == other.hash, "which the file says"


def test_a_header_whose_length_begins_like_a_pickle(tmp_path: Path) -> None:
    _written(tmp_path / "a.safetensors", json.dumps({"__metadata__": {"card": CARD}}).encode().ljust(0x1080))
    assert read_card(tmp_path / "a.safetensors") == UNTRAINED_CARD


def test_a_built_in_model_that_changed_is_noticed(tmp_path: Path) -> None:
    built_in = find_model(TEACHING)
    assert built_in is not None
    for name in (built_in.name, SUMS_FILE):
        shutil.copyfile(built_in.with_name(name), tmp_path / name)
    path = tmp_path / built_in.name
    check_seal(path, {})
    held = bytearray(path.read_bytes())
    held[len(held) // 2] ^= 1
    path.write_bytes(held)
    with pytest.raises(BundleError, match="its checksum is another"):
        check_seal(path, {})
    (tmp_path / SUMS_FILE).write_bytes(b"\xff\xfe nothing of the kind")
    check_seal(path, {})  # it can then not be known
