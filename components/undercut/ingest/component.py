"""KFP face of ingest."""

from kfp import dsl

from undercut.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def ingest(
    data: dsl.Output[dsl.Dataset],
    source: str = "",
    unlabelled_source: str = "",
    validation_source: str = "",
    test_source: str = "",
    text_column: str = "",
    label_column: str = "",
    label_separator: str = "",
    split: str = "stratified",
    max_characters: int = 20000,
    near_duplicates: float = 0.0,
    quality_filter: bool = False,
    languages: str = "",
    mask_pii: bool = False,
    seed: int = 0,
    settings: dict = {},  # noqa: B006
):
    """Turn text into a checked dataset: rows cleaned, leaks between splits removed, every rejected row counted.

    Args:
        data: the dataset folder.
        source: labelled rows, a CSV, TSV, JSONL or Parquet file, also .gz; a path or file://, pkg://, https://, s3://,
            hf:// or sql+DIALECT:// URI. Empty where there is raw text only.
        unlabelled_source: raw text beside it, a folder or file of .txt, .md or .jsonl, also .gz; empty for none.
        validation_source: a file with the validation rows; empty to cut them off the source.
        test_source: a file with the test rows; empty to cut them off the source.
        text_column: the text column; empty to find it by its name.
        label_column: the label column; empty to find it by its name.
        label_separator: what stands between the labels of a row, such as ; or |, where it may have several or none; lists
            of labels (JSON, Parquet) are recognised without it. Empty for one label a row.
        split: stratified (70/10/20 by label), column:NAME (a column that says train, validation or test), or time:NAME.
        max_characters: a longer text is rejected, a longer paragraph of raw text cut.
        near_duplicates: similarity (Jaccard, of five-byte shingles) from which texts count as one; 0 for off.
        quality_filter: reject documents of raw text that are lists, code, menus or repetition (Gopher's rules).
        languages: keep only texts in these, such as en,de; any keeps all; both add the column language. Empty for off.
        mask_pii: write <EMAIL>, <URL>, <IBAN>, <CARD>, <ID>, <IP>, <PHONE> in place of personal data of these forms.
        seed: chooses the rows of the splits that are cut.
        settings: each stands in for the argument of its name.
    """
    from pathlib import Path

    from undercut.steps import step

    with step("ingest", output=data.path):
        from undercut.hyperparameters import from_arguments
        from undercut.ingest.dataset import IngestConfig, ingest

        ingest(from_arguments(IngestConfig, locals(), settings=settings), Path(data.path))
