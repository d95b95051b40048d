"""Which networks there are among named tensors, told by names and shapes, and which of them is meant."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_dala.errors import BundleError
from napari_dala.model.bundle_file import TRUNK
from napari_dala.model.weights import trunk_shapes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Shapes = Mapping[str, tuple[int, ...]]

RESNET50 = "a ResNet-50"
_WANTED = "a ResNet-50 is what can be imported: save the state dict of a whole one, with torchvision's or timm's names"
_OR_ANOTHER = ", or name another kind with --trunk (the field Network)"
_MOST_NAMED = 8  # networks, in an error
COUNTER = "num_batches_tracked"
"""Ends the name of what counts batch norm's training steps, which changes no output."""
_OPTIMIZER = re.compile(r"(.*\.)?(exp_avg|exp_avg_sq|momentum_buffer|square_avg)$")
_SECOND_COPY = re.compile(r"(key_encoder|encoder_k|target_\w+|momentum_\w+|\w+_momentum)$")  # follows the trained one
_FIRST_BLOCK = "layer1.0.conv1.weight"
_IN_ORDER = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
"""Names of a ResNet's parts in `nn.Sequential(*network.children())`, by torchvision's."""
_DEPTHS: dict[tuple[int, ...], tuple[int, int]] = {  # by the blocks of each layer: of plain ones, of bottlenecks
    (3, 4, 6, 3): (34, 50),
    (3, 4, 23, 3): (101, 101),
    (3, 8, 36, 3): (152, 152),
    (2, 2, 2, 2): (18, 26),
}
_OTHERS = (
    ("a Swin transformer", ("layers.0.blocks.0.attn.relative_position_bias_table",)),
    ("a Swin transformer", ("features.1.0.attn.relative_position_bias_table",)),
    ("a vision transformer (ViT)", ("patch_embed.proj.weight", "blocks.0.attn.qkv.weight")),
    ("a vision transformer (ViT)", ("conv_proj.weight", "encoder.layers.encoder_layer_0.ln_1.weight")),
    ("a vision transformer (ViT)", ("embeddings.patch_embeddings.projection.weight",)),
    ("a vision transformer (ViT)", ("conv1.weight", "transformer.resblocks.0.ln_1.weight")),
    ("a DenseNet", ("features.denseblock1.denselayer1.conv1.weight",)),
    ("a DenseNet", ("features.denseblock1.denselayer1.conv.1.weight",)),
    ("an EfficientNet", ("conv_stem.weight", "blocks.0.0.conv_dw.weight")),
    ("an EfficientNet", ("features.0.0.weight", "features.1.0.block.0.0.weight")),
    ("a ConvNeXt", ("stages.0.blocks.0.conv_dw.weight",)),
    ("a ConvNeXt", ("features.1.0.layer_scale",)),
    ("a MobileNet", ("features.0.0.weight", "features.1.conv.0.0.weight")),
    ("a MobileNet", ("features.0.0.weight", "features.1.block.0.0.weight")),
    ("a ResNet with Detectron2's names", ("stem.conv1.weight", "res2.0.conv1.weight")),
    ("a ResNet v2 (BiT)", ("stem.conv.weight", "stages.0.blocks.0.norm1.weight")),
    ("an Inception network", ("Mixed_5b.branch1x1.conv.weight",)),
    ("a VGG network or AlexNet", ("features.0.weight", "features.10.weight", "classifier.6.weight")),
)
"""Other networks, by names of tensors that each of its kind has, torchvision's or timm's."""


@dataclass(frozen=True)
class FoundNetwork:
    """A network among named tensors.

    Attributes
    ----------
    kind
        What it is, in words: "a ResNet-50", "a DenseNet".
    prefix
        What all its names begin with.
    names
        Of a ResNet: torchvision's name of a tensor -> its name in the file.
    fault
        Why a ResNet-50 cannot be taken as trunk, or empty.
    """

    kind: str
    prefix: str
    names: Mapping[str, str]
    fault: str = ""


def networks_in(shapes: Shapes) -> list[FoundNetwork]:
    """Return the networks that are known among tensors, by their names and shapes."""
    found = []
    for name in shapes:
        for first in (_FIRST_BLOCK, "4.0.conv1.weight"):
            prefix = name.removesuffix(first)
            if prefix != name and _is_whole_part(prefix):
                names = _resnet_names(shapes, prefix, is_in_order=first != _FIRST_BLOCK)
                found.append(_resnet({own: shapes[there] for own, there in names.items()}, prefix, names))
    for kind, (first, *further) in _OTHERS:
        for name in shapes:
            prefix = name.removesuffix(first)
            if prefix != name and _is_whole_part(prefix) and all(prefix + other in shapes for other in further):
                found.append(FoundNetwork(kind, prefix, {}))
    return found


def chosen(found: Sequence[FoundNetwork], shapes: Shapes, prefix: str | None, source: str) -> FoundNetwork:
    """Return the one ResNet-50 to take.

    Of the two networks that contrastive and self-distilling methods keep, the trained one is taken where its names
    tell (`encoder_q` before `encoder_k`, `backbone` before `momentum_backbone`).

    Parameters
    ----------
    found
        As `networks_in` gives them.
    shapes
        Of all tensors.
    prefix
        The user's choice: its prefix, or the last parts of that; "." for the network whose names have none.
    source
        What to call the file in an error.

    Raises
    ------
    BundleError
        If there is none, or there are several; one line that says what there is.
    """
    whole = [one for one in found if one.kind == RESNET50 and not one.fault]
    if not whole:
        raise BundleError(
            f"{source}: it holds {_what_there_is(found, shapes)}; {_WANTED}{_OR_ANOTHER if found else ''}"
        )
    if prefix is None:
        first = without_second_copies([one.prefix for one in whole])
        meant = [one for one in whole if one.prefix in first]
    else:
        meant = [one for one in whole if is_prefix(prefix, one.prefix)]
    if len(meant) == 1:
        return meant[0]
    what = f"{len(meant)} networks that can be taken" if meant else f"no ResNet-50 under {prefix}"
    there = ", ".join(one.prefix.rstrip(".") or "." for one in (meant or whole)[:_MOST_NAMED])
    raise BundleError(f"{source}: it holds {what}; choose one with --prefix (the field Prefix): {there}")


