"""All tensors of a file of weights, by their names; nothing in the file is run."""

from __future__ import annotations

import re
from collections import OrderedDict, deque
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from napari_dala.errors import BundleError
from napari_dala.files import open_to_read
from napari_dala.model.importing.file_kind import kind_of
from napari_dala.model.tensor_file import read_header

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MOST_STOOD_IN = 100
_BESIDE_WEIGHTS = re.compile(  # settings, figures and dates that training programs store beside the weights
    r"(argparse|collections|numpy|pathlib|datetime|types|typing|omegaconf|pytorch_lightning|lightning|lightning_fabric"
    r"|lightning_utilities|torchmetrics|yacs|easydict|ml_collections|addict|mmengine|mmcv)\b"
    r"|builtins\.(dict|list|tuple|set|int|float|str|bool|slice|object)$"
)
_LIKE_A_DICT = re.compile(r".*(Dict|dict|CfgNode)$")
_WHOLE_NETWORK = re.compile(r"(torch|torchvision|timm|__main__)\b")
_SAVE = "save its state_dict() alone: torch.save(network.state_dict(), 'weights.pth')"


class _StandIn:
    """Takes the place of whatever is stored beside the weights; does nothing and keeps nothing."""

    def __new__(cls, *_: object, **__: object) -> _StandIn:
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        pass


class _DictStandIn:
    """The same for what is a dict of its own kind."""

    def __new__(cls, *_: object, **__: object) -> OrderedDict[object, object]:  # type: ignore[misc]  # on purpose
        return OrderedDict()  # torch lets nothing be put into another kind


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, or of one of `torch.save`, by name.

    What is nested has the names of what it lies in before its own, with dots between: `state_dict.conv1.weight`.
    Files of `torch.save` are read with `weights_only=True`. Settings of known training programs that lie beside the
    weights are passed over: an empty object stands in for each, so that no code of theirs runs either.

    Raises
    ------
    BundleError
        If the file is none of these, is damaged, asks to run code, or holds no tensor; one line.
    """
    if kind_of(path) == "torch":
        tensors = dict(_flat(_loaded(path)))
    else:
        read_header(path)
        try:
            tensors = load_file(path)
        except (SafetensorError, OSError) as error:
            raise BundleError(f"{path.name}: it cannot be read ({error})") from None
    if not tensors:
        raise BundleError(f"{path.name}: it holds no tensors with names, so no state dict; of the network, {_SAVE}")
    return tensors


def _loaded(path: Path) -> Any:
    """Return what `torch.save` wrote, with stand-ins for what is known to lie beside weights."""
    stand_ins: dict[str, type] = {}
    while True:
        try:
            allowed: list[Any] = [(kind, name) for name, kind in stand_ins.items()]
            with open_to_read(path) as file, torch.serialization.safe_globals(allowed):
                return torch.load(file, map_location="cpu", weights_only=True)
        except OSError as error:
            raise BundleError(f"{path.name}: it cannot be read ({error.strerror or error})") from None
        except MemoryError:
            raise
        except Exception as error:  # a damaged pickle can raise anything
            found = re.search(r"GLOBAL (\S+)", str(error)) if isinstance(error, UnpicklingError) else None
            name = "" if found is None else found[1] if "." in found[1] else f"builtins.{found[1]}"
            if name in stand_ins or len(stand_ins) == _MOST_STOOD_IN or not _BESIDE_WEIGHTS.match(name):
                raise BundleError(f"{path.name}: {_refusal(name)}") from None
            stand_ins[name] = _DictStandIn if _LIKE_A_DICT.match(name) else _StandIn


def _refusal(name: str) -> str:
    """Say why what `torch.save` wrote is not taken, by the name of what it asks to run, if any."""
    if not name:
        return "this is not a state dict saved by torch.save, or it is damaged; copy or download it again"
    if _WHOLE_NETWORK.match(name):
        return f"this is a whole pickled network ({name}), which would have to be run; where you trust it, {_SAVE}"
    return f"refused, it asks to run {name}; of the network, {_SAVE}"


def _flat(found: Any) -> Iterator[tuple[str, Tensor]]:
    """Give the tensors in nested dicts; a dict that is met again is passed over."""
    seen: set[int] = set()
    waiting = deque([("", found)])
    while waiting:
        prefix, value = waiting.popleft()
        if isinstance(value, dict) and id(value) not in seen:
            seen.add(id(value))
            waiting.extend((f"{prefix}{'.' if prefix else ''}{key}", inner) for key, inner in value.items())
        elif _is_plain(value) and prefix:
            yield prefix, value


def _is_plain(value: object) -> bool:
    """Tell whether a value is a tensor with its numbers in memory, one by one."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
    )
