"""Options that several commands have alike: a command says what it needs of them and gets what they come to."""

from __future__ import annotations

from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

import typer

from napari_dala.datasets.folders import GROUPS, GroupBy, Kind, load_dataset
from napari_dala.datasets.images import ImageDataset, joined_datasets
from napari_dala.errors import DatasetError
from napari_dala.validation import MPP_LIMITS, plausible_mpp

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from pydantic import BaseModel
    from pydantic.fields import FieldInfo


def mpp_option(text: str, *names: str, several: bool = False) -> Any:
    """Return an option for micrometres per pixel within the plausible, or with `several` for a list of them."""
    low, high = MPP_LIMITS
    default: list[float] | None = [] if several else None
    return typer.Option(default, *names, callback=_plausible, help=f"{text}; {low:g} to {high:g}.")


def _plausible(value: Any) -> Any:
    try:
        for one in value if isinstance(value, (list, tuple)) else () if value is None else (value,):
            plausible_mpp(one)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    return value


SLIDE_MPP = mpp_option("Micrometres per pixel of the slides, where the file is silent or wrong")
ICC_PROFILE = typer.Option(True, help="Bring colours to sRGB by the ICC profiles in the files, where there are some.")
_PHOTOGRAPH_MPP = mpp_option(
    "Micrometres per pixel of images of which the data set does not say it", "--mpp", several=True
)
PROTOCOL = typer.Option("patient", help="What the split keeps together: patient, or image as in the papers.")
LEFT_OUT_MODELS = typer.Argument(
    help="Names or files of bundles, such as the folds' of one recipe: each looks at patients that, by its card, it "
    "was not trained on.",
    metavar="BUNDLE...",
)
FOLDS = typer.Option(5, min=2, help="Folds of the cross-validation.")


def with_options(**sources: Callable[..., Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command further options behind its own.

    Parameters
    ----------
    sources
        By the command's parameter: a function whose parameters are the options and whose result the command gets.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = signature(command, eval_str=True).parameters
        shared = {name: signature(source, eval_str=True).parameters for name, source in sources.items()}

        @wraps(command)
        def run(**values: Any) -> None:
            found = {
                name: source(**{option: values.pop(option) for option in shared[name]})
                for name, source in sources.items()
            }
            command(**values, **found)

        options = [option for name, option in own.items() if name not in sources]
        options += [option for each in shared.values() for option in each.values()]
        options.sort(key=lambda option: option.default.default is not ...)  # what must be given comes first
        named = [option.replace(kind=Parameter.KEYWORD_ONLY) for option in options]
        cast("Any", run).__signature__ = signature(run).replace(parameters=named)
        run.__annotations__ = {option.name: option.annotation for option in named}
        return run

    return decorate


def options_of(
    settings: type[BaseModel],
    read: Callable[..., Any],
    names: Mapping[str, str] | None = None,
    without: Collection[str] = (),
) -> Callable[..., Any]:
    """Return a source of options for `with_options`: one a field, with its default, limits and description.

    Parameters
    ----------
    settings
        The one place that knows its fields.
    read
        Gets the values by the fields' names.
    names
        Of options that are not called as their field is.
    without
        Fields that are no options.
    """
    names = names or {}
    fields = {name: field for name, field in settings.model_fields.items() if name not in without}

    def source(**values: Any) -> Any:
        return read(**{name: values[names.get(name, name)] for name in fields})

    parameters = [_option(names.get(name, name), field) for name, field in fields.items()]
    cast("Any", source).__signature__ = Signature(parameters)
    return source


def _option(name: str, field: FieldInfo) -> Parameter:
    """Return the option of a field; limits that exclude their end are checked with the whole."""
    limits = {"min": "ge", "max": "le"}
    found = {
        key: value
        for key, attribute in limits.items()
        for limit in field.metadata
        if (value := getattr(limit, attribute, None)) is not None
    }
    choices = [choice for choice in get_args(field.annotation) if isinstance(choice, str)]
    kind = str if choices else field.annotation
    text = " ".join(f"{part.rstrip('.')}." for part in (", ".join(choices), field.description or "") if part)
    option = typer.Option(field.default, help=text or None, **found)
    return Parameter(name, Parameter.KEYWORD_ONLY, default=option, annotation=kind)


def labelled_images(
    dataset: list[str] = typer.Option(
        ...,
        "--dataset",
        help="breakhis, ucsb, bach, mini-ddsm or folder (one folder per class). Several times, each with its --root.",
    ),
    root: list[Path] = typer.Option(..., "--root", help="The data set's folder."),
    magnification: int | None = typer.Option(None, "--magnification", help="Of BreakHis: 40, 100, 200 or 400."),
    mpp: list[float] = _PHOTOGRAPH_MPP,
    group: str | None = typer.Option(
        None,
        "--group",
        help="What a split keeps together. Of ucsb: file or array. Of folder: likeness of the images, or prefix: of a "
        "file's name, what stands before its first _, as the patient.",
    ),
    icc_profile: bool = ICC_PROFILE,
) -> ImageDataset:
    """List the images of all data sets together.

    `magnification` is for BreakHis and `group` for sets that know it; `mpp` has a number for all sets that do not know
    theirs, or one for each of these in their order.
    """
    if len(dataset) != len(root):
        raise DatasetError(f"--dataset is there {len(dataset)} times and --root {len(root)} times; give each its own")
    takes_power = [kind == "breakhis" for kind in dataset]
    takes_group = [group in GROUPS.get(kind, ()) for kind in dataset]
    sets = [
        load_dataset(
            cast("Kind", kind),
            folder,
            magnification=magnification if power or not any(takes_power) else None,
            group=cast("GroupBy | None", group if grouped or not any(takes_group) else None),
        )
        for kind, folder, power, grouped in zip(dataset, root, takes_power, takes_group, strict=True)
    ]
    unknown = [place for place, one in enumerate(sets) if one.mpp is None]
    if mpp and not unknown:
        raise DatasetError(f"{sets[0].name}: its resolution is known, {sets[0].mpp:.3f} um/px; leave --mpp out")
    if mpp and len(mpp) not in (1, len(unknown)):
        raise DatasetError(f"--mpp is there {len(mpp)} times; give it once, or for each of {len(unknown)} data sets")
    for place, value in zip(unknown, mpp if len(mpp) > 1 else list(mpp) * len(unknown), strict=False):
        sets[place] = sets[place].with_mpp(value)
    found = joined_datasets(sets)
    return found if icc_profile else found.without_profiles()
