from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from napari_dala.model.bundle import load_bundle
from tests.noise import noise_folders

if TYPE_CHECKING:
    from pathlib import Path


_TELLING = """
import hashlib, json
from pathlib import Path

from napari_dala.cli import main
from napari_dala.training.learner import Learner


def tell(learner):
    digest = hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in learner.network.parameters())).hexdigest()
    places = list(learner.trainer.train_dataloader.sampler)
    facts = {"steps": learner.trainer.global_step, "places": places, "weights": digest}
    Path(f"rank-{learner.global_rank}.json").write_text(json.dumps(facts))


Learner.on_train_end = tell
main()
"""


def test_two_processes_train_one_network(tmp_path: Path) -> None:
    noise_folders(tmp_path / "photographs", 3, 1, (72, 96), 20)
    data = ["--dataset", "folder", "--root", str(tmp_path / "photographs"), "--mpp", "0.5"]
    small = ["--tile", "64", "--epochs", "2", "--batch-size", "2", "--no-imagenet", "--precision", "fp32"]
    both = ["--accelerator", "cpu", "--devices", "2", "--out", str(tmp_path / "run")]
    (tmp_path / "train.py").write_text(_TELLING)  # Lightning starts the second process with the same command
    done = subprocess.run(
        [sys.executable, str(tmp_path / "train.py"), "train", *data, *small, *both],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch 2/2") == 1  # the first process alone tells
    assert "MEMBER: 2/2" in done.stderr
    assert json.loads((tmp_path / "run" / "result.json").read_text())["epochs_done"] == 2
    bundle = load_bundle(tmp_path / "run" / "bundle.safetensors")
    assert bundle.card.class_names == ("benign", "malignant")
    assert bundle.replay is not None
    first, second = (json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(2))
    assert first["weights"] == second["weights"]
    assert first["steps"] == second["steps"] > 0
    assert sorted(first["places"] + second["places"]) == list(range(4))  # of six photographs two are held out
