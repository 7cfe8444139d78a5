"""The pipelines of single stages, as a person runs them: fine-tuning with a search, compression, pretraining."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import clean_environment, small_rows

ROOT = Path(__file__).parents[2]
UNDERCUT = [sys.executable, "-c", "from undercut.cli.main import main; main()"]


def undercut(home: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {**clean_environment(), "UNDERCUT_HOME": str(home), "COLUMNS": "160"}
    return subprocess.run([*UNDERCUT, *arguments], capture_output=True, text=True, env=environment, cwd=ROOT)


def outputs(home: Path) -> dict[str, list[str]]:
    (record,) = (json.loads(p.read_text()) for p in (home / "runs").glob("*/run.json"))
    assert record["status"] in ("finished", "passed")
    found: dict[str, list[str]] = record["outputs"]
    return found


@pytest.mark.parametrize("name", ["compress", "finetune", "pretrain"])
def test_it_compiles_with_descriptions(tmp_path: Path, name: str) -> None:
    target = tmp_path / "pipeline.yaml"
    done = undercut(tmp_path / "home", "compile", str(ROOT / "pipelines" / f"{name}.py"), "-o", str(target))
    assert done.returncode == 0, done.stderr
    spec = next(yaml.safe_load_all(target.read_text()))
    inputs = spec["root"]["inputDefinitions"]["parameters"]
    assert len(inputs) <= 20
    assert all(definition.get("description") for definition in inputs.values())
    assert spec["pipelineInfo"]["description"]


@pytest.mark.slow
def test_fine_tuning_takes_what_the_search_found(tmp_path: Path, tiny_base: Path) -> None:
    with (tmp_path / "messages.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("text", "label"), *small_rows()])
    arguments = ["--source", str(tmp_path / "messages.csv"), "--base-model", str(tiny_base)]
    pipeline = str(ROOT / "pipelines" / "finetune.py")
    done = undercut(tmp_path / "home", "run", pipeline, *arguments, "--trials", "3", "--search_rows", "200")
    assert done.returncode == 0, done.stdout + done.stderr
    found = outputs(tmp_path / "home")
    tuning = json.loads((Path(found["tune"][0]) / "tuning.json").read_text())
    model = json.loads((Path(found["finetune"][0]) / "model.json").read_text())
    assert len(tuning["trials"]) == 3
    best = tuning["hyperparameters"]
    assert {name: model["parameters"][name] for name in best} == best
    assert json.loads((Path(found["evaluate"][0]) / "metrics.json").read_text())["n"] > 100


@pytest.mark.slow
def test_compression_ends_with_the_cheapest_form_of_a_finished_model(tmp_path: Path, tiny_teacher: Path) -> None:
    with (tmp_path / "messages.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("text", "label"), *small_rows()])
    # fmt: off
    arguments = [
        "run", str(ROOT / "pipelines" / "compress.py"), "--model", str(tiny_teacher),
        "--source", str(tmp_path / "messages.csv"), "--bar.minimum", "0.5", "--bar.maximum_drop", "0.5",
        "--candidates", "finetuned/as-is,pruned-2x50x50/int8", "--model-name", "small",
    ]
    # fmt: on
    done = undercut(tmp_path / "home", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    found = outputs(tmp_path / "home")
    teacher, source = (json.loads((Path(p) / "model.json").read_text()) for p in (found["fetch"][0], tiny_teacher))
    assert teacher["digest"] == source["digest"]
    assert teacher["ledger"][-1]["step"] == "fetch"
    selection = json.loads((Path(found["select"][0]) / "selection.json").read_text())
    assert selection["chosen"] == "pruned-2x50x50/int8"
    (cut,) = (Path(p) for p in found["compress"] if "pruned" in (Path(p) / "model.json").read_text())
    assert sum(json.loads((cut / "model.json").read_text())["parameters"]["heads"]) == 4
    assert "<svg" in Path(found["report"][0]).read_text()


@pytest.mark.slow
def test_compression_refuses_rows_with_other_labels(tmp_path: Path, tiny_teacher: Path) -> None:
    with (tmp_path / "messages.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("text", "label"), *((t, label.upper()) for t, label in small_rows())])
    arguments = ["--model", str(tiny_teacher), "--source", str(tmp_path / "messages.csv")]
    done = undercut(tmp_path / "home", "run", str(ROOT / "pipelines" / "compress.py"), *arguments)
    assert done.returncode == 2
    assert "3 labels against the dataset's 3: only one of them has CANCEL" in done.stdout + done.stderr


@pytest.mark.slow
def test_pretraining_makes_a_base_from_raw_text(tmp_path: Path) -> None:
    (tmp_path / "books").mkdir()
    for book in range(4):
        lines = [f"{text} said the clerk of shop {book}, and {label} it was. " * 3 for text, label in small_rows(book)]
        (tmp_path / "books" / f"{book}.txt").write_text("\n\n".join(lines))
    pipeline = str(ROOT / "pipelines" / "pretrain.py")
    arguments = ["--unlabelled_source", str(tmp_path / "books"), "--size", "tiny", "--vocabulary_size", "400"]
    done = undercut(tmp_path / "home", "run", pipeline, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = Path(outputs(tmp_path / "home")["pretrain"][0])
    assert {p.name for p in folder.iterdir()} >= {"config.json", "model.safetensors", "tokenizer.json", "model.json"}
    metrics = json.loads((folder / "model.json").read_text())["metrics"]
    assert "perplexity" in json.dumps(metrics)
