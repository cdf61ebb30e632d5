"""A demo bundle with a latent that fires on one letter, and another that only seems to."""

from pathlib import Path

import torch
from transformers import GPT2LMHeadModel

from tests.builders import make_sae, write_sae
from tests.demo_bundle import D_MODEL, write_demo

RELEASE, SAE_ID = "docs-small-res", "blocks.0.hook_resid_pre"
PLANTED, DECOY = 37, 11
LETTER = "z"
PROMPT = "A lazy wizard gazed at a puzzle of dozens."
_SIZE, _FIRES_FROM = 20.0, 0.6
"""Activation at the letter, about; of its own size, what a token needs to make it fire."""


def write_planted(folder: Path) -> Path:
    """The bundle. Latent `PLANTED` of `SAE_ID` fires at the token of `LETTER` and nowhere else;
    `DECOY` fires at every token, and more strongly."""
    write_demo(folder)
    model = GPT2LMHeadModel.from_pretrained(folder / "models/docs-small")
    embeddings = model.transformer.wte.weight.detach()
    from transformers import AutoTokenizer

    token = AutoTokenizer.from_pretrained(folder / "models/docs-small").convert_tokens_to_ids(
        LETTER
    )
    # As the model reads them: what all tokens have in common, and the mean of each, left out.
    centred = embeddings - embeddings.mean(1, keepdim=True)
    away = centred[token] - centred.mean(0)
    sae = make_sae(
        "standard",
        d_in=D_MODEL,
        d_sae=64,
        hook_name="blocks.0.hook_resid_pre",
        model_name="docs-small",
        dataset_path="documentation of the installed packages",
        context_size=64,
    )
    with torch.no_grad():
        sae.b_dec.zero_()
        sae.W_enc[:, PLANTED] = _SIZE * away / (away @ centred[token])
        sae.b_enc[PLANTED] = -_SIZE * _FIRES_FROM
        sae.W_enc[:, DECOY] = 0.0
        sae.b_enc[DECOY] = 2 * _SIZE
    write_sae(sae, folder / "saes" / RELEASE / SAE_ID)
    return folder
