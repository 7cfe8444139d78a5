"""A model is exchanged while a real server answers: nothing fails, and no answer mixes two models."""

import json
import re
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import requests
from safetensors.numpy import load_file, save_file
from undercut import artifacts
from undercut.predictors import load_predictor

TEXTS = ["where is my refund", "stop the order please", "has it shipped yet"]
# Seven batches, so that a swap comes in the middle of requests.
REQUEST = [TEXTS[i % 3] for i in range(200)]


def digest_of(folder: Path) -> str:
    return str(artifacts.load(folder, artifacts.MODEL)["digest"])


def point(link: Path, target: Path) -> None:
    """Switch a link at one moment, as ``ln -sfn`` with a rename does."""
    fresh = link.with_name("fresh")
    fresh.symlink_to(target)
    fresh.replace(link)


def load(url: str, body: object = None) -> requests.Response:
    return requests.post(f"{url}/v2/repository/models/shop/load", json=body, timeout=60)


def ask(url: str, texts: list[str] = TEXTS) -> tuple[list[str], str]:
    response = requests.post(f"{url}/v1/models/shop:predict", json={"instances": texts}, timeout=60)
    response.raise_for_status()
    return [p["label"] for p in response.json()["predictions"]], response.headers["undercut-model-digest"]


def metric(url: str, name: str) -> dict[str, float]:
    """Return a metric's samples by the labels that stand behind the model's name."""
    lines = requests.get(f"{url}/metrics", timeout=10).text.splitlines()
    found = [re.fullmatch(rf"{name}\{{(.*)\}} (\S+)", line) for line in lines]
    return {m[1].replace('model_name="shop"', "").strip(","): float(m[2]) for m in found if m}


@dataclass
class Tally:
    """What clients saw: one entry a request."""

    answers: dict[str, list[str]]
    sent: int = 0
    failed: list[str] = field(default_factory=list)
    mixed: int = 0
    by_model: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, status: int, text: str, digest: str, labels: list[str]) -> None:
        with self.lock:
            self.sent += 1
            if status != requests.codes.ok:
                self.failed.append(f"{status} {text[:200]}")
                return
            self.by_model[digest] += 1
            self.mixed += labels != self.answers.get(digest)


def client(url: str, number: int, tally: Tally, stop: threading.Event) -> None:
    """Ask by V1 or V2, again and again, on one kept connection."""
    tensor = {"name": "text", "datatype": "BYTES", "shape": [len(REQUEST)], "data": REQUEST}
    v1 = ("v1/models/shop:predict", {"instances": REQUEST})
    path, body = ("v2/models/shop/infer", {"inputs": [tensor]}) if number % 2 else v1
    with requests.Session() as session:
        session.trust_env = False
        while not stop.is_set():
            try:
                response = session.post(f"{url}/{path}", json=body, timeout=60)
            except requests.RequestException as error:
                tally.add(0, repr(error), "", [])
                continue
            content = response.json()
            labels = [p["label"] for p in content.get("predictions", [])]
            labels = labels or [name for o in content.get("outputs", [])[:1] for name in o["data"]]
            digest = response.headers.get("undercut-model-digest", "")
            if number % 2 and content.get("parameters") != {"model_digest": digest}:
                labels = []
            tally.add(response.status_code, response.text, digest, labels)


