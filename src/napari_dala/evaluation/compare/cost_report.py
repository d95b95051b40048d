"""What networks cost as tables, as Markdown and as CSV."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_dala.evaluation.compare.cost import BATCH, COSTS_FILE
from napari_dala.evaluation.tables import Table
from napari_dala.files import csv_text, write_text

if TYPE_CHECKING:
    from pathlib import Path

    from napari_dala.evaluation.compare.cost import Costs

_HEAD = (
    "Model",
    "Parameters (M)",
    "Weights (MB)",
    "GFLOPs / tile",
    "ms / tile, alone",
    f"ms / tile, batch of {BATCH}",
    "Learning, ms / tile",
    "Memory / tile (MB)",
)


def cost_tables(costs: Costs | None) -> list[Table]:
    """Return a table for each device; none without costs."""
    if costs is None:
        return []
    return [
        Table(
            f"Cost on {device} at {costs.tile_px} px",
            _HEAD,
            tuple(
                (
                    model,
                    f"{cost.parameters / 1e6:.1f}",
                    f"{cost.disk_mb:.0f}",
                    f"{cost.flops / 1e9:.2f}",
                    f"{cost.latency_ms:.1f}",
                    f"{cost.latency_batch_ms:.1f}",
                    f"{cost.training_ms:.1f}",
                    f"{cost.memory_mb:.1f} / {cost.training_memory_mb:.1f}",
                )
                for model, cost in of.items()
            ),
        )
        for device, of in costs.of.items()
    ]


def how_measured(costs: Costs | None) -> list[str]:
    """Return what must be read beside the tables, as lines of Markdown."""
    if costs is None:
        return []
    machine = costs.machine
    return [
        f"Time on {machine['threads']} of {machine['cores']} cores, torch {machine['versions']['torch']}; median of "
        "several. Predicting in float32, learning (forward, backward, Adam) in that of `dala train`. Weights in "
        "float32; a bundle has half. Memory: tensors beside weights and input, predicting / learning; a batch holds as "
        "many times as much as it has tiles.",
        "",
    ]


def write_costs(costs: Costs, out: Path) -> list[Path]:
    """Write costs.md and costs.csv into the folder that holds costs.json; return the paths of all."""
    page = [
        "# What the networks cost",
        "",
        *(table.as_markdown() for table in cost_tables(costs)),
        *how_measured(costs),
    ]
    write_text(out / "costs.md", "\n".join(page))
    rows = [
        {"device": device, "model": model} | cost.model_dump()
        for device, of in costs.of.items()
        for model, cost in of.items()
    ]
    write_text(out / "costs.csv", csv_text(rows))
    return [out / name for name in ("costs.md", "costs.csv", COSTS_FILE)]
