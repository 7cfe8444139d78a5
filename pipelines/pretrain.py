"""Pretraining from scratch: a folder of raw text in, a base model for fine-tuning (or a small generator) out.

undercut run pipelines/pretrain.py --unlabelled_source books/ --size mini --max_seconds 600
"""

from kfp import dsl
from undercut.ingest.component import ingest
from undercut.pretrain.component import pretrain

# Paths and URIs: a run pins them by content, so that a changed file is not served from the cache.
URIS = ("unlabelled_source",)


@dsl.pipeline(name="pretraining")
def pretraining(
    unlabelled_source: str,
    near_duplicates: float = 0.0,
    quality_filter: bool = False,
    languages: str = "",
    architecture: str = "bert",
    size: str = "mini",
    tokenizer: str = "wordpiece",
    vocabulary_size: int = 30522,
    sequence_length: int = 128,
    next_sentence: bool = False,
    epochs: int = 1,
    learning_rate: float = 1e-3,
    max_seconds: float = 0.0,
    pretrain_settings: dict = {},  # noqa: B006
    seed: int = 0,
):
    """Train a tokenizer and a language model from scratch on raw text, and report its held-out perplexity.

    Args:
        unlabelled_source: a folder or file of .txt, .md or .jsonl, also .gz; a path or URI.
        near_duplicates: similarity from which paragraphs count as one and the later is left out; 0 for off.
        quality_filter: leave out documents that are lists, code, menus or repetition.
        languages: keep only text in these, such as en,de; empty for all.
        architecture: bert (masked), gpt2 or llama (causal).
        size: tiny, mini, small, medium or base.
        tokenizer: wordpiece or bpe.
        vocabulary_size: tokens of the vocabulary at most.
        sequence_length: tokens of a packed row; also the longest text the model will take.
        next_sentence: learn as well which sentences follow each other (bert; needs documents of several sentences).
        epochs: passes over the text.
        learning_rate: the schedule's peak.
        max_seconds: stop after this many seconds of training; 0 for no limit.
        pretrain_settings: more of pretrain, such as batch_tokens 512, masking token, max_steps 1000.
        seed: of the held-out part, the weights, the order of rows and the masks.
    """
    # fmt: off
    data = ingest(
        unlabelled_source=unlabelled_source, near_duplicates=near_duplicates, quality_filter=quality_filter,
        languages=languages, seed=seed,
    ).outputs["data"]
    pretrain(
        data=data, architecture=architecture, size=size, tokenizer=tokenizer, vocabulary_size=vocabulary_size,
        sequence_length=sequence_length, next_sentence=next_sentence, epochs=epochs, learning_rate=learning_rate,
        max_seconds=max_seconds, seed=seed, settings=pretrain_settings,
    )
    # fmt: on