def without_second_copies(prefixes: Sequence[str]) -> Sequence[str]:
    """Return the prefixes but for those of copies that follow a trained network, unless there are no others."""
    return [one for one in prefixes if not any(map(_SECOND_COPY.match, one.split(".")))] or prefixes


def is_prefix(asked: str, prefix: str) -> bool:
    """Tell whether a user means this prefix: all of it or its last parts; "." is that of names without any."""
    end = asked.strip(".")
    return prefix.strip(".") == end or (bool(end) and prefix.endswith(f".{end}."))


def beside(found: FoundNetwork, others: Sequence[FoundNetwork], shapes: Shapes) -> list[Shapes]:
    """Return the tensors beside a ResNet that may be its attention and head, by names in the file.

    First those that have its prefix too, then those of the network that it is a part of. What belongs to another
    network is left out, and so are step counters and ImageNet's classifier, which a trunk keeps without use.
    """
    own = set(found.names.values()) | {name for other in others if other is not found for name in other.names.values()}
    outer = found.prefix.rstrip(".").rpartition(".")[0]
    places = dict.fromkeys((found.prefix, f"{outer}." if outer else ""))
    return [
        {
            name: shape
            for name, shape in shapes.items()
            if name.startswith(place)
            and name not in own
            and not name.endswith(COUNTER)
            and not _is_imagenets(name, shape)
        }
        for place in places
    ]


def _what_there_is(found: Sequence[FoundNetwork], shapes: Shapes) -> str:
    if found:
        return ", ".join(dict.fromkeys(f"{one.kind}{one.fault}" for one in found[:_MOST_NAMED]))
    if any(map(_OPTIMIZER.match, shapes)):
        return "an optimizer's state and no network"
    return f"no network that is known (its first tensor is {min(shapes, default='none')[:100]})"


def _is_whole_part(prefix: str) -> bool:
    """Tell whether a prefix ends where a name's part does, and is no part of the ResNet itself."""
    return prefix == "" or (prefix.endswith(".") and not re.search(r"(^|\.)layer\d\.", prefix))


def _is_imagenets(name: str, shape: tuple[int, ...]) -> bool:
    return bool(re.search(r"(^|\.)fc\.(weight|bias)$", name)) and shape in ((1000, 2048), (1000,))


def _resnet_names(shapes: Shapes, prefix: str, *, is_in_order: bool) -> dict[str, str]:
    """Return the tensors of a ResNet from its stem to its last block: torchvision's name -> name in the file."""
    names = {}
    for name in shapes:
        if name.startswith(prefix) and not name.endswith(COUNTER):
            part, dot, rest = name[len(prefix) :].partition(".")
            own = _IN_ORDER.get(part) if is_in_order else part
            if own in _IN_ORDER.values():
                names[f"{own}{dot}{rest}"] = name
    return names


def _resnet(shapes: Shapes, prefix: str, names: Mapping[str, str]) -> FoundNetwork:
    """Describe a ResNet by its tensors, under torchvision's names."""
    kind = _resnet_kind(shapes)
    expected = {name.removeprefix(TRUNK): shape for name, shape in trunk_shapes().items()}
    lacking = [name for name in expected if name not in shapes]
    further = [name for name in shapes if name not in expected]
    other = [name for name, shape in expected.items() if shapes.get(name, shape) != shape]
    fault = ""
    if kind == RESNET50 and further:
        fault = f" of another kind (it has {further[0]})"
    elif kind == RESNET50 and other:
        fault = f" of another kind ({other[0]} has shape {shapes[other[0]]}, not {expected[other[0]]})"
    elif kind == RESNET50 and lacking:
        fault = f" that is not whole ({lacking[0]} is missing, and {len(lacking) - 1} more)"
    return FoundNetwork(kind, prefix, names, fault)


def _resnet_kind(shapes: Shapes) -> str:
    """Return which ResNet it is, by the blocks of its layers and what is special about them."""
    blocks = tuple(
        len({name.split(".")[1] for name in shapes if name.startswith(f"layer{layer}.")}) for layer in range(1, 5)
    )
    has_bottlenecks = "layer1.0.conv3.weight" in shapes
    depths = [
        depth[has_bottlenecks]
        for there, depth in _DEPTHS.items()
        if all(own in (0, whole) for own, whole in zip(blocks, there, strict=True))  # a layer may be left out
    ]
    depth = f"-{depths[0]}" if depths else ""
    kernels = shapes.get("layer1.0.conv2.weight", (64, 64))
    if any(re.search(r"\.se(_module)?\.", name) for name in shapes):
        return f"an SE-ResNet{depth}"
    if kernels[:1] != kernels[1:2]:
        return f"a ResNeXt{depth}"
    if has_bottlenecks and kernels[:1] > (64,):
        return f"a wide ResNet{depth}"
    return f"a ResNet{depth}"
