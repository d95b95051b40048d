"""Files in the layouts that networks are published in, each made here with random weights, and what is taken of it."""

from __future__ import annotations

import argparse
import collections
import datetime
import pathlib
import sys
import types
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from napari_dala.errors import BundleError
from napari_dala.model.card import TRUNK_ONLY_WARNING
from napari_dala.model.convert import import_checkpoint
from napari_dala.model.importing.presets import PRESETS, preset_of
from napari_dala.model.importing.request import ImportRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    State = dict[str, Tensor]
    Layout = Callable[[State], Any]

PROGRAMS = ("omegaconf", "pytorch_lightning", "easydict")
IN_ORDER = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}


def put(prefix: str, state: State, *, fc: bool = False) -> State:
    """Return a state dict under a prefix, mostly without its classifier, as self-supervised methods have it."""
    return {f"{prefix}{name}": tensor for name, tensor in state.items() if fc or not name.startswith("fc.")}


def other(state: State) -> State:
    """Return another network of the same kind, as a momentum encoder is."""
    return {name: tensor + 1 for name, tensor in state.items()}


def in_order(prefix: str, state: State) -> State:
    """Return the state dict of `nn.Sequential(*list(network.children())[:-1])`."""
    parts = {name: name.partition(".") for name in state if not name.startswith("fc.")}
    return {f"{prefix}{IN_ORDER[part]}.{rest}": state[name] for name, (part, _, rest) in parts.items()}


def linears(**shapes: tuple[int, ...]) -> State:
    state = {}
    for name, shape in shapes.items():
        stem = name.replace("__", ".")
        state |= {f"{stem}.weight": torch.randn(shape) / 50, f"{stem}.bias": torch.randn(shape[0]) / 50}
    return state


def batch_norm(name: str, width: int) -> State:
    return {f"{name}.{key}": value for key, value in nn.BatchNorm1d(width).state_dict().items()}


def moco(state: State) -> Any:
    projection = linears(fc__0=(2048, 2048), fc__2=(128, 2048))
    return {
        "epoch": 200,
        "arch": "resnet50",
        "state_dict": put("module.encoder_q.", state | projection)
        | put("module.encoder_q.", projection, fc=True)
        | put("module.encoder_k.", other(state))
        | put("module.encoder_k.", projection, fc=True)
        | {"module.queue": torch.zeros(128, 64), "module.queue_ptr": torch.zeros(1, dtype=torch.long)},
        "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 0.03}]},
    }


def swav(state: State) -> Any:
    heads = linears(projection_head__0=(2048, 2048), projection_head__3=(128, 2048))
    heads |= batch_norm("projection_head.1", 2048) | {"prototypes.weight": torch.zeros(3000, 128)}
    return put("module.", state) | put("module.", heads)


def barlow_twins(state: State) -> Any:
    heads = {"module.projector.0.weight": torch.zeros(64, 2048)} | batch_norm("module.bn", 64)
    return {"epoch": 3, "model": put("module.backbone.", state) | heads, "optimizer": {"state": {}}}


def dino(state: State) -> Any:
    return {
        "student": put("module.backbone.", state) | {"module.head.mlp.0.weight": torch.zeros(8, 2048)},
        "teacher": put("backbone.", other(state)),
        "args": argparse.Namespace(arch="resnet50", out_dim=8),
        "epoch": 3,
    }


def solo_learn(state: State) -> Any:
    return {
        "state_dict": put("backbone.", state) | put("momentum_backbone.", other(state)),
        "hyper_parameters": training_program("omegaconf.dictconfig", "DictConfig")(),
        "callbacks": {training_program("pytorch_lightning.callbacks", "ModelCheckpoint"): {"best": np.float64(0.5)}},
        "hparams": training_program("easydict.settings", "EasyDict", dict)(lr=0.1),
        "saved": datetime.datetime(2026, 1, 1),
        "folder": pathlib.PurePosixPath("out"),
        "seen": collections.defaultdict(list, {"a": [1]}),
    }


def training_program(module: str, name: str, base: type = object) -> type:
    """Return a class of a program that is not installed here: gone again when the file is read."""
    kind = type(name, (base,), {"__module__": module})
    for part in (module.partition(".")[0], module):
        sys.modules.setdefault(part, types.ModuleType(part))
    setattr(sys.modules[module], name, kind)
    return kind


@pytest.fixture(autouse=True)
def modules() -> Iterator[None]:
    before = dict(sys.modules)
    yield
    for name in sys.modules.keys() - before.keys():
        if name.startswith(PROGRAMS):
            del sys.modules[name]


def vissl(state: State) -> Any:
    trunk = put("_feature_blocks.", state)
    return {"classy_state_dict": {"base_model": {"model": {"trunk": trunk, "heads": {}}}}, "phase_idx": 4}


def byol(state: State) -> Any:
    return {"online_network": put("net.", state), "target_network": put("net.", other(state))}


def mmpretrain(state: State) -> Any:
    return {
        "meta": {"epoch": 60},
        "state_dict": put("backbone.", state)
        | {"head.fc.weight": torch.zeros(4, 2048), "head.fc.bias": torch.zeros(4)},
    }