@pytest.mark.parametrize(
    ("clients", "swaps"), [(4, 4), pytest.param(32, 20, marks=pytest.mark.resilience)], ids=["short", "full"]
)
def test_no_request_fails_and_no_answer_mixes_two_models(
    two_models: tuple[Path, Path], start_server: Callable[..., object], tmp_path: Path, clients: int, swaps: int
) -> None:
    link, broken, (first, second) = tmp_path / "current", tmp_path / "broken", two_models
    shutil.copytree(second, broken)
    (broken / "weights.safetensors").write_bytes((broken / "weights.safetensors").read_bytes()[:-8])
    point(link, first)
    server = start_server("--model", str(link), "--name", "shop")
    url = server.url
    answers = {digest_of(m): [load_predictor(m).labels[i] for i in best(m)] for m in two_models}
    assert answers[digest_of(first)] != answers[digest_of(second)]
    tally, stop = Tally(answers), threading.Event()
    threads = [threading.Thread(target=client, args=(url, i, tally, stop)) for i in range(clients)]
    for thread in threads:
        thread.start()
    rollbacks, running = [], first
    for i in range(swaps):
        # Every client's next request is on its way when the model is exchanged.
        until(lambda answered=tally.sent + clients: tally.sent >= answered)
        wanted = broken if i == swaps // 2 else second if running == first else first
        point(link, wanted)
        started = time.perf_counter()
        response = load(url, {"parameters": {"digest": digest_of(wanted)}})
        seconds = time.perf_counter() - started
        if wanted == broken:
            assert (response.status_code, "its SHA-256 is not the recorded one" in response.text) == (400, True)
        else:
            assert response.json()["digest"] == digest_of(wanted), response.text
            assert response.json()["replaced"] == digest_of(running)
            rollbacks += [seconds] if wanted == first else []
            running = wanted
        assert ask(url) == (answers[digest_of(running)][:3], digest_of(running))
    stop.set()
    for thread in threads:
        thread.join(60)
    print(
        f"\n{clients} clients, {swaps} swaps, one of them a broken model: {tally.sent} requests of {len(REQUEST)} texts"
        f" sent, {len(tally.failed)} failed, {tally.mixed} mixed; answered by {list(tally.by_model.values())};"
        f" time to roll back {np.median(rollbacks) * 1000:.0f} ms (median), {max(rollbacks) * 1000:.0f} ms (longest)"
    )
    assert (tally.failed, tally.mixed) == ([], 0)
    assert tally.by_model.keys() == answers.keys()
    assert tally.sent >= clients * swaps
    outcomes = {'outcome="swapped"': swaps - 1, 'outcome="refused"': 1}
    assert metric(url, "undercut_model_loads_total") == outcomes
    assert metric(url, "undercut_requests_total") == {'outcome="answered"': tally.sent + swaps}
    assert len(server.log.read_text().splitlines()) == 1


def best(model: Path) -> list[int]:
    return [int(i) for i in load_predictor(model).probabilities(REQUEST).argmax(axis=1)]


@pytest.fixture(scope="module")
def link(tmp_path_factory: pytest.TempPathFactory, two_models: tuple[Path, Path]) -> Path:
    link = tmp_path_factory.mktemp("link") / "current"
    link.symlink_to(two_models[0])
    return link


@pytest.fixture(scope="module")
def url(link: Path, start_server: Callable[..., object]) -> str:
    return start_server("--model", str(link), "--name", "shop").url


def spoiled(kind: str, model: Path, folder: Path) -> tuple[Path, object]:
    """Return a copy of a model with one thing wrong, and the body of the load that meets it."""
    shutil.copytree(model, folder)
    manifest, weights = folder / artifacts.MODEL, folder / "weights.safetensors"
    match kind:
        case "tampered":
            (folder / "vocabulary.json").write_text(
                (folder / "vocabulary.json").read_text().replace("refund", "parcel")
            )
        case "truncated":
            weights.write_bytes(weights.read_bytes()[:-100])
        case "manifest cut":
            manifest.write_bytes(manifest.read_bytes()[:-100])
        case "manifest of a list":
            manifest.write_text("[]")
        case "missing":
            weights.unlink()
        case "no manifest":
            manifest.unlink()
        case "other digest":
            return folder, {"parameters": {"digest": "0" * 64}}
        case "no numbers":
            tensors = load_file(weights)
            save_file({name: np.full_like(tensor, np.nan) for name, tensor in tensors.items()}, weights)
            artifacts.seal(folder, artifacts.MODEL, artifacts.content(json.loads(manifest.read_text())))
    return folder, None


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("tampered", "its SHA-256 is not the recorded one"),
        ("truncated", "its SHA-256 is not the recorded one"),
        ("manifest cut", "not JSON"),
        ("manifest of a list", "not a JSON object"),
        ("missing", "weights.safetensors: got 'missing or not listed in the manifest'"),
        ("no manifest", "a folder that holds model.json"),
        ("other digest", "is not the recorded 000000000000"),
        ("no numbers", "an answer that is not finite"),
    ],
)
def test_a_broken_model_is_refused_and_the_old_one_answers(
    url: str, link: Path, two_models: tuple[Path, Path], tmp_path: Path, kind: str, message: str
) -> None:
    before = ask(url)
    folder, body = spoiled(kind, two_models[1], tmp_path / "model")
    point(link, folder)
    response = load(url, body)
    point(link, two_models[0])
    assert (response.status_code, message in response.json()["error"]) == (400, True), response.text
    assert "\n" not in response.json()["error"]
    assert ask(url) == before


def test_a_lost_candidate_is_refused(
    url: str, link: Path, two_models: tuple[Path, Path], lost_model: Callable[..., Path], tmp_path: Path
) -> None:
    before = ask(url)
    point(link, lost_model(tmp_path / "lost"))
    response = load(url)
    point(link, two_models[0])
    assert (response.status_code, "it answers differently" in response.text) == (400, True), response.text
    assert ask(url) == before


