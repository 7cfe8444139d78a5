"""The small data with a fourth split of texts that nobody labelled."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from undercut import artifacts


@pytest.fixture(scope="session")
def data_with_unlabelled(tmp_path_factory: pytest.TempPathFactory, small_data: Path) -> Path:
    """A dataset folder: the small data, 40 new unlabelled texts, and two that are labelled as well."""
    folder = tmp_path_factory.mktemp("unlabelled") / "data"
    card = artifacts.load(small_data, artifacts.DATASET)
    artifacts.copy_files(small_data, folder, card["files"])
    known, _ = artifacts.texts_and_labels(small_data, "train")
    texts = [f"{opening} {known[i]}" for opening in ("well,", "so") for i in range(20)]
    pq.write_table(pa.table({"text": [*texts, *known[:2]]}), folder / "unlabelled.parquet")
    artifacts.seal(folder, artifacts.DATASET, artifacts.content(card))
    return folder
