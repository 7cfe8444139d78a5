"""Messages of several topics or none, written for these tests, and what is made of them once for all tests."""

import csv
import random
from pathlib import Path

import pytest
from undercut.ingest.dataset import IngestConfig, ingest

from tests.conftest import write_base_model

TOPICS = {
    "delivery": ["the parcel has not come", "the courier left it outside", "when will it be delivered"],
    "refund": ["i want my money back", "please refund the payment", "you charged me twice"],
    "damage": ["the screen is cracked", "it arrived broken", "one leg is missing"],
    "login": ["i cannot sign in", "my password does not work", "the account is locked"],
    "praise": ["your staff were lovely", "what a great product", "thank you so much"],
}
FILLERS = ["good morning", "i have a question", "it is me again", "order 4711", "as i said on monday", "best wishes"]


def topic_rows(count: int = 640, seed: int = 0) -> list[tuple[str, list[str]]]:
    """Return distinct messages with their topics, none to three of them, in a seeded order.

    Of one in twelve a topic is marked wrongly, too much or too little, as people do: no model gets all right.
    """
    chance = random.Random(seed)
    rows: dict[str, list[str]] = {}
    while len(rows) < count:
        topics = chance.sample(sorted(TOPICS), chance.choice([0, 1, 1, 1, 2, 2, 3]))
        parts = [chance.choice(TOPICS[topic]) for topic in topics]
        parts += chance.sample(FILLERS, 3 if not topics else chance.choice([1, 2]))
        chance.shuffle(parts)
        marked = {*topics} ^ ({chance.choice(sorted(TOPICS))} if chance.random() < 1 / 12 else set())
        rows.setdefault(" and ".join(parts), sorted(marked))
    return list(rows.items())


@pytest.fixture(scope="session")
def topics() -> list[tuple[str, list[str]]]:
    """640 messages with their topics."""
    return topic_rows()


@pytest.fixture(scope="session")
def topic_data(tmp_path_factory: pytest.TempPathFactory, topics: list[tuple[str, list[str]]]) -> Path:
    """The messages ingested from a CSV file whose label column has semicolons."""
    folder = tmp_path_factory.mktemp("topics")
    with (folder / "messages.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("text", "labels"), *((text, ";".join(labels)) for text, labels in topics)])
    ingest(IngestConfig(source=str(folder / "messages.csv"), label_separator=";"), folder / "data")
    return folder / "data"


@pytest.fixture(scope="session")
def topic_base(tmp_path_factory: pytest.TempPathFactory, topics: list[tuple[str, list[str]]]) -> Path:
    """A BERT with two layers of width 64 whose vocabulary is that of the messages."""
    return write_base_model(tmp_path_factory.mktemp("topic-base") / "base", topics)


@pytest.fixture(scope="session")
def topic_teacher(tmp_path_factory: pytest.TempPathFactory, topic_data: Path, topic_base: Path) -> Path:
    """The base, fine-tuned on the messages."""
    from undercut.finetune.classifier import finetune
    from undercut.finetune.settings import FinetuneConfig

    folder = tmp_path_factory.mktemp("topic-teacher")
    config = FinetuneConfig(
        base_model=str(topic_base), epochs=20, learning_rate=3e-3, batch_tokens=256, train_embeddings=True, seed=3
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNDERCUT_HOME", str(folder / "home"))
        finetune(topic_data, folder / "model", config)
    return folder / "model"
