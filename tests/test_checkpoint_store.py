import json
import math
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from undercut import checkpoint_store, checkpoints, steps, uploads, workspace
from undercut.errors import ConfigurationError, Unavailable

from tests.conftest import clean_environment
from tests.seaweedfs import Weed, keys, serving

pytestmark = pytest.mark.slow
BUCKET = "private"


@pytest.fixture(scope="module")
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weed]:
    with serving(tmp_path_factory.mktemp("weed")) as server:
        yield server


@pytest.fixture
def store(weed: Weed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A prefix of the server for this test, and boto3's client to look at it."""
    for name, value in weed.environment.items():
        monkeypatch.setenv(name, value)
    prefix = f"team/undercut/{tmp_path.name}"
    client = weed.bucket(BUCKET)
    monkeypatch.setenv("UNDERCUT_CHECKPOINTS", f"s3://{BUCKET}/{prefix}")
    monkeypatch.setenv("UNDERCUT_EVENTS", str(tmp_path / "events.jsonl"))
    client.undercut_prefix = prefix
    yield client
    assert checkpoints.flush(20), "something was left waiting"


def folder() -> Path:
    return workspace.home() / "checkpoints" / "abc" / "choose"


def save(step: int, size: int = 4) -> Path:
    return checkpoints.save(folder(), step, {"w": torch.full((size,), float(step))}, {"state": {"step": step}})


def stored(client: Any) -> list[str]:
    return [key.removeprefix(client.undercut_prefix + "/") for key in keys(client, BUCKET, client.undercut_prefix)]


def new_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("UNDERCUT_HOME", str(tmp_path / f"home-{time.monotonic_ns()}"))


def messages(tmp_path: Path) -> list[str]:
    found = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    return [event["message"] for event in found if event["type"] == "message"]


def test_what_is_saved_is_stored_and_found_on_an_empty_disk(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (1, 2, 3):
        save(step)
        assert checkpoints.flush(20)
    names = stored(store)
    assert sorted({name.split("/")[2] for name in names}) == ["step-00000002", "step-00000003"]
    assert [name for name in names if name.endswith("state.json")] == [
        "abc/choose/step-00000002/state.json",
        "abc/choose/step-00000003/state.json",
    ]
    new_disk(monkeypatch, tmp_path)
    found = checkpoints.newest(folder())
    assert found is not None
    assert found[0]["w"].tolist() == [3.0] * 4
    assert found[1]["state"] == {"step": 3}
    assert (folder() / "step-00000003" / "state.json").is_file()


@pytest.mark.parametrize("damage", ["flipped", "cut", "state cut", "state without digest", "tensors missing"])
def test_a_damaged_one_is_passed_over(store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    for step in (1, 2):
        save(step)
        assert checkpoints.flush(20)
    state, tensors = sorted(k for k in keys(store, BUCKET, store.undercut_prefix) if "step-00000002" in k)
    content = store.get_object(Bucket=BUCKET, Key=tensors)["Body"].read()
    match damage:
        case "flipped":
            store.put_object(Bucket=BUCKET, Key=tensors, Body=content[:-1] + bytes([content[-1] ^ 1]))
        case "cut":
            store.put_object(Bucket=BUCKET, Key=tensors, Body=content[:-3])
        case "state cut":
            store.put_object(Bucket=BUCKET, Key=state, Body=b'{"state": {"st')
        case "state without digest":
            store.put_object(Bucket=BUCKET, Key=state, Body=b"{}")
        case "tensors missing":
            store.delete_object(Bucket=BUCKET, Key=tensors)
    new_disk(monkeypatch, tmp_path)
    found = checkpoints.newest(folder())
    assert found is not None
    assert found[1]["step"] == 1


def test_the_disk_comes_first_and_a_bad_disk_is_no_loss(store: Any) -> None:
    path = save(1)
    assert checkpoints.flush(20)
    (path / "tensors.safetensors").write_bytes(b"torn")
    found = checkpoints.newest(folder())
    assert found is not None
    assert found[0]["w"].tolist() == [1.0] * 4


def test_other_files_are_remembered_and_altered_ones_are_not(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = workspace.home() / "checkpoints" / "abc" / "chosen.json"
    assert not checkpoints.recall(path)
    path.parent.mkdir(parents=True)
    path.write_text('{"best_epoch": 2}')
    checkpoints.remember(path)
    assert checkpoints.flush(20)
    new_disk(monkeypatch, tmp_path)
    path = workspace.home() / "checkpoints" / "abc" / "chosen.json"
    assert checkpoints.recall(path)
    assert path.read_text() == '{"best_epoch": 2}'
    key = f"{store.undercut_prefix}/abc/chosen.json"
    metadata = store.head_object(Bucket=BUCKET, Key=key)["Metadata"]
    store.put_object(Bucket=BUCKET, Key=key, Body=b'{"best_epoch": 3}', Metadata=metadata)
    new_disk(monkeypatch, tmp_path)
    assert not checkpoints.recall(workspace.home() / "checkpoints" / "abc" / "chosen.json")
    assert "chosen.json in" in messages(tmp_path)[-1]


def test_the_end_of_a_training_removes_all_of_it_and_nothing_else(store: Any) -> None:
    save(1)
    other = checkpoints.save(workspace.home() / "checkpoints" / "abcd", 1, {"w": torch.zeros(1)}, {})
    checkpoints.remember(other / "state.json")
    checkpoints.remove(workspace.home() / "checkpoints" / "abc")
    assert {name.split("/")[0] for name in stored(store)} == {"abcd"}
    assert not folder().exists()


def test_the_store_keeps_the_last_states_of_a_finished_training(store: Any) -> None:
    save(1)
    save(2)
    checkpoints.finish(folder())
    assert not folder().exists()
    found = checkpoints.newest(folder())
    assert found is not None
    assert found[1]["step"] == 2


def test_only_the_first_of_several_processes_saves(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    save(1)
    assert checkpoints.flush(20)
    monkeypatch.setenv("RANK", "1")
    assert not save(2).exists()
    checkpoints.remember(folder() / "step-00000001" / "state.json")
    checkpoints.remove(folder().parent)
    found = checkpoints.newest(folder())
    assert found is not None
    assert (found[1]["step"], len(stored(store))) == (1, 2)


@pytest.mark.resilience
def test_training_does_not_wait_and_the_newest_replaces_what_waits(
    store: Any, weed: Weed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server stands still while five are saved: of those that wait only the last goes out."""
    save(1)
    assert checkpoints.flush(20)
    weed.signal(signal.SIGSTOP)
    try:
        started = time.monotonic()
        for step in range(2, 7):
            save(step, size=1 << 20)
        assert time.monotonic() - started < 5 * 20, "each save waited for the store"
        queue = checkpoint_store.opened(checkpoints.store().uri).uploads  # type: ignore[union-attr]
        assert [u.name for u in queue._queue] == ["abc/choose"] * 2
        assert not checkpoints.flush(0.1)
    finally:
        weed.signal(signal.SIGCONT)
    assert checkpoints.flush(60)
    assert {name.split("/")[2] for name in stored(store)} <= {"step-00000002", "step-00000006", "step-00000001"}
    new_disk(monkeypatch, tmp_path)
    found = checkpoints.newest(folder())
    assert found is not None
    assert found[0]["w"][0] == 6.0


@pytest.mark.resilience
def test_an_outage_is_reported_once_and_its_end_too(store: Any, weed: Weed, tmp_path: Path) -> None:
    weed.kill()
    save(1)
    time.sleep(2)
    weed.start()
    assert checkpoints.flush(60)
    first, second = messages(tmp_path)
    assert "could not be stored yet" in first
    assert "answers again" in second
    assert len(stored(store)) == 2


@pytest.mark.resilience
def test_a_training_that_starts_waits_for_the_store(
    store: Any, weed: Weed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(1)
    assert checkpoints.flush(20)
    new_disk(monkeypatch, tmp_path)
    weed.kill()
    threading.Timer(1.5, weed.start).start()
    found = checkpoints.newest(folder())
    assert found is not None
    assert "waiting for it" in messages(tmp_path)[0]
    new_disk(monkeypatch, tmp_path)
    weed.kill()
    monkeypatch.setattr(checkpoint_store, "PATIENCE_SECONDS", 0.1)
    with pytest.raises(Unavailable, match=r"UNDERCUT_CHECKPOINTS: .* an object store that answers"):
        checkpoints.newest(folder())
    weed.start()
    weed.bucket(BUCKET)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("/data/checkpoints", "s3://bucket/prefix"),
        ("s3://", "s3://bucket/prefix"),
        ("s3://AKIA:hunter2@private/x", "Put credentials into"),
        ("s3://no-such-bucket/x", "no such bucket"),
    ],
)
def test_a_wrong_address_is_refused_before_training(
    store: Any, monkeypatch: pytest.MonkeyPatch, uri: str, message: str
) -> None:
    with monkeypatch.context() as patched:
        patched.setenv("UNDERCUT_CHECKPOINTS", uri)
        with pytest.raises(ConfigurationError, match=f"^UNDERCUT_CHECKPOINTS: .*{message}") as caught:
            checkpoints.newest(folder())
    assert "hunter2" not in str(caught.value)


def test_the_next_one_is_taken_earlier_by_what_the_last_took(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = checkpoint_store.opened(checkpoints.store().uri).uploads  # type: ignore[union-attr]
    queue.lag_seconds = math.inf  # before the first
    assert [checkpoints.due(time.monotonic() - age, 10.0) for age in (4.5, 5.5)] == [False, True]
    queue.lag_seconds = 3.0
    assert [checkpoints.due(time.monotonic() - age, 10.0) for age in (6.5, 7.5)] == [False, True]
    assert not (tmp_path / "events.jsonl").exists()
    queue.lag_seconds = 30.0
    assert [checkpoints.due(time.monotonic() - age, 10.0) for age in (4.5, 5.5)] == [False, True]
    (slow,) = messages(tmp_path)
    assert (
        slow == "a checkpoint took 30 s to be stored: a lost machine may cost more than 10 s, raise checkpoint_seconds"
    )
    assert not checkpoints.due(0.0, 0.0)
    monkeypatch.delenv("UNDERCUT_CHECKPOINTS")
    assert [checkpoints.due(time.monotonic() - age, 10.0) for age in (9.0, 11.0)] == [False, True]


def attempt(error: Exception | None, output: str = "/artifacts/4f7c/ingest/0b1d/data") -> tuple[object, bool]:
    """Run a step that raises ``error``; returns its exit code and whether it came to that."""
    worked = False
    try:
        with steps.step("ingest", output=output):
            worked = True
            if error:
                raise error
    except SystemExit as stopped:
        return stopped.code, worked
    return 0, worked


def test_a_refused_input_is_remembered_for_its_run_and_its_task(
    store: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = ConfigurationError("source", "x.csv", "a file that exists")
    monkeypatch.setenv("UNDERCUT_RUN_ID", "4f7c")
    assert attempt(Unavailable("source", "x.csv", "a server that answers")) == (2, True)
    assert attempt(refused) == (2, True)
    said = capsys.readouterr().err.splitlines()[-1]
    assert attempt(None) == (2, False)
    assert capsys.readouterr().err.splitlines() == [said]
    assert attempt(None, "/artifacts/4f7c/ingest/77aa/data") == (0, True)
    (marker,) = keys(store, BUCKET, f"{store.undercut_prefix}/failures/4f7c/")
    store.delete_object(Bucket=BUCKET, Key=marker)
    assert attempt(refused) == (2, True)
    monkeypatch.setenv("UNDERCUT_RUN_ID", "5a00")
    assert attempt(None) == (0, True)


def test_a_step_without_an_output_is_known_by_its_node(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERCUT_RUN_ID", "4f7c")
    for number, worked in ((0, True), (1, False)):
        monkeypatch.setenv("UNDERCUT_NODE", f"lifecycle-x7.root.check.executor({number})")
        assert attempt(ConfigurationError("bar", 2, "0 to 1"), output="") == (2, worked)
    monkeypatch.setenv("UNDERCUT_NODE", "lifecycle-x7.root.other.executor(0)")
    assert attempt(None, output="") == (0, True)


def test_a_step_does_not_need_the_store_to_answer(
    store: Any, weed: Weed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNDERCUT_RUN_ID", "4f7c")
    weed.kill()
    assert attempt(ConfigurationError("source", "x.csv", "a file that exists")) == (2, True)
    weed.start()
    weed.bucket(BUCKET)
    first, second = messages(tmp_path)
    assert "whether an earlier attempt failed for good is not known" in first
    assert "a retry will not know of this refusal" in second


def test_unwanted_uploads_are_dropped_or_stopped() -> None:
    """The one on its way ends at its next byte; the one that waits never begins."""
    queue, went, closed = uploads.Uploads("nowhere"), threading.Event(), []

    def slow(upload: uploads.Upload) -> None:
        went.set()
        for _ in range(10_000):
            upload.check()
            time.sleep(0.001)
        raise AssertionError("was not stopped")

    queue.add(uploads.Upload(name="a/b", run=slow, close=lambda: closed.append("running")))
    queue.add(uploads.Upload(name="a/c", run=slow, close=lambda: closed.append("waiting")))
    assert went.wait(10)
    queue.discard("a")
    assert queue.flush(10)
    assert sorted(closed) == ["running", "waiting"]


def test_without_the_variable_boto3_is_not_imported(tmp_path: Path) -> None:
    code = """
import sys, torch
from pathlib import Path
from undercut import checkpoints, steps
with steps.step("x"):
    checkpoints.save(Path("k"), 1, {"w": torch.zeros(1)}, {})
    assert checkpoints.newest(Path("k"))
    assert not checkpoints.recall(Path("chosen.json"))
    checkpoints.remove(Path("k"))
    assert checkpoints.flush(1)
assert not [m for m in sys.modules if m.startswith("boto")]
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=clean_environment())
