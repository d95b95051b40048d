"""Measure how fast each way to run the network's trunk is on a device, in tiles of 224 px per second.

    python -m benchmarks.trunks [--device cuda] [--batches 64 128 256] [--compile]

Plain, with the device's fused operators, and by `torch.compile`; on a GPU each of them also as a CUDA graph. Batch norm
is folded, inputs lie on the device; bf16 where it computes in that.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, cast

import torch

from napari_dala.inference.cuda_graph import CapturedFunction
from napari_dala.inference.cudnn_trunk import cudnn_trunk
from napari_dala.inference.devices import choose_device, choose_precision
from napari_dala.inference.onednn_trunk import fused_trunk
from napari_dala.inference.predictor import fold_batch_norm
from napari_dala.inference.streams import wait_for
from napari_dala.model.bundle import untrained

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

SECONDS = 0.5  # of each measurement, at least


def main() -> None:
    """Print one line a size of batch and way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--compile", action="store_true", help="also torch.compile, for the first size of batch")
    args = parser.parse_args()
    device = choose_device(args.device)
    precision = choose_precision("auto", device)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    plain: nn.Module = fold_batch_norm(untrained().network.trunk).to(device, dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else device
    print(f"{card}, {precision}, torch {torch.__version__}")
    for number, batch in enumerate(args.batches):
        inputs = torch.rand(batch, 3, 224, 224, device=device).to(dtype, memory_format=torch.channels_last)
        trunks = {"plain": plain, "fused": (cudnn_trunk if device.type == "cuda" else fused_trunk)(plain, inputs)}
        if args.compile and not number:
            start = time.perf_counter()
            compiled = torch.compile(plain, dynamic=False)
            rate(compiled, inputs)
            trunks["compiled"] = cast("nn.Module", compiled)
            print(f"compiling took {time.perf_counter() - start:.0f} s")
        for name, trunk in trunks.items():
            if trunk is None:
                print(f"batches of {batch}, {name}: this machine has none")
                continue
            rates = [f"{rate(trunk, inputs):.1f}"]
            if device.type == "cuda":
                graph = CapturedFunction(trunk)
                rates.append(f"as a CUDA graph {rate(graph, inputs):.1f}" + ", which failed" * graph.fails)
            print(f"batches of {batch}, {name}: {', '.join(rates)} tiles/s", flush=True)


@torch.inference_mode()
def rate(run: Callable[[Tensor], Tensor], inputs: Tensor) -> float:
    """Return the tiles per second of a function of a batch."""
    for _ in range(3):
        run(inputs)
    wait_for(inputs.device)
    start, batches = time.perf_counter(), 0
    while time.perf_counter() - start < SECONDS:
        for _ in range(5):
            run(inputs)
        wait_for(inputs.device)
        batches += 5
    return batches * len(inputs) / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
