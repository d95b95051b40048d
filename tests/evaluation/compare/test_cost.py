from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from napari_dala.errors import BundleError, JobError
from napari_dala.evaluation.compare.cost import COSTS_FILE, costs, flops, kept_costs, memory_bytes
from napari_dala.evaluation.compare.cost_report import cost_tables, write_costs

if TYPE_CHECKING:
    from pathlib import Path

# Multiply-adds of a 224 px image in thousand millions, as torchvision's documentation gives them with each network.
MULTIPLY_ADDS = {"resnet50": 4.09, "densenet121": 2.83, "vgg16": 15.47, "swin_t": 4.49, "vit_b_16": 17.56}


@pytest.mark.parametrize("name", MULTIPLY_ADDS)
def test_flops_are_two_for_each_multiply_add(name: str) -> None:
    assert flops(name, 1000, 224) / 2e9 == pytest.approx(MULTIPLY_ADDS[name], rel=0.01)


def test_the_attention_module_costs_little() -> None:
    whole, without = (flops(name, 2, 224) for name in ("dalaresnet50", "dalaresnet50-no-attention"))
    assert whole - without == 2 * 2048**2  # its one linear layer
    assert (whole - without) / without < 0.01


def test_memory_is_what_the_widest_place_of_the_network_holds() -> None:
    # VGG16's second convolution: 64 channels in and out at full size, its ReLU in place.
    assert memory_bytes("vgg16", 2, 64) == 2 * 64 * 64 * 64 * 4
    assert memory_bytes("vgg16", 2, 128) == 4 * memory_bytes("vgg16", 2, 64)


def test_learning_holds_what_the_backward_pass_needs() -> None:
    # VGG16 keeps each convolution's result (its ReLU is in place) and each pooling's with 8 bytes a place.
    side, kept, channels = 64, 0, 3
    for convolutions, channels in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
        kept += convolutions * channels * side**2 * 4
        side //= 2
        kept += channels * side**2 * (4 + 8)
    classifier = channels * 7 * 7 * 4 + 2 * 4096 * (4 + 4) + 2 * 4  # the adaptive pooling; layers with dropout
    assert memory_bytes("vgg16", 2, 64, training=True) == pytest.approx(kept + classifier, rel=0.02)
    assert memory_bytes("resnet50", 2, 64, training=True) > 5 * memory_bytes("resnet50", 2, 64)


def test_networks_are_measured_beside_each_other() -> None:
    found = costs(["resnet50", "densenet121"], 2, 32, repeats=1)
    assert list(found) == ["resnet50", "densenet121"]
    assert found["resnet50"].parameters == 23_512_130
    assert found["resnet50"].disk_mb == pytest.approx(94.3, abs=0.1)  # with the means and variances of its norms
    assert found["resnet50"].flops == flops("resnet50", 2, 32)
    assert found["densenet121"].memory_mb == round(memory_bytes("densenet121", 2, 32) / 1e6, 2)
    assert all(min(cost.latency_ms, cost.latency_batch_ms, cost.training_ms) > 0 for cost in found.values())
    with pytest.raises(BundleError, match="resnet51"):
        costs(["resnet51"], 2, 32)


def test_what_was_measured_is_kept(tmp_path: Path) -> None:
    both = ["densenet121", "resnet50"]
    measured = kept_costs(tmp_path, both, 2, 32)
    stored = (tmp_path / COSTS_FILE).read_bytes()
    assert kept_costs(tmp_path, both, 2, 32) == measured
    one = kept_costs(tmp_path, ["resnet50"], 2, 32)
    assert one.of == {device: {"resnet50": of["resnet50"]} for device, of in measured.of.items()}
    assert (tmp_path / COSTS_FILE).read_bytes() == stored
    assert kept_costs(tmp_path, both[:1], 3, 32).num_classes == 3  # what is another question is measured anew
    assert (tmp_path / COSTS_FILE).read_bytes() != stored
    assert sorted(write_costs(measured, tmp_path)) == sorted(tmp_path.iterdir())
    (table,) = cost_tables(measured)[:1]
    assert [row[0] for row in table.rows] == both
    assert table.as_markdown() in (tmp_path / "costs.md").read_text()
    (tmp_path / COSTS_FILE).write_text("{}")
    with pytest.raises(JobError, match=r"costs.json: damaged"):
        kept_costs(tmp_path, both, 2, 32)
