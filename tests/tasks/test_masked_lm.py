from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import BertConfig, BertForMaskedLM
from undercut.errors import ConfigurationError
from undercut.optimization import Precision
from undercut.tasks.masked_lm import MaskedLM, masked_logits

TEXTS = ["where is my refund", "tracking does not move thanks", "cancel my order", "stop the order please"] * 40
NO_LABELS = np.zeros(len(TEXTS), dtype=np.int64)
FP32 = Precision(device="cpu", bf16=False)


@pytest.fixture
def task(tiny_base: Path) -> MaskedLM:
    return MaskedLM(tiny_base, length=16, masking="token")


def model(task: MaskedLM) -> BertForMaskedLM:
    torch.manual_seed(0)
    size = task.tokenizer.get_vocab_size()
    config = BertConfig(vocab_size=size, hidden_size=32, num_hidden_layers=2, num_attention_heads=2)
    return BertForMaskedLM(config).eval()


def test_a_batch_hides_the_share_it_says(task: MaskedLM) -> None:
    rows = task.encode(TEXTS, NO_LABELS)
    torch.manual_seed(0)
    chosen = hidden = changed = eligible = 0
    for _ in range(20):
        batch = task.collate(rows, np.arange(len(rows.labels)))
        original = torch.from_numpy(np.asarray(rows.ids))
        now = batch["input_ids"].flatten()[batch["masked"]]
        assert torch.equal(original.flatten()[batch["masked"]], batch["labels"])
        chosen += len(now)
        hidden += int((now == task.mask).sum())
        changed += int(((now != task.mask) & (now != batch["labels"])).sum())
        eligible += int((original > 4).sum())
    assert chosen / eligible == pytest.approx(0.15, abs=0.01)
    assert hidden / chosen == pytest.approx(0.8, abs=0.02)
    assert changed / chosen == pytest.approx(0.1, abs=0.02)


def test_whole_words_are_hidden_together(tiny_base: Path) -> None:
    task = MaskedLM(tiny_base, length=16, masking="whole-word", probability=0.3)
    rows = task.encode(["unhappy xyz"] * 60, NO_LABELS)
    batch = task.collate(rows, np.arange(len(rows.labels)))
    guessed = torch.zeros(batch["input_ids"].numel(), dtype=torch.bool)
    guessed[batch["masked"]] = True
    tokens = [task.tokenizer.id_to_token(i) for i in np.asarray(rows.ids).ravel().tolist()]
    width = len(rows.ids[0])
    together = [
        bool(guessed[i] == guessed[i - 1])
        for i in range(len(tokens))
        if i % width and tokens[i].startswith("##") and tokens[i - 1] not in ("[CLS]", "[SEP]", "[UNK]")
    ]
    assert len(together) > 100
    assert all(together)


def test_packed_texts_do_not_see_each_other(task: MaskedLM) -> None:
    """The logits of a text in a packed row are those of the text alone: the dense model is the check."""
    rows = task.encode(["cancel my order", "where is my refund", "hi"] * 20, NO_LABELS)
    batch = dict(task.collate(rows, np.array([0])))
    width = batch["input_ids"].shape[1]
    batch["masked"] = torch.arange(width)
    net = model(task)
    with torch.inference_mode():
        packed = masked_logits(net, batch)
        segments = batch["segments"][0]
        for segment in segments.unique():
            here = segments == segment
            alone = net(input_ids=batch["input_ids"][:, here]).logits[0]
            torch.testing.assert_close(packed[here], alone, atol=1e-4, rtol=1e-4)


def test_the_loss_is_that_of_the_dense_head(task: MaskedLM) -> None:
    rows = task.encode(TEXTS, NO_LABELS)
    torch.manual_seed(1)
    batch = task.collate(rows, np.arange(8))
    net = model(task)
    labels = torch.full_like(batch["input_ids"], -100).flatten()
    labels[batch["masked"]] = batch["labels"]
    same = batch["segments"][:, None, :, None] == batch["segments"][:, None, None, :]
    with torch.inference_mode():
        hidden = net.bert(batch["input_ids"], attention_mask=same, position_ids=batch["position_ids"])
        dense = torch.nn.functional.cross_entropy(net.cls(hidden.last_hidden_state).flatten(0, 1), labels)
        assert float(task.loss(net, batch)) / 8 == pytest.approx(float(dense), abs=1e-4)


def test_held_out_masks_are_the_same_each_time(task: MaskedLM) -> None:
    rows, net = task.encode(TEXTS, NO_LABELS), model(task)
    first, second = (task.metrics(net, rows, FP32) for _ in range(2))
    assert first == second
    assert first["perplexity"] == pytest.approx(np.exp(first["loss"]))
    assert first["loss"] == pytest.approx(np.log(task.tokenizer.get_vocab_size()), abs=0.3)


def test_a_tokenizer_without_a_mask_is_refused(tmp_path: Path) -> None:
    Tokenizer(WordLevel({"[CLS]": 0, "[SEP]": 1}, unk_token="[CLS]")).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ConfigurationError, match=r"^tokenizer\.json: got"):
        MaskedLM(tmp_path, 16)
