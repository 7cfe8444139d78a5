# ruff: noqa: RUF001 (the marks are meant as they are)
import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import BertConfig, BertForPreTraining, BertForSequenceClassification
from undercut import artifacts, corpus
from undercut.errors import ConfigurationError
from undercut.pretrain.language_model import pretrain
from undercut.pretrain.sentence_pairs import sentence_pairs
from undercut.pretrain.sentences import split_sentences
from undercut.pretrain.settings import PretrainConfig
from undercut.tasks.masked_lm import MaskedLM
from undercut.tasks.next_sentence import NextSentence

TOPICS = [
    "ship wave salt sail harbour tide",
    "flour oven yeast dough crust butter",
    "train track engine signal station ticket",
    "leaf root bark branch forest seed",
    "goal ball team match referee pitch",
    "star moon planet comet orbit sky",
]
LENGTH = 64


def documents(count: int, paragraphs: int = 4) -> tuple[list[str], list[str]]:
    """Return paragraphs and their documents; each document is about one topic and numbers its sentences."""
    generator = random.Random(0)
    texts, names = [], []
    for document in range(count):
        words = TOPICS[document % len(TOPICS)].split()
        for paragraph in range(paragraphs):
            sentences = [
                f"{document} {paragraph * 5 + i} the {generator.choice(words)} of the {generator.choice(words)}."
                for i in range(5)
            ]
            texts.append(" ".join(sentences))
            names.append(f"{document}.txt")
    return texts, names


def plain_documents(count: int) -> tuple[list[str], list[str]]:
    """Return documents of one paragraph; each has words of its topic only."""
    generator = random.Random(1)
    texts = []
    for document in range(count):
        words = TOPICS[document % len(TOPICS)].split()
        texts.append(" ".join(f"{' '.join(generator.choices(words, k=4))}." for _ in range(12)))
    return texts, [str(document) for document in range(count)]


@pytest.fixture(scope="module")
def articles(tmp_path_factory: pytest.TempPathFactory, make_unlabelled: Callable[..., Path]) -> Path:
    return make_unlabelled(tmp_path_factory.mktemp("articles") / "data", *documents(60))


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory, articles: Path) -> Path:
    from undercut.pretrain.vocabulary import train_tokenizer

    folder = tmp_path_factory.mktemp("vocabulary")
    train_tokenizer(corpus.shards(articles), "wordpiece", 500, True).save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory, articles: Path, vocabulary: Path) -> corpus.Corpus:
    return pairs_of(articles, vocabulary, tmp_path_factory.mktemp("pairs"))


def pairs_of(data: Path, vocabulary: Path, folder: Path, seed: int = 0) -> corpus.Corpus:
    tokenizer = Tokenizer.from_file(str(vocabulary / "tokenizer.json"))
    task = MaskedLM(vocabulary, LENGTH)
    return sentence_pairs(data, tokenizer, folder, LENGTH, (task.begin, task.end, 0), seed, 512)


@pytest.fixture
def task(vocabulary: Path) -> NextSentence:
    return NextSentence(MaskedLM(vocabulary, LENGTH, probability=0.3), padding=0)


@pytest.mark.parametrize(
    ("paragraph", "sentences"),
    [
        ("One. Two! Three? Four", ["One.", " Two!", " Three?", " Four"]),
        ('Dr. Lee said "Stop!" Then he left, e.g. home.', ['Dr. Lee said "Stop!"', " Then he left, e.g. home."]),
        ("J. R. Smith paid 3.50 euros. Really...", ["J. R. Smith paid 3.50 euros.", " Really..."]),
        ("你好。再见！“好的。”他说？", ["你好。", "再见！", "“好的。”", "他说？"]),
        ("A heading", ["A heading"]),
        (" \n ", []),
    ],
)
def test_where_sentences_end(paragraph: str, sentences: list[str]) -> None:
    assert split_sentences(paragraph) == sentences


def test_half_of_the_pairs_follow_and_the_others_are_strangers(packed: corpus.Corpus, vocabulary: Path) -> None:
    """Every sentence says its document and its number: the labels are checked against the text."""
    tokenizer = Tokenizer.from_file(str(vocabulary / "tokenizer.json"))
    pairs = []
    for ids, label in zip(np.asarray(packed.train.ids).tolist(), packed.train.labels.tolist(), strict=True):
        rows = [row.split(" [SEP] ") for row in decoded(tokenizer, ids).split("[CLS] ")[1:]]
        assert len(rows) == label.bit_length() - 1
        pairs += [(a, b, label >> i & 1) for i, (a, b, *_) in enumerate(rows)]
    assert len(pairs) > 250
    assert 0.4 < np.mean([follows for _, _, follows in pairs]) < 0.6
    for a, b, follows in pairs:
        (document, last), (other, first) = numbers(a)[-1], numbers(b)[0]
        assert (other == document) == bool(follows)
        if follows:
            assert first == last + 1


def decoded(tokenizer: Tokenizer, ids: list[int]) -> str:
    return " ".join(tokenizer.id_to_token(i) for i in ids if i).replace(" ##", "") + " "


def numbers(text: str) -> list[tuple[int, int]]:
    """Return document and number of each whole sentence."""
    words = text.split()
    at = [i for i, word in enumerate(words[:-1]) if word.isdigit() and words[i + 1].isdigit()]
    return [(int(words[i]), int(words[i + 1])) for i in at]


