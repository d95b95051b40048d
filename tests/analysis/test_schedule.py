from __future__ import annotations

import numpy as np

from napari_dala.analysis.control import RunControl
from napari_dala.analysis.schedule import Schedule
from napari_dala.slide.tiles import BLOCK, TileGrid


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


def _overlaps(grid: TileGrid, tile: tuple[int, int], view: tuple[float, float, float, float]) -> bool:
    starts = tile[1] * grid.stride[0], tile[0] * grid.stride[1]
    ends = starts[0] + grid.tile_size[0], starts[1] + grid.tile_size[1]
    return starts[0] < view[2] and starts[1] < view[3] and ends[0] > view[0] and ends[1] > view[1]


def test_tiles_in_view_come_before_the_rest_of_their_blocks_wherever_the_view_moves() -> None:
    grid = TileGrid((12_000, 9000), 224, (1.0, 1.0), 4)
    control = RunControl()
    todo = np.random.default_rng(1).random(grid.shape) < 0.8
    schedule = Schedule(grid, todo, control)
    left = {(int(row), int(column)) for row, column in np.argwhere(todo)}
    for view in ((3000.0, 2560.0, 4000.0, 3328.0), (3500.0, 2900.0, 5100.0, 4100.0)):
        control.look_at(view)
        in_view = {tile for tile in left if _overlaps(grid, tile, view)}
        assert in_view
        while in_view:
            task = schedule.take()
            assert task is not None
            (row, column), tiles = task
            assert set(tiles) <= in_view
            assert {(tile[0] // BLOCK, tile[1] // BLOCK) for tile in tiles} == {(row, column)}
            in_view -= set(tiles)
            left -= set(tiles)
    assert left == {tile for _, tiles in _all(schedule) for tile in tiles}


def test_the_first_part_is_a_few_tiles_and_the_rest_of_its_block_follows() -> None:
    grid = TileGrid((3000, 2000), 224, (1.0, 1.0), 7)
    (first, few), (second, more), (third, _), *_ = _all(Schedule(grid, np.ones(grid.shape, bool), RunControl()))
    assert len(few) == 4
    assert first == second != third
    assert len(more) == BLOCK**2 - 4