TRUNKS: dict[str, tuple[str, Layout, str | None, str]] = {
    # name: file, what is in it, --prefix, what it is taken from
    "torchvision": ("resnet50-11ad3fa6.pth", lambda state: state, None, ""),
    "torch.save before 1.6": ("old.pth", lambda state: state, None, ""),
    "timm": ("model.safetensors", lambda state: state, None, ""),
    "Hugging Face": ("pytorch_model.bin", lambda state: put("backbone.", state, fc=True), None, "backbone"),
    "lunit, Kang et al.": ("bt_rn50_ep200.torch", lambda state: put("", state), None, ""),
    "DataParallel": (
        "best.pt",
        lambda state: {"model_state_dict": put("module.", state)},
        None,
        "model_state_dict.module",
    ),
    "MoCo v2": ("moco_v2_800ep_pretrain.pth.tar", moco, None, "state_dict.module.encoder_q"),
    "MoCo v2, its other network": ("moco.pth.tar", moco, "encoder_k", "state_dict.module.encoder_k"),
    "SwAV": ("swav_800ep_pretrain.pth.tar", swav, None, "module"),
    "Barlow Twins": ("checkpoint.pth", barlow_twins, None, "model.module.backbone"),
    "DINO, the student": ("checkpoint.pth", dino, "student.module.backbone.", "student.module.backbone"),
    "DINO, the teacher": ("checkpoint.pth", dino, "teacher.backbone", "teacher.backbone"),
    "solo-learn on Lightning": ("ep=400.ckpt", solo_learn, None, "state_dict.backbone"),
    "VISSL": ("model_final.torch", vissl, None, "classy_state_dict.base_model.model.trunk._feature_blocks"),
    "BYOL": ("byol.pt", byol, None, "online_network.net"),
    "mmpretrain": ("epoch_60.pth", mmpretrain, None, "state_dict.backbone"),
    "nn.Sequential": ("features.pt", lambda state: in_order("features.", state), None, "features"),
    "nn.Sequential, bare": ("trunk.safetensors", lambda state: in_order("", state), None, ""),
}


def write(path: Path, content: Any) -> Path:
    if path.suffix == ".safetensors":
        save_file(content, path)
    else:
        torch.save(content, path, _use_new_zipfile_serialization=path.stem != "old")
    return path


def request(path: Path, **asked: Any) -> ImportRequest:
    settings = {
        "name": "mine",
        "classes": ("benign", "malignant"),
        "mpp": 0.25,
        "preset": preset_of(path.name, "resnet50"),
    }
    return ImportRequest(file=path, **settings | asked)


@pytest.mark.parametrize("name", TRUNKS)
def test_a_trunk_is_taken_from_where_it_lies(name: str, resnet: State, tmp_path: Path) -> None:
    file, layout, prefix, taken_from = TRUNKS[name]
    path = write(tmp_path / file, layout(resnet))
    for module in [module for module in sys.modules if module.startswith(PROGRAMS)]:
        del sys.modules[module]  # the machine that imports has none of them
    found = import_checkpoint(request(path, prefix=prefix))
    is_other = "encoder_k" in taken_from or "teacher" in taken_from
    for own in ("conv1.weight", "layer4.2.conv3.weight", "bn1.running_mean", "layer1.0.downsample.1.bias"):
        expected = resnet[own] + 1 if is_other else resnet[own]
        expected = expected.half().float() if expected.ndim > 1 else expected
        torch.testing.assert_close(found.network.trunk.state_dict()[own], expected, rtol=0, atol=0)
    assert found.card.training.get("taken_from", "") == taken_from
    assert (found.card.trained, found.card.trunk_only, found.card.warning) == (False, True, TRUNK_ONLY_WARNING)
    preset = PRESETS["lunit" if "lunit" in name else "imagenet"]
    assert (found.card.mean, found.card.std) == (preset.mean, preset.std)


def test_the_card_says_what_was_left_out(resnet: State, tmp_path: Path) -> None:
    card = import_checkpoint(request(write(tmp_path / "moco.pth.tar", moco(resnet)))).card
    assert card.training["left_out"] == [
        "state_dict.module.encoder_k",
        "fc.0",
        "fc.2",
        "optimizer.state",
        "state_dict.module",
    ]
    card = import_checkpoint(request(write(tmp_path / "swav_rn50_ep200.torch", put("", resnet)), preset="lunit")).card
    assert "left_out" not in card.training
    assert "2212.04690" in card.citation


TOLD: dict[str, tuple[Layout, str | None, str]] = {
    "student and teacher": (
        dino,
        None,
        r"2 networks that can be taken; .*: student\.module\.backbone, teacher\.backbone$",
    ),
    "timm's averaged weights": (
        lambda state: {"state_dict": state, "state_dict_ema": other(state)},
        None,
        r"choose one with --prefix \(the field Prefix\): state_dict, state_dict_ema$",
    ),
    "one of them without a prefix": (
        lambda state: state | put("ema.", other(state)),
        None,
        r"\(the field Prefix\): \., ema$",
    ),
    "a prefix that is not there": (
        byol,
        "encoder",
        r"no ResNet-50 under encoder; .*: online_network\.net, target_network\.net$",
    ),
}


@pytest.mark.parametrize("name", TOLD)
def test_of_several_the_user_is_told_which_there_are(name: str, resnet: State, tmp_path: Path) -> None:
    layout, prefix, reason = TOLD[name]
    path = write(tmp_path / "several.pth", layout(resnet))
    with pytest.raises(BundleError, match=rf"^several\.pth: it holds {'.*' if prefix is None else ''}{reason}"):
        import_checkpoint(request(path, prefix=prefix))


def test_the_network_without_a_prefix_can_be_chosen(resnet: State, tmp_path: Path) -> None:
    path = write(tmp_path / "both.pth", resnet | put("ema.", other(resnet)))
    found = import_checkpoint(request(path, prefix="."))
    torch.testing.assert_close(found.network.trunk.state_dict()["bn1.bias"], resnet["bn1.bias"])
