"""What the server counts, read from its /metrics."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from undercut import artifacts
from undercut.predictors import BatchTokenizer

TEXTS = ["where is my refund", "stop the order please", "has it shipped yet", "thanks " * 40]
MAX_LENGTH = 16
USD_PER_HOUR = 36.0


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Path:
    """A folder as a fine-tuned model's: a tokenizer, and where it cuts."""
    folder = tmp_path_factory.mktemp("tokenizer")
    artifacts.copy_files(tiny_base, folder, ["tokenizer.json"])
    artifacts.seal(folder, artifacts.MODEL, {"max_length": MAX_LENGTH})
    return folder


@pytest.fixture(scope="module")
def samples(linear_model: Path, tokenizer: Path, start_server: Callable[..., object]) -> dict[str, float]:
    """All samples of a server after three requests that it answers, one that it refuses, and one for another."""
    priced = ("--usd-per-hour", str(USD_PER_HOUR), "--tokenizer", str(tokenizer))
    url = start_server("--model", str(linear_model), "--name", "shop", *priced).url
    for instances, name in (
        (TEXTS, "shop"),
        (TEXTS * 10, "shop"),
        (TEXTS[:1], "shop"),
        ([7], "shop"),
        (TEXTS, "other"),
    ):
        requests.post(f"{url}/v1/models/{name}:predict", json={"instances": instances}, timeout=10)
    requests.post(f"{url}/v2/models/shop/infer", json={"inputs": 3}, timeout=10)
    return read(url)


def read(url: str) -> dict[str, float]:
    lines = requests.get(f"{url}/metrics", timeout=10).text.splitlines()
    found = [re.fullmatch(r"(undercut_\S+?)(?:\{(.*)\})? (\S+)", line) for line in lines]
    return {f"{m[1]} {m[2]}".replace('model_name="shop"', "").replace(",", ""): float(m[3]) for m in found if m}


def test_requests_and_batches(samples: dict[str, float]) -> None:
    assert samples['undercut_requests_total outcome="answered"'] == 3
    assert samples['undercut_requests_total outcome="refused"'] == 2
    assert 'undercut_requests_total outcome="failed"' not in samples
    assert samples["undercut_requests_in_progress "] == 0
    assert samples["undercut_request_duration_seconds_count "] == 5
    sizes = {float(k.split('"')[1]): v for k, v in samples.items() if k.startswith("undercut_batch_size_texts_bucket")}
    # 4, then 32 and 8, then 1; buckets are cumulative.
    assert sizes == {1: 1, 2: 1, 4: 2, 8: 3, 16: 3, 32: 4, float("inf"): 4}
    assert samples["undercut_batch_size_texts_sum "] == 45


def test_tokens_are_counted_as_prices_count_them(samples: dict[str, float], tokenizer: Path) -> None:
    counts = [len(ids) for ids in BatchTokenizer(tokenizer, MAX_LENGTH).ids(TEXTS)]
    assert counts == [6, 6, 6, MAX_LENGTH]
    assert samples["undercut_tokens_total "] == 11 * sum(counts) + counts[0]


def test_the_price_is_the_predicting_seconds_times_the_devices_price(samples: dict[str, float]) -> None:
    seconds = samples["undercut_predict_seconds_total "]
    assert 0 < seconds < samples["undercut_request_duration_seconds_sum "]
    assert samples["undercut_price_usd_total "] == pytest.approx(seconds * USD_PER_HOUR / 3600, rel=1e-9)


def test_the_model_is_named(samples: dict[str, float], linear_model: Path) -> None:
    digest = artifacts.load(linear_model, artifacts.MODEL)["digest"]
    labels = [key for key in samples if key.startswith("undercut_model_info")]
    assert labels == [f'undercut_model_info candidate="linear/as-is"digest="{digest}"']


def test_what_is_not_known_is_not_exported(linear_model: Path, start_server: Callable[..., object]) -> None:
    """A linear model has no tokenizer, and no price was given."""
    url = start_server("--model", str(linear_model), "--name", "shop").url
    requests.post(f"{url}/v1/models/shop:predict", json={"instances": TEXTS}, timeout=10)
    names = {key.split()[0] for key in read(url)}
    assert "undercut_predict_seconds_total" in names
    assert not names & {"undercut_tokens_total", "undercut_price_usd_total"}


def test_names_end_in_their_units(samples: dict[str, float]) -> None:
    """https://prometheus.io/docs/practices/naming: the unit last, then ``_total`` of a counter or ``_info``."""
    families = {re.sub("_(bucket|sum|count)$", "", key.split()[0]) for key in samples if "_created " not in key}
    ends = r"undercut_\w*?(_(seconds|texts|in_progress|info)|(seconds|usd|tokens|requests|loads)_total)"
    assert [name for name in families if not re.fullmatch(ends, name)] == []
    assert len(families) == 8
