"""Pretraining from scratch: a folder of raw text in, a base model for fine-tuning (or a small generator) out.

undercut run pipelines/pretrain.py --unlabelled_source books/ --size mini --max_seconds 600
"""

from collections.abc import Mapping
from typing import Any

from kfp import dsl
from undercut.allocate.component import allocate
from undercut.cluster import pods
from undercut.ingest.component import ingest
from undercut.pretrain.component import pretrain
from undercut.resources import DEFAULTS as RESOURCES
from undercut.resources import parse_resources

# Paths and URIs: a run pins them by content, so that a changed file is not served from the cache.
URIS = ("unlabelled_source",)


def check_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Check what the first step would refuse, before the first step; called by ``undercut``."""
    parse_resources(arguments["resources"])
    return dict(arguments)


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
    resources: dict = RESOURCES,
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
        resources: on a cluster: accelerator (nvidia.com/gpu, nvidia.com/mig-1g.10gb) and accelerator_count of training
            steps, cpu and memory of each step, node_selector and tolerations (JSON) of training steps, secret (whose
            HF_TOKEN and the like become environment), nodes (more than one trains in a TrainJob), processes.
        seed: of the held-out part, the weights, the order of rows and the masks.
    """
    # fmt: off
    pods_ask = allocate(resources=resources)
    data = ingest(
        unlabelled_source=unlabelled_source, near_duplicates=near_duplicates, quality_filter=quality_filter,
        languages=languages, seed=seed,
    ).after(pods_ask).outputs["data"]
    pretrain(
        data=data, architecture=architecture, size=size, tokenizer=tokenizer, vocabulary_size=vocabulary_size,
        sequence_length=sequence_length, next_sentence=next_sentence, epochs=epochs, learning_rate=learning_rate,
        max_seconds=max_seconds, seed=seed, settings=pretrain_settings, resources=resources,
    )
    pods.furnish(pods_ask.outputs)
    # fmt: on