def test_rows_are_nearly_full_and_nothing_is_lost(packed: corpus.Corpus, articles: Path) -> None:
    rows = np.asarray(packed.train.ids)
    assert (rows == 0).mean() < 0.15
    assert (rows[:, 0] == rows[0, 0]).all()
    assert packed.texts == {"train": 228, "held_out": 12}
    held = {tuple(row) for row in np.asarray(packed.held_out.ids).tolist()}
    assert held.isdisjoint(tuple(row) for row in rows.tolist())


def test_pairs_are_those_of_the_seed(articles: Path, vocabulary: Path, packed: corpus.Corpus, tmp_path: Path) -> None:
    same, other = (pairs_of(articles, vocabulary, tmp_path / str(seed), seed) for seed in (0, 1))
    assert np.array_equal(same.train.ids, packed.train.ids)
    assert np.array_equal(same.train.labels, packed.train.labels)
    assert not np.array_equal(other.train.ids, packed.train.ids)


def test_short_pairs_share_a_row(make_unlabelled: Callable[..., Path], vocabulary: Path, tmp_path: Path) -> None:
    texts = [f"the ship {i}. the tide {i}." for i in range(200)]
    found = pairs_of(make_unlabelled(tmp_path / "data", texts), vocabulary, tmp_path / "pairs")
    rows = np.asarray(found.train.ids)
    pairs = sum(int(label).bit_length() - 1 for label in found.train.labels)
    assert pairs > 2.5 * len(rows)
    assert (rows == 0).mean() < 0.25


def model_of(vocabulary: Path) -> BertForPreTraining:
    torch.manual_seed(0)
    size = Tokenizer.from_file(str(vocabulary / "tokenizer.json")).get_vocab_size()
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    return BertForPreTraining(BertConfig(vocab_size=size, **sizes)).eval()


def test_the_loss_is_that_of_the_stock_model_on_each_pair_alone(
    task: NextSentence, make_unlabelled: Callable[..., Path], vocabulary: Path, tmp_path: Path
) -> None:
    texts = [f"the ship {i}. the tide {i}. the leaf." for i in range(200)]
    found = pairs_of(make_unlabelled(tmp_path / "data", texts), vocabulary, tmp_path / "pairs").train
    model = model_of(vocabulary)
    torch.manual_seed(1)
    batch = task.collate(found, np.arange(6))
    guessed = torch.full_like(batch["input_ids"], -100).flatten()
    guessed[batch["masked"]] = batch["labels"]
    guessed = guessed.view_as(batch["input_ids"])
    tokens, pairs, count, number = 0.0, 0.0, 0, 0
    model.requires_grad_(False)
    for row, segments in enumerate(batch["segments"]):
        for segment in range(1, int(segments.max()) + 1):
            here = segments == segment
            out = model(
                input_ids=batch["input_ids"][row, here][None], token_type_ids=batch["token_type_ids"][row, here][None]
            )
            wanted = guessed[row, here]
            tokens += float(
                torch.nn.functional.cross_entropy(out.prediction_logits[0], wanted, reduction="sum", ignore_index=-100)
            )
            count += int((wanted != -100).sum())
            truth = batch["strangers"][number : number + 1]
            pairs += float(torch.nn.functional.cross_entropy(out.seq_relationship_logits, truth))
            number += 1
    assert number == len(batch["strangers"]) > 12
    expected = tokens / count + pairs / number
    assert float(task.loss(model, batch)) / 6 == pytest.approx(expected, abs=1e-4)


def test_documents_of_one_sentence_are_refused_before_training(
    make_unlabelled: Callable[..., Path], tmp_path: Path
) -> None:
    data = make_unlabelled(tmp_path / "data", [f"the ship {i} of the tide" for i in range(60)])
    with pytest.raises(ConfigurationError, match=r"^next_sentence: got 'True with 0 train documents of two sentences"):
        pretrain(data, tmp_path / "model", PretrainConfig(vocabulary_size=300, next_sentence=True))
    assert not (tmp_path / "model").exists()


def test_a_causal_model_cannot_learn_it() -> None:
    with pytest.raises(ConfigurationError, match=r"^next_sentence: got True; allowed: False unless .* bert"):
        PretrainConfig(architecture="gpt2", tokenizer="bpe", next_sentence=True)


@pytest.mark.slow
def test_both_objectives_are_learned_and_measured_on_held_out_text(
    make_unlabelled: Callable[..., Path], tmp_path: Path
) -> None:
    data = make_unlabelled(tmp_path / "data", *plain_documents(800))
    settings = {"size": "tiny", "vocabulary_size": 400, "sequence_length": 32, "batch_tokens": 512}
    config = PretrainConfig(**settings, learning_rate=2e-3, epochs=3, next_sentence=True)
    manifest = pretrain(data, tmp_path / "model", config)
    metrics = manifest["metrics"]
    assert manifest["method"].startswith("masked language modelling and next-sentence prediction")
    assert metrics["next_sentence_pairs"] > 60
    assert metrics["next_sentence_accuracy"] > 0.8
    assert metrics["masked_loss"] < 2.5
    assert metrics["loss"] == pytest.approx(metrics["masked_loss"] + metrics["next_sentence_loss"])
    config_file = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config_file["architectures"] == ["BertForPreTraining"]
    before = BertForPreTraining.from_pretrained(tmp_path / "model").bert.pooler.dense.weight
    after = BertForSequenceClassification.from_pretrained(tmp_path / "model").bert.pooler.dense.weight
    assert torch.equal(before, after), "the pooler is there for fine-tuning"
    assert artifacts.verify(tmp_path / "model", artifacts.MODEL)["parameters"]["next_sentence"] is True
