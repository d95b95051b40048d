"""Long words go on in the next line."""

from __future__ import annotations

import pytest

from napari_dala.plugin.viewer.plain_text import breakable


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("AUROC 0.760 (0.661–0.866); it knows", "AUROC 0.760 (0.661–0.866); it knows"),
        ("S2026_0012345-HE.ome.tiff is cut", "S2026_|0012345-|HE.|ome.|tiff is cut"),
        ("adenomyoepithelioma", "adenomyoepit|helioma"),
        ("/home/somebody/slides", "/|home/|somebody/|slides"),
        ("....................", "...................."),
    ],
)
def test_long_words_may_go_on_in_the_next_line(text: str, expected: str) -> None:
    assert breakable(text).replace("\u200b", "|") == expected
    assert breakable(text).replace("\u200b", "") == text
