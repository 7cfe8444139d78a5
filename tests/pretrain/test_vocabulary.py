import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from undercut import corpus
from undercut.pretrain.vocabulary import train_tokenizer

TRAIN = """
import sys
from pathlib import Path
from undercut import corpus
from undercut.pretrain.vocabulary import train_tokenizer
print(train_tokenizer(corpus.shards(Path(sys.argv[1])), sys.argv[2], 400, True).to_str())
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
def test_the_same_text_gives_the_same_vocabulary_in_another_process(small_text: Path, kind: str) -> None:
    here = train_tokenizer(corpus.shards(small_text), kind, 400, True).to_str()
    command = [sys.executable, "-c", TRAIN, str(small_text), kind]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() == here


def test_wordpiece_folds_case_and_frames_a_text(small_text: Path) -> None:
    tokenizer = train_tokenizer(corpus.shards(small_text), "wordpiece", 400, lowercase=True)
    assert tokenizer.encode("Where is my RÉFUND?").tokens == ["[CLS]", "where", "is", "my", "refund", "[UNK]", "[SEP]"]
    assert [tokenizer.id_to_token(i) for i in range(5)] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert Tokenizer.from_str(tokenizer.to_str()).encode("[MASK]").ids == [2, 4, 3]
    cased = train_tokenizer(corpus.shards(small_text), "wordpiece", 400, lowercase=False)
    assert "[UNK]" in cased.encode("REFUND").tokens


def test_byte_level_bpe_gives_any_text_back(small_text: Path) -> None:
    tokenizer = train_tokenizer(corpus.shards(small_text), "bpe", 400, True, special=("<|endoftext|>",))
    text = "where is my refund?\n\t退款 🙂"
    assert tokenizer.decode(tokenizer.encode(text).ids) == text
    assert len(tokenizer.encode("where is my refund")) == 6
    assert tokenizer.get_vocab_size() == 400


def test_each_chinese_character_is_a_token(make_unlabelled: Callable[..., Path], tmp_path: Path) -> None:
    data = make_unlabelled(tmp_path / "data", ["退款还没有到", "我要退货", "什么时候退款"] * 10)
    tokenizer = train_tokenizer(corpus.shards(data), "wordpiece", 300, lowercase=True)
    assert tokenizer.encode("什么时候退货").tokens == ["[CLS]", *"什么时候退货", "[SEP]"]
