from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from undercut import corpus
from undercut.errors import ConfigurationError

Make = Callable[..., Path]
WORDS = [f"w{i}" for i in range(1000)]


@pytest.fixture
def tokenizer() -> Tokenizer:
    vocabulary = {word: i for i, word in enumerate(["[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


def tokenize(data: Path, tokenizer: Tokenizer, folder: Path, length: int = 4) -> corpus.Corpus:
    return corpus.tokenize(data, tokenizer, folder, length, begin=1, end=2, held_out_rows=100)


def test_every_text_is_in_one_part_framed_by_its_ends(
    tmp_path: Path, tokenizer: Tokenizer, make_unlabelled: Make
) -> None:
    texts = [f"w{i} w{i + 1}" for i in range(100)]
    found = tokenize(make_unlabelled(tmp_path / "data", texts), tokenizer, tmp_path / "tokens")
    assert found.texts == {"train": 95, "held_out": 5}
    assert found.tokens == {"train": 380, "held_out": 20}
    rows = np.asarray(found.train.ids)
    assert rows.shape == (95, 4)
    assert rows.dtype == np.uint16
    assert rows[0].tolist() == [1, 3, 4, 2]
    assert np.asarray(found.held_out.ids)[0].tolist() == [1, 22, 23, 2]
    held = {row[1] - 3 for row in np.asarray(found.held_out.ids).tolist()}
    assert held == {19, 39, 59, 79, 99}
    assert held.isdisjoint(row[1] - 3 for row in rows.tolist())


def test_texts_of_a_document_are_one_text(tmp_path: Path, tokenizer: Tokenizer, make_unlabelled: Make) -> None:
    texts = [f"w{i}" for i in range(40)]
    documents = [str(i // 4) for i in range(40)]
    found = tokenize(make_unlabelled(tmp_path / "data", texts, documents, shards=1), tokenizer, tmp_path / "tokens")
    stream = np.asarray(found.train.ids).ravel().tolist()
    assert stream[:12] == [1, 3, 4, 5, 6, 2, 1, 7, 8, 9, 10, 2]


def test_an_interrupted_tokenisation_goes_on_at_the_shard(
    tmp_path: Path, tokenizer: Tokenizer, make_unlabelled: Make
) -> None:
    data = make_unlabelled(tmp_path / "data", [f"w{i}" for i in range(300)])
    whole = tokenize(data, tokenizer, tmp_path / "whole")
    hold_out, folder = corpus.HoldOut.of(300), tmp_path / "part"
    writer = corpus._Writer(folder, 1, 2, tokenizer.get_vocab_size())
    writer.append(tokenizer, corpus.shards(data)[0], hold_out)
    with (folder / "train.bin").open("ab") as stream:
        stream.write(b"half of the second shard")
    resumed = tokenize(data, tokenizer, folder)
    assert np.array_equal(whole.train.ids, resumed.train.ids)
    assert np.array_equal(whole.held_out.ids, resumed.held_out.ids)
    again = tokenize(data, tokenizer, folder)
    assert again.tokens == whole.tokens


def test_held_out_blocks_are_few_and_spread() -> None:
    for texts in (20, 576, 100_000, 5_000_000):
        rule = corpus.HoldOut.of(texts)
        held = [i for i in range(0, texts, rule.block) if i in rule]
        assert held
        assert len(held) * rule.block <= max(1, texts * 0.06)
        assert len(held) <= 300


def test_too_short_a_corpus_is_refused(tmp_path: Path, tokenizer: Tokenizer, make_unlabelled: Make) -> None:
    data = make_unlabelled(tmp_path / "data", ["w1 w2"] * 40)
    with pytest.raises(ConfigurationError, match="held_out tokens"):
        tokenize(data, tokenizer, tmp_path / "tokens", length=64)
