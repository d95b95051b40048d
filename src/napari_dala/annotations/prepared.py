"""Areas that answer many questions quickly."""

from __future__ import annotations

from typing import TypeVar

import shapely

Shape = TypeVar("Shape", bound=shapely.Geometry)


def prepared(area: Shape) -> Shape:
    """Return a copy of an area with an index of its outline, for one thread.

    GEOS builds that index when it is first asked, without a lock. An area of a document is read by several threads, so
    it must never get one itself: asked by two at once, the process would crash.
    """
    copy: Shape = shapely.force_2d(area)
    shapely.prepare(copy)
    return copy
