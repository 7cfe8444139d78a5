"""KFP face of ingest."""

from kfp import dsl

from undercut.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def ingest(
    source: str,
    data: dsl.Output[dsl.Dataset],
    validation_source: str = "",
    test_source: str = "",
    text_column: str = "",
    label_column: str = "",
    split: str = "stratified",
    max_characters: int = 20000,
    seed: int = 0,
):
    """Turn labelled text into a checked dataset: rows cleaned, leaks between splits removed, every rejected row counted.

    Args:
        source: a CSV, TSV, JSONL or Parquet file, or one of these with .gz; a path, file:// or pkg:// URI.
        data: the dataset folder.
        validation_source: a file with the validation rows; empty to cut them off the source.
        test_source: a file with the test rows; empty to cut them off the source.
        text_column: the text column; empty to find it by its name.
        label_column: the label column; empty to find it by its name.
        split: stratified (70/10/20 by label), column:NAME (a column that says train, validation or test), or time:NAME.
        max_characters: a longer text is rejected.
        seed: chooses the rows of the splits that are cut.
    """
    from pathlib import Path

    from undercut.ingest.dataset import IngestConfig, ingest
    from undercut.steps import step

    with step("ingest", output=data.path):
        config = IngestConfig(
            source=source, validation_source=validation_source, test_source=test_source,
            text_column=text_column, label_column=label_column, split=split, max_characters=max_characters, seed=seed,
        )  # fmt: skip
        ingest(config, Path(data.path))