@pytest.mark.parametrize(
    ("name", "body", "status", "message"),
    [
        ("other", None, 404, "other"),
        ("shop", {"parameters": []}, 400, "expected nothing, or"),
        ("shop", {"parameters": {"digest": 7}}, 400, "expected nothing, or"),
        ("shop", [], 400, "expected nothing, or"),
    ],
)
def test_a_load_that_cannot_be_understood(url: str, name: str, body: object, status: int, message: str) -> None:
    response = requests.post(f"{url}/v2/repository/models/{name}/load", json=body, timeout=10)
    assert (response.status_code, message in response.json()["error"]) == (status, True), response.text


def test_loading_the_same_again_changes_nothing(url: str, two_models: tuple[Path, Path]) -> None:
    digest = digest_of(two_models[0])
    answer = load(url).json()
    assert (answer["digest"], answer["replaced"], answer["candidate"]) == (digest, digest, "linear/as-is")
    assert metric(url, "undercut_model_loads_total")['outcome="unchanged"'] >= 1


def test_unload_and_load_again(url: str, two_models: tuple[Path, Path]) -> None:
    assert requests.post(f"{url}/v2/repository/models/shop/unload", timeout=10).json() == {
        "name": "shop",
        "unload": True,
    }
    response = requests.post(f"{url}/v1/models/shop:predict", json={"instances": TEXTS}, timeout=10)
    assert response.status_code == 404
    assert metric(url, "undercut_model_info") == {}
    assert load(url).json()["replaced"] is None
    assert ask(url)[1] == digest_of(two_models[0])


def test_a_pinned_server_takes_only_the_digest_that_the_load_names(
    two_models: tuple[Path, Path], start_server: Callable[..., object], tmp_path: Path
) -> None:
    link, (first, second) = tmp_path / "current", two_models
    point(link, first)
    pinned = start_server("--model", str(link), "--name", "shop", "--digest", digest_of(first)).url
    point(link, second)
    response = load(pinned)
    assert (response.status_code, "parameters.digest: got None" in response.text) == (400, True)
    assert load(pinned, {"parameters": {"digest": digest_of(second)}}).ok
    assert ask(pinned)[1] == digest_of(second)


def test_with_a_token_only_its_holder_exchanges_the_model(
    two_models: tuple[Path, Path], start_server: Callable[..., object]
) -> None:
    guarded = start_server("--model", str(two_models[0]), "--name", "shop", UNDERCUT_SERVING_TOKEN="s3cret\n").url
    for path in ("load", "unload"):
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "s3cret"}):
            response = requests.post(f"{guarded}/v2/repository/models/shop/{path}", headers=headers, timeout=10)
            assert (response.status_code, response.headers["WWW-Authenticate"]) == (401, "Bearer")
    holder = {"Authorization": "Bearer s3cret"}
    assert requests.post(f"{guarded}/v2/repository/models/shop/load", headers=holder, timeout=10).ok
    assert ask(guarded)[1] == digest_of(two_models[0])


def test_without_a_token_other_machines_cannot_exchange_the_model(
    two_models: tuple[Path, Path], start_server: Callable[..., object]
) -> None:
    server = start_server("--model", str(two_models[0]), "--name", "shop", "--host", "0.0.0.0")
    for path in ("load", "unload"):
        response = requests.post(f"{server.url}/v2/repository/models/shop/{path}", timeout=10)
        assert (response.status_code, "UNDERCUT_SERVING_TOKEN" in response.text) == (403, True)
    assert ask(server.url)[1] == digest_of(two_models[0])


def test_it_watches_the_folder(
    two_models: tuple[Path, Path], start_server: Callable[..., object], tmp_path: Path
) -> None:
    link, (first, second) = tmp_path / "current", two_models
    point(link, first)
    server = start_server("--model", str(link), "--name", "shop", "--watch", "0.05")
    assert ask(server.url)[1] == digest_of(first)
    broken, _ = spoiled("truncated", second, tmp_path / "broken")
    point(link, broken)
    until(lambda: metric(server.url, "undercut_model_loads_total").get('outcome="refused"', 0) > 2)
    assert ask(server.url)[1] == digest_of(first)
    unreadable = tmp_path / "unreadable"  # as a file is that is gone between two looks
    unreadable.mkdir()
    (unreadable / "model.json").symlink_to("/proc/self/mem")
    point(link, unreadable)
    until(lambda: "Input/output error" in server.log.read_text())
    point(link, second)
    until(lambda: ask(server.url)[1] == digest_of(second))
    broken_line, unreadable_line = [x for x in server.log.read_text().splitlines() if x.startswith("watch: ")]
    assert "its SHA-256 is not the recorded one" in broken_line
    assert "Input/output error" in unreadable_line


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, "it did not come true in 30 s"
        time.sleep(0.05)
