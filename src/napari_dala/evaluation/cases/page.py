"""Case studies as one HTML page that needs nothing else, and as JSON."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from napari_dala.evaluation.cases.beneath import PARTS
from napari_dala.evaluation.cases.choice import KINDS, chosen_cases
from napari_dala.evaluation.cases.study import DT, PLAIN, CaseStudy, enlarged_tile, pictures_of, study_case
from napari_dala.files import write_json, write_text
from napari_dala.results.report.html import NOTICE, data_uri, html_page
from napari_dala.words import counted, percent, sentence

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from napari_dala.evaluation.cases.left_out import LeftOut

LIMITS = (
    "A map shows where in the tile the score for a class came from. It does not show what is malignant, nor why the "
    "network takes it for that.",
    "A cell of the map covers dozens of cells of tissue, and each sees far beyond its borders: what lies just beside a "
    "mark may have made it.",
    "A map of a wrong answer looks as convincing as that of a right one.",
    "The cases were chosen by a rule from the model's own probabilities. Nobody looked for telling ones; they show "
    "what this model does, not what the disease looks like.",
    "One tile in the middle of each photograph is judged; the photograph's label may rest on tissue outside of it.",
    "Each model left other patients out, so that two cases may be of two models, whose probabilities differ.",
    "What lies under a map was measured by stain, not recognised: lymphocytes, ink and folds are dark with "
    "haematoxylin too. That a map lies on nuclei does not mean that nuclei are what the model goes by.",
    "Insertion and deletion favour plain Grad-CAM a little: DT can only leave out.",
)
"""What must be read beside the cases, in plain words."""
_BAR_UM = 50
_OWN_STYLE = """
.three { display: grid; grid-template-columns: repeat(3, 1fr); gap: .6rem; max-width: 58rem; }
.three figure { margin: 0; } .three img { width: 100%; display: block; }
.bar { display: block; margin-top: .3rem; border-bottom: 3px solid #1c1c1c; font-size: .8rem; line-height: 1.2; }
.case { break-inside: avoid; margin-bottom: 2.2rem; } .case table { margin-top: .6rem; }
h3 { margin: 1.6rem 0 .4rem; font-size: 1rem; }
"""


def study_cases(found: LeftOut, each: int, on_case: Callable[[CaseStudy], object] | None = None) -> list[CaseStudy]:
    """Return the best, typical and failed cases of each class, `each` of a kind at most."""
    cases = []
    for label in range(len(found.dataset.classes)):
        for kind, places in chosen_cases(found, label, each).items():
            for place in places:
                cases.append(study_case(found, place, kind))
                if on_case:
                    on_case(cases[-1])
    return cases


def write_cases(found: LeftOut, cases: Sequence[CaseStudy], command: str, out: Path) -> list[Path]:
    """Write cases.html and cases.json into a folder; return their paths."""
    page, numbers = out / "cases.html", out / "cases.json"
    write_json(
        numbers,
        {
            "command": command,
            "models": [{"name": one.bundle.card.name, "hash": one.bundle.hash} for one in found.predictors],
            "data": found.dataset.summary,
            "judged": _judged(found),
            "rules": KINDS,
            "beneath": PARTS,
            "cases": [case.as_json() for case in cases],
            "limits": LIMITS,
            "notes": found.notes,
        },
    )
    title = f"Cases of {found.dataset.name}"
    sections = [
        f"<header><h1>{escape(title)}</h1><p class='sub'>{escape(_judged(found))} {NOTICE}</p></header>",
        *(f"<p class='note'>{escape(sentence(note))}.</p>" for note in found.notes),
        "<h2>How they were chosen</h2><ul>"
        + "".join(f"<li><b>{kind}</b>: {rule}</li>" for kind, rule in KINDS.items())
        + "</ul><p>Of different patients, the kinds taking turns. The map is of the class that the model names. "
        "Grad-CAM is drawn over its own maximum, as it usually is; DT Grad-CAM with the threshold of the photograph's "
        "slide, outlined, as napari shows it.</p>",
        *(_class_section(found, cases, name) for name in found.dataset.classes),
        "<h2>What was measured under a map</h2><ul>"
        + "".join(f"<li><b>{name}</b>: {text}</li>" for name, text in PARTS.items())
        + "</ul>",
        "<h2>What these pictures do not say</h2><ul>" + "".join(f"<li>{limit}</li>" for limit in LIMITS) + "</ul>",
        f"<p class='note'><code>{escape(command)}</code></p><p class='notice'>{NOTICE}</p>",
    ]
    write_text(page, html_page(title, sections, _OWN_STYLE))
    return [page, numbers]


def _judged(found: LeftOut) -> str:
    return (
        f"{counted(len(found), 'photograph')} of {counted(len(set(found.patients.tolist())), 'left-out patient')}, a "
        f"tile each, judged by {counted(len(found.predictors), 'model')}: {int(found.right.sum())} are called rightly."
    )


def _class_section(found: LeftOut, cases: Sequence[CaseStudy], name: str) -> str:
    own = [case for case in cases if case.label == name]
    parts = [f"<h2>{escape(sentence(name))}</h2>"]
    for kind in KINDS:
        of_kind = [case for case in own if case.kind == kind]
        parts += [_case(case, number) for number, case in enumerate(of_kind, 1)]
        if not of_kind:
            parts.append(f"<h3>{sentence(kind)}</h3><p>There is none, or none of a patient not shown already.</p>")
    return "".join(parts)


def _case(case: CaseStudy, number: int) -> str:
    maps = pictures_of(case.tile, case.thresholded, outlined=True)
    width = f"{100 * _BAR_UM / case.tile_um:.1f}%"
    bar = f"<span class='bar' style='width:{width}'>{_BAR_UM} µm</span>"
    panels = [(enlarged_tile(case.tile), f"{case.tile_um:.0f} µm wide", bar)]
    panels += [(picture, f"{name} of {case.called}", "") for name, picture in maps.items()]
    figures = "".join(
        f"<figure><img alt='{escape(text)}' src='{data_uri(picture)}'>{below}<figcaption>{escape(text)}</figcaption>"
        "</figure>"
        for picture, text, below in panels
    )
    words = "".join(f"<p>{escape(text)}</p>" for text in case.words())
    return (
        f"<section class='case'><h3>{sentence(case.kind)}, {number}</h3><div class='three'>{figures}</div>{words}"
        f"{_numbers(case)}<p class='note'>{escape(case.name)}, patient {case.patient}, model {case.model}</p></section>"
    )


def _numbers(case: CaseStudy) -> str:
    rows = {
        "Kept of the tile": [percent(figures.kept) for figures in case.figures.values()],
        "Insertion (higher is better)": [f"{figures.insertion:.3f}" for figures in case.figures.values()],
        "Deletion (lower is better)": [f"{figures.deletion:.3f}" for figures in case.figures.values()],
    }
    for name in PARTS:
        beneath = [figures.beneath and figures.beneath[name] for figures in case.figures.values()]
        tile = next((f" (tile {percent(share.of_tile)})" for share in beneath if share), "")
        rows[f"Heat on {name}{tile}"] = [percent(share.of_map) if share else "–" for share in beneath]
    body = "".join(
        f"<tr><th>{name}</th>{''.join(f'<td class=number>{value}</td>' for value in values)}</tr>"
        for name, values in rows.items()
    )
    return (
        f"<table><thead><tr><th></th><th class='number'>{PLAIN}</th><th class='number'>{DT}</th></tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )
