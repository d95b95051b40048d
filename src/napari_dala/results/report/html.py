"""HTML pages that need nothing else, and let nothing be fetched: pictures and scripts are inside."""

from __future__ import annotations

import base64
import io
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from PIL import Image

NOTICE = "Research use only. Not for diagnosis."

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.5rem 4rem; max-width: 68rem; background: #fff; color: #1c1c1c;
       font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { margin: 0; font-size: 1.7rem; line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin: 2.4rem 0 .6rem; font-size: 1.2rem; border-bottom: 1px solid #ccc; padding-bottom: .25rem; }
p { margin: .4rem 0; max-width: 48rem; }
.sub, .note, figcaption { color: #555; font-size: .9rem; }
.notice { font-weight: 600; color: #1c1c1c; }
.warnings { margin: 1.2rem 0; padding: .7rem 1rem; border: 2px solid #a40000; border-left-width: 10px;
            background: #fff4f2; color: #7a0000; font-weight: 600; }
.warnings p { margin: .2rem 0; max-width: none; }
.headline { display: flex; flex-wrap: wrap; gap: 1rem 3rem; margin: 1.4rem 0 .6rem; }
.headline b { display: block; font-size: 1.7rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
table { border-collapse: collapse; font-size: .95rem; }
th, td { padding: .3rem 1.4rem .3rem 0; border-bottom: 1px solid #e3e3e3; text-align: left; vertical-align: top;
         overflow-wrap: anywhere; }
th { font-weight: 600; }
tbody th { font-weight: 400; color: #555; white-space: nowrap; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
td table { margin: 0; }
td table tr:last-child > * { border-bottom: 0; }
.swatch { display: inline-block; width: .9em; height: .9em; margin-right: .5em; border: 1px solid #555;
          vertical-align: -.08em; }
figure { margin: 1rem 0; break-inside: avoid; }
figure img { max-width: 100%; height: auto; border: 1px solid #ddd; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(25rem, 1fr)); gap: 1rem 1.5rem; }
.gallery figure { margin: 0; }
.gallery img { width: 100%; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(28rem, 1fr)); gap: 0 2.5rem; }
@media print { body { padding: 0; font-size: 10.5pt; max-width: none; } h2 { break-after: avoid; }
               figure img { max-height: 22cm; }
               .columns { display: block; } * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""


def html_page(title: str, sections: Iterable[str], style: str = "", script: str = "") -> str:
    """Return a page of sections in HTML, with `STYLE` and its own style; the empty ones are left out.

    Its policy forbids every outside resource; a script of its own may run, where there is one.
    """
    may_run = "; script-src 'unsafe-inline'" if script else ""
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'{may_run}"
    return (
        "<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'>"
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escape(title)}</title><style>{STYLE}{style}</style></head>\n<body>\n"
        + "\n".join(filter(None, sections))
        + (f"\n<script>\n{script}</script>" if script else "")
        + "\n</body></html>\n"
    )


def data_uri(picture: Image.Image) -> str:
    """Return a picture as the source of an `<img>`; 4:4:4 JPEG, for chroma subsampling would smear overlays' edges."""
    data = io.BytesIO()
    picture.convert("RGB").save(data, "JPEG", quality=88, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"
