"""Stage 1: harvest, split, tokenizer, token files."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from core.docs_corpus import Docstring, drop_near_duplicates, harvest
from make_demo.recipe import (
    BOS,
    BOS_ID,
    END_OF_TURN,
    SPECIAL_TOKENS,
    START_OF_TURN,
    UNK,
    CorpusRecipe,
)

CHAT_TEMPLATE = (
    "{% for message in messages %}<start_of_turn>"
    "{{ 'model' if message.role == 'assistant' else message.role }}\n"
    "{{ message.content }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


@dataclass(frozen=True)
class Split:
    """Near-duplicate-free docstrings by use."""

    train: list[Docstring]
    """Trained on."""
    held_out_docstrings: list[Docstring]
    """Other docstrings of the same packages."""
    held_out_packages: list[Docstring]
    """Docstrings of packages that are never trained on."""


def split_corpus(recipe: CorpusRecipe) -> Split:
    """Harvest and split; held-out text shares at most `max_overlap` of its shingles with it."""
    kept = drop_near_duplicates(
        harvest(recipe.packages), max_overlap=recipe.max_overlap, seed=recipe.seed
    )[: recipe.max_docstrings]
    n_held_out = max(1, round(len(kept) * recipe.held_out_fraction))
    others = drop_near_duplicates(
        harvest(recipe.held_out_packages),
        max_overlap=recipe.max_overlap,
        against=kept,
        seed=recipe.seed,
    )
    # The kept list is already in a seeded random order, so its head is a random sample.
    return Split(kept[n_held_out:], kept[:n_held_out], others[: 2 * n_held_out])


def train_tokenizer(docstrings: Sequence[Docstring], recipe: CorpusRecipe) -> Tokenizer:
    """A byte-level BPE in GPT-2's form, special tokens first."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        (docstring.text for docstring in docstrings),
        trainers.BpeTrainer(
            vocab_size=recipe.vocab_size,
            special_tokens=list(SPECIAL_TOKENS),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return tokenizer


def encode(tokenizer: Tokenizer, docstrings: Sequence[Docstring]) -> np.ndarray:
    """All docstrings one after the other, each after a BOS: uint16 [n_tokens]."""
    pieces = []
    for encoding in tokenizer.encode_batch([docstring.text for docstring in docstrings]):
        pieces.append(np.array([BOS_ID, *encoding.ids], dtype=np.uint16))
    return np.concatenate(pieces)


def hugging_face_tokenizer(
    tokenizer_json: Path, *, context: int, chat: bool
) -> PreTrainedTokenizerFast:
    """The tokenizer as transformers loads it from a model folder."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(tokenizer_json),
        bos_token=BOS,
        eos_token=BOS,
        unk_token=UNK,
        additional_special_tokens=[START_OF_TURN, END_OF_TURN],
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )
    if chat:
        tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def build_text(recipe: CorpusRecipe, folder: Path) -> dict[str, int]:
    """Write tokenizer.json and the three token files into `folder`; returns token counts."""
    split = split_corpus(recipe)
    tokenizer = train_tokenizer(split.train, recipe)
    tokenizer.save(str(folder / "tokenizer.json"))
    rows = [[docstring.package, docstring.name, docstring.text] for docstring in split.train]
    (folder / "train.json").write_text(json.dumps(rows))
    counts = {"train_docstrings": len(split.train)}
    for name in ("train", "held_out_docstrings", "held_out_packages"):
        tokens = encode(tokenizer, getattr(split, name))
        np.save(folder / f"{name}.npy", tokens, allow_pickle=False)
        counts[f"{name}_tokens"] = len(tokens)
    return counts


def read_train_docstrings(folder: Path) -> list[Docstring]:
    """The docstrings that `build_text` trained the tokenizer on."""
    return [Docstring(*row) for row in json.loads((folder / "train.json").read_text())]
