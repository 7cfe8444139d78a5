"""Compression alone: a fine-tuned classifier in, the cheapest form of it that still passes the bar out.

undercut run pipelines/compress.py --model folder/of/finetune --source my.csv --bar.minimum 0.9
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from kfp import dsl
from undercut.allocate.component import allocate
from undercut.candidates import DEFAULT_CANDIDATES, parse_candidates
from undercut.check.component import check
from undercut.check.settings import check_settings
from undercut.cluster import pods
from undercut.compress.component import compress
from undercut.deploy.component import deploy
from undercut.deploy.settings import check_deploy_settings
from undercut.evaluate.component import evaluate
from undercut.fetch.component import fetch
from undercut.ingest.component import ingest
from undercut.profile.component import profile
from undercut.quantize.component import quantize
from undercut.report.component import report
from undercut.resources import DEFAULTS as RESOURCES
from undercut.resources import parse_resources
from undercut.select.component import select

# Paths and URIs: a run pins them by content, so that a changed file is not served from the cache.
URIS = ("model", "source", "validation_source", "test_source", "unlabelled_source")
PRICES = yaml.safe_load(Path(__file__).with_name("prices.yaml").read_text(encoding="utf-8"))
BAR = {"metric": "accuracy", "minimum": 0.8, "maximum_drop": 0.02, "maximum_latency_ms": 0, "confidence": 0.95}
DEPLOY = {"target": "local"}
INGEST = {"text_column": "", "label_column": "", "split": "stratified"}


def check_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Check what the first step would refuse, before the first step; called by ``undercut``.

    Returns:
        The arguments, with candidates such as ``finetuned/int8`` as the mappings that the loop takes.
    """
    parse_resources(arguments["resources"])
    names = ("bar", "candidates", "prices", "hardware", "traffic")
    check_deploy_settings(arguments["model_name"], arguments["deploy_settings"])
    check_settings(**{name: arguments[name] for name in names})
    return {**arguments, "candidates": [asdict(c) for c in parse_candidates(arguments["candidates"])]}


@dsl.pipeline(name="compression")
def compression(
    model: str,
    source: str,
    validation_source: str = "",
    test_source: str = "",
    unlabelled_source: str = "",
    candidates: list = DEFAULT_CANDIDATES,
    bar: dict = BAR,
    traffic: str = "online",
    prices: dict = PRICES,
    hardware: str = "cpu-core",
    seed: int = 0,
    model_name: str = "classifier",
    ingest_settings: dict = INGEST,
    deploy_settings: dict = DEPLOY,
    resources: dict = RESOURCES,
):
    """Turn a fine-tuned text classifier into the cheapest one that still passes a quality bar.

    Makes smaller candidates from it, measures each one's quality on held-out rows and its speed on this
    hardware, prices them, chooses the cheapest that clears the bar, deploys it, and reports why.

    Args:
        model: folder or URI of a fine-tuned model as finetune writes it, with model.json.
        source: labelled rows with the model's labels: CSV, TSV, JSONL or Parquet, also .gz; a path or URI.
        validation_source: rows to validate on, if they come apart; otherwise taken from source.
        test_source: rows that the model was not fine-tuned on, to test on; otherwise taken from source, as lifecycle
            takes them with the same seed.
        unlabelled_source: raw text of the same kind, a folder or file: smaller models learn the fine-tuned one's
            answers to it.
        candidates: what to make and compare, each structure/precision, such as finetuned/int8 or pruned-4x50x50/int8;
            in Kubeflow's form mappings, as in the default.
        bar: metric (accuracy, macro_f1, micro_f1), minimum (the interval's lower end), maximum_drop against the best,
            maximum_latency_ms (0 for none), confidence.
        traffic: online prices requests one at a time, batch prices them in batches of 32.
        prices: the price book: devices in US dollars an hour, hosted prices to compare with.
        hardware: the price book's device that candidates are priced on.
        seed: of the split, of what is random in making candidates, and of the intervals.
        model_name: the name under which the chosen model is registered.
        ingest_settings: of reading: text_column and label_column (found by their names if empty), split (stratified;
            column:NAME where a column names the split; time:NAME for oldest to train, newest to test), and more, such
            as label_separator ; (several labels a row), near_duplicates 0.8, languages en,de, mask_pii true.
        deploy_settings: of deployment: target (local: a tested entry in the registry; kserve: an InferenceService with
            a canary) and more, such as mode, min_replicas, canary_percent, maximum_p95_ms.
        resources: on a cluster: accelerator (nvidia.com/gpu, nvidia.com/mig-1g.10gb) and accelerator_count of training
            steps, cpu and memory of each step, node_selector and tolerations (JSON) of training steps, secret (whose
            HF_TOKEN and the like become environment), nodes (more than one trains in a TrainJob), processes.
    """
    # fmt: off
    pods_ask = allocate(resources=resources)
    checked = check(
        bar=bar, candidates=candidates, prices=prices, hardware=hardware, traffic=traffic,
        deploy_settings=deploy_settings, model_name=model_name,
    ).after(pods_ask)
    data = ingest(
        source=source, unlabelled_source=unlabelled_source, validation_source=validation_source,
        test_source=test_source, seed=seed, settings=ingest_settings,
    ).after(checked).outputs["data"]
    teacher = fetch(uri=model, data=data).outputs["model"]
    with dsl.ParallelFor(candidates, name="candidate", parallelism=1) as c:
        smaller = compress(
            teacher=teacher, data=data, structure=c.structure, seed=seed, resources=resources
        ).outputs["model"]
        servable = quantize(
            model=smaller, data=data, structure=c.structure, precision=c.precision
        ).outputs["servable"]
        evaluation = evaluate(model=servable, data=data, seed=seed).outputs["evaluation"]
    profiles = profile(
        models=dsl.Collected(servable), teacher=teacher, data=data, hardware=hardware, seed=seed
    ).outputs["profiles"]
    choice = select(
        models=dsl.Collected(servable), evaluations=dsl.Collected(evaluation), profiles=profiles, bar=bar,
        traffic=traffic, prices=prices, hardware=hardware,
    )
    selection = choice.outputs["selection"]
    with dsl.If(choice.outputs["Output"] == True, name="passed"):  # noqa: E712
        shipped = deploy(
            chosen=choice.outputs["chosen"], selection=selection, data=data, teacher=teacher, model_name=model_name,
            settings=deploy_settings,
        ).set_caching_options(False)
        report(
            data=data, teacher=teacher, profiles=profiles, selection=selection,
            deployment=shipped.outputs["deployment"],
        )
    with dsl.Else(name="missed"):
        report(data=data, teacher=teacher, profiles=profiles, selection=selection)
    pods.furnish(pods_ask.outputs)
    # fmt: on
