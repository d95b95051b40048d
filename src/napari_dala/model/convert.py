"""Bringing models in: a file of weights becomes a bundle, a bundle is copied into the workspace."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from safetensors import SafetensorError

from napari_dala.errors import BundleError
from napari_dala.files import sha256_of
from napari_dala.model.bundle import ModelBundle, load_bundle, network_from, seeded_network
from napari_dala.model.bundle_file import TRUNK
from napari_dala.model.card import TRUNK_OF, TRUNK_ONLY, ModelCard, TrunkSource
from napari_dala.model.catalog import check_new_name, copy_bundle, installed_path
from napari_dala.model.class_colors import class_infos
from napari_dala.model.importing.checkpoint import read_tensors
from napari_dala.model.importing.file_kind import is_bundle
from napari_dala.model.importing.head_parts import attention_and_head
from napari_dala.model.importing.networks import COUNTER, beside, chosen, networks_in
from napari_dala.model.importing.presets import PRESETS
from napari_dala.model.tensor_file import read_header
from napari_dala.model.trunks.importing import import_trunk
from napari_dala.model.trunks.names import RESNET50, architecture_of
from napari_dala.model.weights import weights_of
from napari_dala.validation import first_problem

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from napari_dala.model.importing.networks import FoundNetwork
    from napari_dala.model.importing.request import ImportRequest

_MOST_PARTS = 12  # that a card says were left out

_ASSUMED = (
    "The file says nothing of what stands between its layers: the paper's attention, LeakyReLU and ReLU are assumed. "
    "Look at tiles whose class you know before you believe it."
)


def import_checkpoint(asked: ImportRequest) -> ModelBundle:
    """Return a bundle with the weights of a file without a card; nothing is saved.

    The weights of a ResNet-50 with torchvision's or timm's names give the trunk, wherever in the file it lies. Where
    beside it lie an attention and a head that can only be those of DALAResNet50, they give the whole network. Else
    attention and head are random (seed 0), and the card says that the model must learn first. Of a file of another
    network see `import_trunk`.

    Raises
    ------
    BundleError
        If the file is missing, holds none or several of such networks, or asks to run code; or if the request does
        not make a valid card. One line that says what there is and what would work.
    """
    source, preset = asked.file.name, PRESETS[asked.preset]
    classes = class_infos(asked.classes)
    if is_bundle(asked.file):
        raise BundleError(f"{source}: it has a model card of its own; install it as it is")
    if architecture_of(asked.trunk) != RESNET50:
        return import_trunk(asked)
    tensors = read_tensors(asked.file)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    found = networks_in(shapes)
    network = chosen(found, shapes, asked.prefix, source)
    weights = {f"{TRUNK}{own}": tensors[name] for own, name in network.names.items()}
    taken = set(network.names.values())
    head, is_ours = None, False
    for names in beside(network, found, shapes):
        head = attention_and_head({name: tensors[name] for name in names}, len(classes), source)
        if head is not None:
            is_ours = all(any(there.endswith(own) for there in names) for own in head)
            taken |= names.keys()
            break
    training: dict[str, Any] = {"imported_from": source}
    training |= {"preset": asked.preset} if asked.mean is None else {}
    if head is None:
        training[TRUNK_ONLY] = True
        fresh = weights_of(seeded_network(len(classes)))
        weights |= {name: tensor for name, tensor in fresh.items() if not name.startswith(TRUNK)}
    else:
        weights |= head
    if network.prefix:
        training["taken_from"] = network.prefix.rstrip(".")
    if left_out := _parts(network, found, shapes.keys() - taken):
        training["left_out"] = left_out
    try:
        card = ModelCard(
            name=asked.name,
            summary="" if head else f"The trunk of {source}; attention and head are random and must learn first.",
            classes=classes,
            mpp=asked.mpp,
            tile_px=asked.tile_px,
            mean=asked.mean or preset.mean,
            std=asked.std or preset.std,
            trained=head is not None,
            trunk_source=TrunkSource(file=source, sha256=sha256_of(asked.file), licence=asked.licence),
            training=training,
            data=preset.data,
            licence=preset.licence,
            citation=preset.citation,
            limits=(_ASSUMED,) if head and not is_ours else (),
        )
    except ValidationError as error:
        raise BundleError(f"{source}: {first_problem(error)}") from None
    return ModelBundle(network_from(weights, len(classes), source), card).as_stored()


def _parts(network: FoundNetwork, found: Sequence[FoundNetwork], names: Collection[str]) -> list[str]:
    """Return what of a file is not taken: other networks by their prefix, the rest by how their names begin."""
    others = [one.prefix for one in found if one is not network and one.prefix]
    rest = [
        name for name in names if not name.startswith((*others, *network.names.values())) and not name.endswith(COUNTER)
    ]
    beginnings = {".".join(name.removeprefix(network.prefix).split(".")[:-1][:2]) for name in rest}
    return [*(prefix.rstrip(".") for prefix in others), *sorted(beginnings)][:_MOST_PARTS]


def install_model(
    bundle_or_path: ModelBundle | str | Path, name: str | None = None, folder: str | Path | None = None
) -> Path:
    """Write a bundle into the workspace, where `load_model` and `list_models` find it by name.

    Parameters
    ----------
    bundle_or_path : ModelBundle or str or Path
        A bundle, which is saved, or the file of one, which is validated and copied byte by byte.
    name : str, optional
        Its name; the card's, or the file's without suffix, by default.
    folder : str or Path, optional
        The workspace; the usual one by default.

    Returns
    -------
    Path
        The new file.

    Raises
    ------
    BundleError
        If the file is not a valid bundle, the name is taken or not fit for a file name, or the disk is full.
    """
    file = None if isinstance(bundle_or_path, ModelBundle) else Path(bundle_or_path)
    bundle = bundle_or_path if isinstance(bundle_or_path, ModelBundle) else load_bundle(bundle_or_path)
    name = name or (bundle.card.name if file is None else file.stem)
    check_new_name(name, folder)
    target = installed_path(name, folder)
    try:
        if file is None or not _stands_alone(file, target):
            bundle.save(target)
        else:
            copy_bundle(file, target)
    except SafetensorError as error:  # it has no other word for a disk that is full
        raise BundleError(f"{target}: the model cannot be written, is the disk full? ({error})") from None
    return target


def _stands_alone(file: Path, target: Path) -> bool:
    """Tell whether a copy of a bundle's file can be read where it is to lie: its trunk may be another file's."""
    trunk = read_header(file).metadata.get(TRUNK_OF)
    return trunk is None or (target.parent / trunk).is_file()
