from __future__ import annotations

import numpy as np

from napari_dala.analysis.run_control import RunControl
from napari_dala.analysis.schedule import Schedule
from napari_dala.slide.tiles import TileGrid


def _all(schedule: Schedule) -> list[tuple[tuple[int, int], list[tuple[int, int]]]]:
    found = []
    while (task := schedule.take()) is not None:
        found.append(task)
    return found


def test_every_tile_is_handed_out_once() -> None:
    grid = TileGrid((3000, 2000), 224, (1.0, 1.0), 7)
    todo = np.random.default_rng(0).random(grid.shape) < 0.6
    control = RunControl()
    control.look_at((1000, 1000, 1500, 1500))
    tiles = [tile for _, members in _all(Schedule(grid, todo, control)) for tile in members]
    assert len(tiles) == len(set(tiles))
    assert {tuple(tile) for tile in np.argwhere(todo).tolist()} == set(tiles)


def test_the_view_decides_what_is_next() -> None:
    grid = TileGrid((20_000, 20_000), 224, (1.0, 1.0), 7)
    control = RunControl()
    schedule = Schedule(grid, np.ones(grid.shape, bool), control)
    step = 4 * 224
    for x, y in ((9000, 2000), (100, 19_000), (15_000, 15_000)):
        control.look_at((x, y, x + 500, y + 400))
        task = schedule.take()
        assert task is not None
        (row, column), _ = task
        assert x - step <= column * step <= x + 500
        assert y - step <= row * step <= y + 400
    distances = [abs(row * step - 15_000) + abs(column * step - 15_000) for (row, column), _ in _all(schedule)[:200]]
    assert np.mean(distances[:20]) < np.mean(distances[100:]) / 2
