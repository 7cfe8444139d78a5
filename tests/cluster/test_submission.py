"""``undercut submit`` and ``undercut runs`` against a stand-in of KFP's API server."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.cluster.conftest import Undercut
from tests.cluster.fake_kfp import FakeKfp, Fault

SOURCE = ("--source", "s3://data/rows.csv")
SECRETS = {"AWS_SECRET_ACCESS_KEY": "planted-7f3a-aws", "UNDERCUT_KFP_TOKEN": "planted-7f3a-token"}


def posted(kfp: FakeKfp, path: str) -> list[dict[str, object]]:
    return [json.loads(r.body) for r in kfp.requests if r.method == "POST" and r.path == path]


def uploads(kfp: FakeKfp) -> int:
    return sum(r.path == "/pipelines/upload_version" for r in kfp.requests)


def test_submit_uploads_a_version_and_starts_a_run(undercut: Undercut, kfp: FakeKfp, pipeline: Path) -> None:
    done = undercut("submit", pipeline, *SOURCE, "--epochs", "5", "--settings.rate", "0.5")
    assert done.code == 0, done.err
    (run,) = posted(kfp, "/runs")
    (version,) = kfp.store["versions"].values()
    assert re.fullmatch(r"small-[0-9a-f]{16}", version["name"])
    assert run["pipeline_version_reference"] == {k: version[k] for k in ("pipeline_id", "pipeline_version_id")}
    assert run["runtime_config"] == {
        "parameters": {"source": "s3://data/rows.csv", "epochs": 5, "settings": {"rate": 0.5}}
    }
    assert run["service_account"] == "undercut-runner"
    (experiment,) = kfp.store["experiments"].values()
    assert (experiment["display_name"], experiment["experiment_id"]) == ("undercut", run["experiment_id"])
    (run_id,) = kfp.store["runs"]
    assert f"/#/runs/details/{run_id}" in done.out


def test_the_same_content_is_uploaded_once(undercut: Undercut, kfp: FakeKfp, pipeline: Path) -> None:
    first = undercut("submit", pipeline, *SOURCE)
    again = undercut("submit", pipeline, "--source", "s3://data/other.csv")
    assert "uploaded" in first.out
    assert "is there already" in again.out
    assert uploads(kfp) == 1
    assert len(kfp.store["runs"]) == 2
    pipeline.write_text(pipeline.read_text().replace("return text", "return text * 2"))
    changed = undercut("submit", pipeline, *SOURCE)
    assert "uploaded" in changed.out
    assert len(kfp.store["versions"]) == 2
    assert len(kfp.store["pipelines"]) == 1


def test_without_the_cache_is_another_version(undercut: Undercut, kfp: FakeKfp, pipeline: Path) -> None:
    undercut("submit", pipeline, *SOURCE)
    undercut("submit", pipeline, *SOURCE, "--no-cache")
    cached, uncached = (next(iter(yaml.safe_load_all(text)))["root"]["dag"]["tasks"] for text in kfp.files.values())
    assert {task["cachingOptions"].get("enableCache") for task in cached.values()} == {True}
    assert [task["cachingOptions"] for task in uncached.values()] == [{}, {}]


def test_an_upload_by_someone_else_at_the_same_time(undercut: Undercut, kfp: FakeKfp, pipeline: Path) -> None:
    """The version appears after we looked and before we upload: 409, and the run uses theirs."""
    undercut("submit", pipeline, *SOURCE)
    hidden = Fault("GET .*/versions$", lambda handler: handler.send(200, "{}"))
    kfp.faults.append(hidden)
    done = undercut("submit", pipeline, *SOURCE)
    assert done.code == 0, done.err
    assert hidden.times == 0
    assert "is there already" in done.out
    assert len(kfp.store["versions"]) == 1


def test_waiting_follows_to_the_end(undercut: Undercut, kfp: FakeKfp, pipeline: Path) -> None:
    done = undercut("submit", pipeline, *SOURCE, "--wait")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[-7:] == [
        "run pending",
        "read running",
        "run running",
        "read succeeded",
        "train running",
        "train succeeded",
        "run succeeded",
    ]
    assert not any("driver" in line or "executor" in line or "root" in line for line in lines)


def test_waiting_for_a_run_that_fails(undercut: Undercut, kfp: FakeKfp, pipeline: Path) -> None:
    kfp.failing_task = "train"
    done = undercut("submit", pipeline, *SOURCE, "--wait")
    assert done.code == 1
    assert done.out.splitlines()[-2:] == ["train failed", "run failed"]
    (run_id,) = kfp.store["runs"]
    shown = undercut("runs", run_id)
    assert re.search(r"read +succeeded", shown.out)
    assert re.search(r"train +failed", shown.out)
    assert "log is on the run's page" in shown.out
    assert run_id in undercut("runs").out


def test_a_failed_tasks_error_is_shown_where_there_is_one(undercut: Undercut, kfp: FakeKfp, pipeline: Path) -> None:
    kfp.failing_task, kfp.failure = "train", "no memory left"
    done = undercut("submit", pipeline, *SOURCE, "--wait")
    assert (done.code, "train: no memory left" in done.err) == (1, True)
    (run_id,) = kfp.store["runs"]
    shown = undercut("runs", run_id).out
    assert "train: no memory left" in shown
    assert "log is on" not in shown


def test_a_gateway_that_is_busy_does_not_end_the_wait(undercut: Undercut, kfp: FakeKfp, pipeline: Path) -> None:
    kfp.faults.append(Fault("GET .*/runs/", lambda handler: handler.send(429, '{"message": "slow down"}'), times=2))
    assert undercut("submit", pipeline, *SOURCE, "--wait").code == 0


def test_a_server_that_restarts_does_not_end_the_wait(undercut: Undercut, kfp: FakeKfp, pipeline: Path) -> None:
    kfp.faults.append(Fault("GET .*/runs/", lambda handler: handler.send(500, '{"message": "restarting"}'), times=2))
    done = undercut("submit", pipeline, *SOURCE, "--wait")
    assert done.code == 0, done.err
    assert done.out.count("no answer, still asking") == 1


def test_an_interrupt_ends_the_watching_alone(kfp: FakeKfp, pipeline: Path) -> None:
    """A real process gets a real Ctrl-C while it waits; nothing more is asked of the server."""
    kfp.faults.append(Fault("GET .*/runs/", lambda handler: process.send_signal(signal.SIGINT), after=True))
    # Where the tests run in the background of a shell, Ctrl-C is ignored until someone asks for it.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from undercut.cli.main import main; main()"
    command = [sys.executable, "-c", code, "submit", str(pipeline), *SOURCE, "--wait"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    out, err = process.communicate(timeout=180)
    assert process.returncode == 130, err
    assert "The run goes on" in out
    assert "Traceback" not in err
    (run,) = kfp.store["runs"].values()
    assert run["state"] in ("PENDING", "RUNNING")
    assert not any("terminate" in r.path for r in kfp.requests)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--source", "rows.csv"], ["source", "s3://", "file:///"]),
        (["--source", "s4://data/rows.csv"], ["source", "s4://data/rows.csv", "https://"]),
        (
            ["--source", "sql+postgresql://me:planted@db/x#query=SELECT 1"],
            ["source", "***@db", "UNDERCUT_SQL_PASSWORD"],
        ),
        (["--source", "sql+postgresql://me:pla/planted@db/x#query=SELECT 1"], ["source", "***@db"]),
        (["--source", "sql+postgresql://me@db/x"], ["source", "#query="]),
        (["--source", "https://planted@host/rows.csv"], ["source", "host/rows.csv with a login"]),
        (["--source", "https://host/rows.csv?token=planted"], ["source", "host/rows.csv with token"]),
        (["--source", "s3://me:planted@bucket/rows.csv"], ["source", "***@bucket", "Secret"]),
        (["--sauce", "s3://data/rows.csv"], ["sauce", "source"]),
        ([*SOURCE, "--epochs", "many"], ["epochs", "whole number"]),
        ([], ["source", "Give --source"]),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_is_sent(
    undercut: Undercut, kfp: FakeKfp, pipeline: Path, flags: list[str], words: list[str]
) -> None:
    done = undercut("submit", pipeline, *flags)
    assert done.code == 2
    assert all(word in done.err for word in words), done.err
    assert "planted" not in done.err
    assert kfp.requests == []


def test_a_default_of_a_compiled_pipeline_is_checked_as_a_runs_argument_is(
    undercut: Undercut, pipeline: Path, tmp_path: Path
) -> None:
    target = tmp_path / "small.yaml"
    refused = undercut("compile", pipeline, "-o", target, "--source", "https://host/rows.csv?token=planted")
    assert (refused.code, "host/rows.csv with token" in refused.err) == (2, True)
    assert "planted" not in refused.err
    assert not target.exists()
    local = undercut("compile", pipeline, "-o", target, "--source", "rows.csv")
    assert (local.code, local.err.startswith("As a default only: source: got ")) == (0, True)
    assert target.exists()
    assert undercut("compile", pipeline, "-o", target, "--source", "s3://data/rows.csv").err == ""


def test_a_recipes_name_need_not_be_a_label(undercut: Undercut, kfp: FakeKfp, pipeline: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "größe (neu).yaml"
    recipe.write_text("epochs: 2")
    done = undercut("submit", pipeline, *SOURCE, "--recipe", recipe)
    assert done.code == 0, done.err
    (run,) = kfp.store["runs"].values()
    assert "größe (neu)" in run["display_name"]


def test_a_mapping_without_a_default(undercut: Undercut, kfp: FakeKfp, pipeline: Path) -> None:
    pipeline.write_text(pipeline.read_text().replace('settings: dict = {"rate": 0.1}', "settings: dict"))
    text = pipeline.read_text().replace(
        "source: str, epochs: int = 3, settings: dict", "source: str, settings: dict, epochs: int = 3"
    )
    pipeline.write_text(text)
    done = undercut("submit", pipeline, *SOURCE, "--rate", "1")
    assert (done.code, "rate" in done.err) == (2, True), done.err


def test_sources_are_pinned_on_demand(undercut: Undercut, kfp: FakeKfp, pipeline: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("text,label\n")
    done = undercut("submit", pipeline, "--source", rows.as_uri())
    assert "source: not pinned" in done.err
    pinned = undercut("submit", pipeline, "--source", rows.as_uri(), "--pin")
    assert "not pinned" not in pinned.err
    first, second = posted(kfp, "/runs")
    parameters = second["runtime_config"]["parameters"]  # type: ignore[index]
    assert parameters["source"].startswith(f"{rows.as_uri()}#sha256=")
    assert first["runtime_config"]["parameters"]["source"] == rows.as_uri()  # type: ignore[index]


def test_no_secret_leaves_but_in_its_header(
    undercut: Undercut, kfp: FakeKfp, pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    kfp.token = SECRETS["UNDERCUT_KFP_TOKEN"]
    printed = []
    schedule = ("schedule", pipeline, *SOURCE, "--name", "nightly", "--every", "24h")
    for command in (("submit", pipeline, *SOURCE, "--wait"), schedule, ("schedule", "list"), ("runs",)):
        done = undercut(*command)
        assert done.code == 0, done.err
        printed.append(done.out + done.err)
    kfp.faults.append(Fault("GET", lambda h: h.send(401, json.dumps({"message": h.headers["authorization"]}))))
    refused = undercut("runs")
    assert refused.code == 2
    printed.append(refused.out + refused.err)
    sent = [f"{r.method} {r.path} {r.query} {r.body!r}" for r in kfp.requests]
    sent += [f"{n}: {v}" for r in kfp.requests for n, v in r.headers.items() if n != "authorization"]
    everywhere = "\n".join([*printed, *sent, *kfp.files.values()])
    assert len(kfp.files) == 1
    assert "planted-7f3a" not in everywhere
    assert {r.headers["authorization"] for r in kfp.requests} == {f"Bearer {kfp.token}"}


def test_a_source_that_is_read_each_time_needs_no_pin(undercut: Undercut, kfp: FakeKfp, pipeline: Path) -> None:
    assert "not pinned" in undercut("submit", pipeline, *SOURCE).err
    assert undercut("submit", pipeline, *SOURCE, "--no-cache").err == ""
    pipeline.write_text(
        pipeline.read_text().replace("read(source=source)", "read(source=source).set_caching_options(False)")
    )
    assert undercut("submit", pipeline, *SOURCE).err == ""


def test_links_of_a_kubeflow_with_profiles(
    undercut: Undercut, kfp: FakeKfp, pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KF_PIPELINES_UI_ENDPOINT", "https://kubeflow.example.com/_/pipeline/?ns=team-a")
    done = undercut("submit", pipeline, *SOURCE)
    assert "https://kubeflow.example.com/_/pipeline/?ns=team-a#/runs/details/" in done.out


@pytest.mark.slow
def test_the_lifecycle_is_submitted(undercut: Undercut, kfp: FakeKfp, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every argument, as the recipe and the checks leave it, is of the type that the compiled pipeline takes."""
    for secret in ("AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "UNDERCUT_SQL_PASSWORD", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(secret, "planted-7f3a")
    pipelines = Path(__file__).parents[2] / "pipelines"
    recipe = ("--recipe", pipelines / "recipes" / "customer_service.yaml")
    sources = (*SOURCE, "--unlabelled-source", "s3://data/raw.txt")
    image = "registry.example.com/train@sha256:0"
    done = undercut("submit", pipelines / "lifecycle.py", *recipe, *sources, "--image", image, "--wait")
    assert done.code == 0, done.err
    assert "source and unlabelled_source: not pinned" in done.err
    (run,) = kfp.store["runs"].values()
    assert run["display_name"].startswith("lifecycle customer_service 20")
    assert run["runtime_config"]["parameters"]["candidates"][0].keys() == {"structure", "precision"}
    (compiled,) = kfp.files.values()
    assert image in compiled
    sent = "".join(f"{r.query} {r.headers} {r.body!r}" for r in kfp.requests)
    assert "planted-7f3a" not in compiled + sent + done.out + done.err


def test_another_process_compiles_to_the_same_version(undercut: Undercut, kfp: FakeKfp, pipeline: Path) -> None:
    """A mapping's keys, which a compiled pipeline holds as a protocol buffer, have an order of their own there."""
    many = '{"a": 1, "b": 2, "c": {"d": 3, "e": 4}, "f": [5], "g": 6}'
    pipeline.write_text(pipeline.read_text().replace('{"rate": 0.1}', many))
    undercut("submit", pipeline, *SOURCE)
    # Where the tests run in the background of a shell, Ctrl-C is ignored until someone asks for it.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from undercut.cli.main import main; main()"
    command = [sys.executable, "-c", code, "submit", str(pipeline), *SOURCE]
    again = subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": "7"}, capture_output=True, text=True)
    assert "is there already" in again.stdout, again.stderr
    assert uploads(kfp) == 1
