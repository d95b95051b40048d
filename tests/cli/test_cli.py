from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from skimage.data import immunohistochemistry
from skimage.io import imread, imsave

from napari_dala.analysis import bench
from napari_dala.cli import main
from napari_dala.model.bundle import untrained
from napari_dala.results.analysis import Analysis
from napari_dala.workspace import cache_folder
from tests.ome_zarrs import served, write_ome_zarr, zipped

if TYPE_CHECKING:
    from pathlib import Path

SMALL_REGION = "slides/CMU-1-Small-Region.svs"


def dala(
    *arguments: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str, str]:
    """Run `dala` here; exit code, standard output, standard error."""
    monkeypatch.setattr(sys, "argv", ["dala", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    return lambda *arguments: dala(*arguments, monkeypatch=monkeypatch, capsys=capsys)


def test_info_prints_json(run, shared_data: Path) -> None:
    code, out, _ = run("info", shared_data / SMALL_REGION)
    facts = json.loads(out)
    assert code == 0
    assert (facts["width"], facts["height"], facts["mpp"], facts["mpp_source"]) == (2220, 2967, [0.499, 0.499], "file")
    assert facts["vendor"] == "aperio"
    assert len(facts["fingerprint"]) == 32
    assert "12/29/09" not in out  # of the scan; a patient's would stand beside it


@pytest.mark.parametrize("name", ["broken.svs", "unopenable.tiff", "no-such.svs", "slides-folder"])
def test_bad_slides_are_one_line_and_exit_code_2(shared_data: Path, tmp_path: Path, name: str) -> None:
    path = shared_data / "slides" / name
    if name == "slides-folder":
        (path := tmp_path / name).mkdir()
    command = [sys.executable, "-c", "from napari_dala.cli import main; main()", "info", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert name in done.stderr
    assert "Traceback" not in done.stderr


def test_analyze_writes_everything_and_the_rest_of_a_bad_cohort(run, shared_data: Path, tmp_path: Path) -> None:
    slides = (shared_data / "slides" / "broken.svs", shared_data / SMALL_REGION)
    code, _, err = run("analyze", *slides, "--out", tmp_path, "--model", "untrained")
    assert code == 1
    assert "broken.svs" in err
    assert "1 of 2 slides done, 1 failed." in err
    assert "untrained" in err
    assert "Traceback" not in err
    (folder,) = tmp_path.iterdir()
    assert folder.name == "CMU-1-Small-Region-1d3c9b6d"
    assert sorted(path.name for path in folder.iterdir()) == [
        "analysis.zarr",
        "overview.png",
        "regions.geojson",
        "report.html",
        "run.json",
        "tiles.csv",
    ]
    record = json.loads((folder / "run.json").read_text())
    assert record["slide"]["name"] == "CMU-1-Small-Region.svs"
    assert record["settings"]["tiles"] == Analysis.open(folder).analysed.sum()
    assert any("untrained" in warning for warning in record["warnings"])
    header, *rows = (folder / "tiles.csv").read_text().splitlines()
    assert header == "minx,miny,width,height,status,unfamiliar,class,prob_benign,prob_malignant"
    probabilities = np.array([row.split(",")[7:] for row in rows], float)
    assert np.abs(probabilities.sum(1) - 1).max() < 1e-5
    assert len(rows) == record["settings"]["tiles"]

    code, *_ = run("analyze", shared_data / SMALL_REGION, "--out", tmp_path, "--model", "untrained")
    assert code == 0
    assert json.loads((folder / "run.json").read_text())["settings"]["tiles_per_s"] == 0  # no tile done twice


def test_what_is_for_gpus_alone_is_refused(run, tmp_path: Path) -> None:
    imsave(tmp_path / "field.png", immunohistochemistry()[:224, :224])
    options = (tmp_path / "field.png", "--out", tmp_path / "out", "--mpp", 0.5, "--model", "untrained")
    code, _, err = run("analyze", *options, "--decode-on-device", "--device", "cpu")
    assert (code, "needs an NVIDIA GPU" in err, err.count("\n")) == (2, True, 1)
    code, _, err = run("analyze", *options, "--decode-on-device", "--scheduler", "local")
    assert (code, "do not go with --scheduler" in err, err.count("\n")) == (2, True, 1)


def test_anonymous_output_names_no_file(run, tmp_path: Path) -> None:
    name = "Jane_Doe_1961"
    imsave(tmp_path / f"{name}.png", immunohistochemistry()[:300, :300])
    out = tmp_path / "out"
    code, *_ = run("analyze", tmp_path / f"{name}.png", "--mpp", 0.5, "--out", out, "--anonymous")
    assert code == 0
    assert name not in " ".join(str(path.relative_to(out)) for path in out.rglob("*"))
    for path in out.rglob("*"):
        assert path.is_dir() or name.encode() not in path.read_bytes(), path


def test_maps_and_a_band_of_doubt_on_request(run, tmp_path: Path) -> None:
    imsave(tmp_path / "field.png", immunohistochemistry()[:300, :300])
    options = (tmp_path / "field.png", "--out", tmp_path / "out", "--mpp", 0.5, "--model", "untrained")
    assert run("analyze", *options)[0] == 0
    (folder,) = (tmp_path / "out").iterdir()
    assert not [*folder.glob("*.ome.*")]
    assert "not judged" not in (folder / "tiles.csv").read_text()
    assert run("analyze", *options, "--maps", "--doubt", 0.5)[0] == 0
    assert len([*folder.glob("*.ome.tif"), *folder.glob("*.ome.zarr")]) == 4
    rows = (folder / "tiles.csv").read_text().splitlines()[1:]
    assert all(",not judged," in row for row in rows)
    assert json.loads((folder / "run.json").read_text())["doubt"] == 0.5
    code, _, err = run("analyze", *options, "--doubt", 0.7)
    assert code == 2
    assert "--doubt" in err


def test_a_slide_without_resolution_asks_for_it(run, shared_data: Path, tmp_path: Path) -> None:
    code, _, err = run("analyze", shared_data / "slides" / "boxes.tiff", "--out", tmp_path)
    assert code == 2
    assert "boxes.tiff" in err
    assert "--mpp" in err


def test_explain_writes_the_patch_three_times(run, tmp_path: Path) -> None:
    imsave(tmp_path / "patch.png", immunohistochemistry()[:300, :400])
    code, _, err = run("explain", tmp_path / "patch.png", "--out", tmp_path)
    assert code == 2
    assert "--whole" in err
    for options, name in ((("--whole",), "malignant"), (("--mpp", 0.5, "--class", "benign"), "benign")):
        code, out, _ = run("explain", tmp_path / "patch.png", "--out", tmp_path, *options)
        assert code == 0
        numbers = json.loads((tmp_path / "patch.explain.json").read_text())
        assert json.loads(out) == numbers
        assert sum(entry["probability"] for entry in numbers["classes"].values()) == pytest.approx(1, abs=1e-5)
        assert 0 <= numbers["classes"][name]["kept_fraction"] < 1
        figure = imread(tmp_path / "patch.explain.png")
        assert figure.shape[1] > 3 * 400
    code, _, err = run("explain", tmp_path / "patch.png", "--whole", "--class", "lobular", "--out", tmp_path)
    assert code == 2
    assert "benign, malignant" in err


def test_models_are_listed_shown_and_imported(run, tmp_path: Path) -> None:
    bundle = untrained()
    bundle.save(tmp_path / "mine.safetensors")
    code, _, err = run("models", "import", tmp_path / "mine.safetensors", "--name", "mine")
    assert code == 0, err
    code, out, _ = run("models", "list")
    assert code == 0
    assert "mine" in out
    assert "untrained" in out
    code, out, _ = run("models", "show", "mine")
    assert json.loads(out)["classes"][1]["name"] == "malignant"
    (tmp_path / "evil.safetensors").write_bytes(b"PK\x03\x04 a pickle")
    code, _, err = run("models", "import", tmp_path / "evil.safetensors", "--mpp", "0.5")
    assert code == 2
    assert err.startswith("dala: evil.safetensors: the file is truncated or damaged")
    code, _, err = run("analyze", tmp_path / "x.svs", "--out", tmp_path, "--model", "no-such-model")
    assert code == 2
    assert "no-such-model" in err


def test_a_state_dict_needs_its_resolution_and_sound_classes(run, tmp_path: Path) -> None:
    import torch

    path = tmp_path / "weights.pt"
    torch.save(untrained().network.state_dict(), path)
    code, _, err = run("models", "import", path)
    assert (code, "--mpp" in err) == (2, True)
    code, _, err = run("models", "import", path, "--mpp", 0.5, "--classes", "a,a")
    assert (code, "weights.pt" in err) == (2, True)
    code, _, err = run("models", "import", path, "--mpp", 0.5, "--classes", "benign,malignant")
    assert code == 0, err


def test_models_are_exported_for_other_programs(run, tmp_path: Path) -> None:
    code, out, err = run("models", "export", "default", "--to", "wsinfer", "--out", tmp_path / "breast")
    assert (code, out.strip()) == (0, str(tmp_path / "breast")), err
    assert "difference of a probability" in err
    config = json.loads((tmp_path / "breast" / "config.json").read_text())
    assert (config["patch_size_pixels"], config["spacing_um_px"]) == (224, 1.0)
    for model, form, wrong in (("untrained", "onnx", "learn first"), ("default", "onnx", "not empty")):
        code, _, err = run("models", "export", model, "--to", form, "--out", tmp_path / "breast")
        assert (code, err.count("\n"), wrong in err) == (2, 1, True)
    assert not (tmp_path / "breast" / "model.onnx").exists()


def test_bench_measures_in_one_run(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "_PAIRS", 1)
    monkeypatch.setattr(bench, "_BATCHES", 1)
    imsave(tmp_path / "field.png", immunohistochemistry())
    options = ("--mpp", 0.5, "--model", "untrained", "--repeats", 1, "--against", "pytorch-grad-cam", "--json")
    code, out, _ = run("bench", tmp_path / "field.png", *options)
    figures = json.loads(out)
    assert code == 0
    assert figures["tiles"] == 9
    for name in ("forward", "forward_cam", "read", "pipeline", "against"):
        assert figures[f"{name}_tiles_per_s"] > 0
    for name in ("first_tile_s", "rethreshold_ms", "peak_rss_mb"):
        assert figures[name] > 0
    assert figures["pipeline_efficiency"] == pytest.approx(
        figures["pipeline_tiles_per_s"] / figures["forward_tiles_per_s"], rel=0.01
    )
    assert figures["against_ratio"] == pytest.approx(
        figures["forward_cam_tiles_per_s"] / figures["against_tiles_per_s"], rel=0.01
    )
    assert 0 <= figures["queue_stall_fraction"] <= 1
    assert figures["cam_overhead"] > -1
    assert (figures["device"], figures["precision"] in ("fp32", "bf16")) == ("cpu", True)


def test_bench_fits_how_the_time_grows(run, tmp_path: Path) -> None:
    for side in (224, 672):
        imsave(tmp_path / f"{side}.png", np.tile(immunohistochemistry(), (2, 2, 1))[:side, :side])
    fields = [tmp_path / f"{side}.png" for side in (224, 672)]
    code, out, _ = run("bench", *fields, "--scaling", "--mpp", 0.5, "--model", "untrained", "--json")
    figures = json.loads(out)
    assert code == 0
    (few, many) = figures["slides"]
    assert (few["tiles"], many["tiles"]) == (1, 9)
    slope = np.log(many["seconds"] / few["seconds"]) / np.log(9)
    assert figures["exponent"] == pytest.approx(slope, abs=0.1)
    code, _, err = run("bench", fields[0], "--scaling", "--mpp", 0.5, "--model", "untrained")
    assert (code, "different amounts of tissue" in err) == (2, True)
    code, _, err = run("bench", *fields, "--mpp", 0.5)
    assert (code, "give one slide" in err) == (2, True)


def test_the_demo_without_a_display_writes_its_results(run, tmp_path: Path) -> None:
    code, out, _ = run("demo", "--headless", "--side", 1024, "--out", tmp_path)
    assert code == 0
    for name in ("overview.png", "report.html", "tiles.csv", "regions.geojson"):
        (line,) = [line for line in out.splitlines() if line.endswith(name)]
        assert (tmp_path / line).stat().st_size > 0


def test_analyze_reads_from_a_local_copy_where_that_is_asked_for(run, shared_data: Path, tmp_path: Path) -> None:
    path = tmp_path / "Erika Mustermann.svs"
    shutil.copyfile(shared_data / SMALL_REGION, path)
    code, _, err = run("analyze", path, "--out", tmp_path / "out", "--model", "untrained", "--local-copy")
    assert code == 0, err
    (folder,) = (tmp_path / "out").iterdir()
    assert folder.name == "Erika_Mustermann-1d3c9b6d"
    (copy,) = (cache_folder() / "slides").iterdir()
    assert [file.name for file in copy.iterdir()] == ["slide.svs"]
    code, _, err = run("analyze", path, "--out", tmp_path / "out", "--local-copy", "--scheduler", "local")
    assert code == 2
    assert "--local-copy do not go with --scheduler" in err


def test_analyze_an_ome_zarr_wherever_it_is(run, tmp_path: Path) -> None:
    tissue = immunohistochemistry()
    folder = write_ome_zarr(tmp_path / "drive/slide.ome.zarr", tissue)
    packed = zipped(folder, tmp_path / "slide.ozx")
    found = []
    with served(tmp_path / "drive") as address:
        for number, slide in enumerate((folder, packed, f"{address}/slide.ome.zarr")):
            out = tmp_path / str(number)
            code, _, err = run("analyze", slide, "--out", out, "--model", "untrained", "--device", "cpu")
            assert code == 0, err
            (results,) = out.iterdir()
            found.append(Analysis.open(results))
    assert found[0].analysed.any()
    for other in found[1:]:
        np.testing.assert_array_equal(other.probability, found[0].probability)
        assert other.store.setting == found[0].store.setting
    code, _, err = run("info", write_ome_zarr(tmp_path / "stains.zarr", tissue[..., :2], channels=()))
    assert code == 2
    assert err.startswith("dala: stains.zarr: axes cyx of 2 x 512 x 512 uint8: a stack or stains one by one")
