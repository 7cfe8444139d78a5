"""Models to pretrain, by architecture and size.

Sizes are those of the BERT miniatures (Turc et al. 2019, "Well-read students learn better"): heads of 64
dimensions and a feed-forward layer of four times the width, for every architecture.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForPreTraining,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from undercut.pretrain.settings import SIZES, Size

DROPOUT = 0.1


@dataclass(frozen=True)
class Architecture:
    """How to build one kind of model: from size, vocabulary and longest sequence.

    ``build_of_pairs`` builds it for next-sentence prediction, where it can learn that.
    """

    build: Callable[[Size, int, int], PreTrainedModel]
    build_of_pairs: Callable[[Size, int, int], PreTrainedModel] | None = None


def bert(size: Size, vocabulary: int, length: int) -> PreTrainedModel:
    """Return a BERT with a masked-LM head tied to the embeddings (Devlin et al. 2019)."""
    return BertForMaskedLM(_bert_config(size, vocabulary, length))


def bert_of_pairs(size: Size, vocabulary: int, length: int) -> PreTrainedModel:
    """Return a BERT with a pooler and a next-sentence head as well."""
    return BertForPreTraining(_bert_config(size, vocabulary, length))


def _bert_config(size: Size, vocabulary: int, length: int) -> BertConfig:
    return BertConfig(
        vocab_size=vocabulary,
        hidden_size=size.width,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        intermediate_size=4 * size.width,
        max_position_embeddings=length,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=0,
    )


def gpt2(size: Size, vocabulary: int, length: int) -> PreTrainedModel:
    """Return a GPT-2 (Radford et al. 2019); token 0 ends a text."""
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=vocabulary,
            n_embd=size.width,
            n_layer=size.layers,
            n_head=size.heads,
            n_positions=length,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=0,
            eos_token_id=0,
            pad_token_id=0,
        )
    )


def llama(size: Size, vocabulary: int, length: int) -> PreTrainedModel:
    """Return a Llama (Touvron et al. 2023) with tied embeddings; token 0 ends a text.

    The gated feed-forward layer has 8/3 of the width, as many weights as an ungated one of four times.
    """
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=size.width,
            num_hidden_layers=size.layers,
            num_attention_heads=size.heads,
            num_key_value_heads=size.heads,
            intermediate_size=-(-8 * size.width // 3) // 32 * 32,
            max_position_embeddings=length,
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=0,
            pad_token_id=0,
        )
    )


ARCHITECTURES = {
    "bert": Architecture(bert, build_of_pairs=bert_of_pairs),
    "gpt2": Architecture(gpt2),
    "llama": Architecture(llama),
}


def build(
    architecture: str, size: str, vocabulary: int, length: int, seed: int, next_sentence: bool = False
) -> PreTrainedModel:
    """Return a model with random weights, without dropout: on text seen about once it only costs.

    See Geiping & Goldstein 2023, "Cramming", section 4.2. :func:`for_finetuning` turns it on again.
    """
    torch.manual_seed(seed)
    chosen = ARCHITECTURES[architecture]
    how = chosen.build_of_pairs if next_sentence else chosen.build
    assert how is not None, architecture
    return how(SIZES[size], vocabulary, length)


def for_finetuning(model: PreTrainedModel) -> None:
    """Set the dropout with which an encoder is usually fine-tuned in the configuration that is saved."""
    if model.config.model_type == "bert":
        model.config.hidden_dropout_prob = DROPOUT
        model.config.attention_probs_dropout_prob = DROPOUT
