"""Pretrain a language model from scratch on text without labels.

A tokenizer is trained on the text, the text is tokenised and packed once (:mod:`undercut.corpus`), and the
loop walks over the packed rows in a shuffled order that any position can be computed of. An interrupted
run goes on from there: the tokenizer, the shards already tokenised and the newest checkpoint are kept
until the model is written.
"""

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from undercut import artifacts, checkpoints, corpus, events, workspace
from undercut.language_models import HELD_OUT_ROWS, fit_language_model
from undercut.pretrain.architectures import build, for_finetuning
from undercut.pretrain.left_out import described, fixed_settings, left_out
from undercut.pretrain.sentence_pairs import sentence_pairs
from undercut.pretrain.settings import PretrainConfig
from undercut.pretrain.vocabulary import train_tokenizer
from undercut.tasks import causal_lm
from undercut.tasks.causal_lm import CausalLM
from undercut.tasks.masked_lm import PADDING, SPECIAL, MaskedLM
from undercut.tasks.next_sentence import NextSentence
from undercut.tasks.protocol import Objective

SAMPLE_TOKENS = 100


def pretrain(data: Path, output: Path, config: PretrainConfig) -> artifacts.Manifest:
    """Pretrain on a dataset folder's text and write a sealed model folder.

    Args:
        data: dataset folder; its split ``unlabelled`` is read, or the training rows' text where there is none.
        output: where the model goes: safetensors, tokenizer, config, ``model.json``; a base for finetune. With
            no epochs it is marked lost, and nothing is read.
        config: settings.

    Raises:
        ConfigurationError: there is neither, or too little text.
    """
    if config.epochs == 0:
        left_out(output, config)
        return artifacts.load(output, artifacts.MODEL)
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    card = artifacts.load(data, artifacts.DATASET)
    files = corpus.shards(data)
    corpus.announce(data)
    events.parameters(asdict(config))
    settings = fixed_settings(config)
    key = checkpoints.content_key(
        data=card["digest"],
        settings=settings,
        code=workspace.code_digest(),
        torch=torch.__version__,
        threads=torch.get_num_threads(),
    )
    folder = workspace.home() / "checkpoints" / key
    with checkpoints.locked(folder):
        tokenizer = _tokenizer(files, folder, config)
        model, content = _train(data, tokenizer, folder, config)
    for_finetuning(model)
    model.save_pretrained(output)
    shutil.copyfile(folder / "tokenizer.json", output / "tokenizer.json")
    manifest = artifacts.seal(
        output,
        artifacts.MODEL,
        {
            **described(config),
            "dataset": card["digest"],
            "parameter_count": sum(p.numel() for p in model.parameters()),
            "lost": "",
            **content,
        },
    )
    checkpoints.finish(folder)
    return manifest


def _tokenizer(files: list[Path], folder: Path, config: PretrainConfig) -> Tokenizer:
    path = folder / "tokenizer.json"
    if not checkpoints.recall(path):
        special = (causal_lm.END,) if config.causal else SPECIAL
        tokenizer = train_tokenizer(files, config.tokenizer, config.vocabulary_size, config.lowercase, special)
        tokenizer.save(str(path.with_suffix(".partial")))
        path.with_suffix(".partial").replace(path)
        checkpoints.remember(path)
    return Tokenizer.from_file(str(path))


def _train(
    data: Path, tokenizer: Tokenizer, folder: Path, config: PretrainConfig
) -> tuple[PreTrainedModel, dict[str, Any]]:
    task, text = _task_and_text(data, tokenizer, folder, config)
    size, length = tokenizer.get_vocab_size(), config.sequence_length
    model = build(config.architecture, config.size, size, length, config.seed, config.next_sentence)
    _, metrics = fit_language_model(model, task, text, config.plan, folder / "train")
    if not config.causal:
        objective = "masked language modelling" + (" and next-sentence prediction" if config.next_sentence else "")
        return model, {"method": f"{objective} from scratch, {config.masking} masks", "metrics": metrics}
    metrics["sample"] = causal_lm.sample(model, tokenizer, "", SAMPLE_TOKENS, config.seed)
    events.message(f"it writes: {metrics['sample']}")
    return model, {"method": "next tokens from scratch", "metrics": metrics}


def _task_and_text(
    data: Path, tokenizer: Tokenizer, folder: Path, config: PretrainConfig
) -> tuple[Objective, corpus.Corpus]:
    length = config.sequence_length
    if config.next_sentence:
        masked = MaskedLM(folder, length, config.masking, config.mask_probability)
        padding = tokenizer.token_to_id(PADDING)
        assert padding is not None, "the tokenizer was trained with it"
        special = (masked.begin, masked.end, padding)
        text = sentence_pairs(data, tokenizer, folder / "tokens", length, special, config.seed, HELD_OUT_ROWS)
        return NextSentence(masked, padding), text
    task: MaskedLM | CausalLM
    if config.causal:
        task = CausalLM(folder, length)
    else:
        task = MaskedLM(folder, length, config.masking, config.mask_probability)
    return task, corpus.tokenize(data, tokenizer, folder / "tokens", length, task.begin, task.end, HELD_OUT_ROWS)
