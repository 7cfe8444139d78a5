"""References: what is kept of a champion's data."""

from pathlib import Path

import numpy as np
from undercut import artifacts
from undercut.reference import read_reference, write_reference
from undercut.samples import key


def test_a_reference_holds_the_test_rows_and_keys_of_all(linear_model: Path, small_data: Path, tmp_path: Path) -> None:
    manifest = write_reference(linear_model, small_data, tmp_path)
    assert artifacts.verify(tmp_path, artifacts.REFERENCE)["digest"] == manifest["digest"]
    found = read_reference(tmp_path)
    train, test = (artifacts.texts_and_labels(small_data, split)[0] for split in ("train", "test"))
    assert found.labelled.rows == len(test)
    assert found.traffic is None
    assert len(found.texts) == 576
    assert key(train[0]) in found.learnt
    assert key(test[0]) not in found.learnt
    assert key(test[0]) in found.texts
    assert found.labelled.unknown.max() == 0
    assert 0.5 < found.labelled.correct.mean() <= 1
    assert manifest["rows"] == artifacts.load(small_data, artifacts.DATASET)["rows"]


def test_no_text_can_be_read_in_it(linear_model: Path, small_data: Path, tmp_path: Path) -> None:
    write_reference(linear_model, small_data, tmp_path)
    content = b"".join(p.read_bytes() for p in tmp_path.iterdir())
    words = {word for text in artifacts.texts_and_labels(small_data, "train")[0] for word in text.split()}
    names = {*artifacts.load(small_data, artifacts.DATASET)["labels"], "order"}
    assert not [word for word in words - names if len(word) > 4 and word.encode() in content]
    assert np.frombuffer(content[:8], np.uint8).any()
