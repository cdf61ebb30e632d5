"""On the demo's tuned model: texts are about the latent's word, not about any word."""

import inspect
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sae_lens import SAE

from core.models import Model, cache_sites, load_model
from core.patch_scoping.generation import complete
from core.patch_scoping.injection import Injection
from core.patch_scoping.null_distribution import compare_with_null
from core.patch_scoping.prompt import ScopePrompt, template_prompt
from core.patch_scoping.sweep import SweepConfig, random_sweep, sweep
from core.saes import encode, load_sae_from_disk
from make_demo.measure import unigram_f1

pytestmark = pytest.mark.slow

DEMO = Path(__file__).parents[1] / "demo"
N_LATENTS = 24


def word_latents(model: Model, sae: SAE) -> dict[int, int]:
    """Latents whose 15 strongest positions mostly hold one word, with that word's token."""
    tokenizer = model.tokenizer
    members = (getattr(module, name, None) for module in (np, pd, torch) for name in dir(module))
    text = "\n".join(inspect.getdoc(member) or "" for member in members)
    ids = torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"])
    rows = ids[: len(ids) // 127 * 127].view(-1, 127)[::3][:300]
    rows = torch.cat([torch.zeros(len(rows), 1, dtype=torch.long), rows], 1)
    site = str(sae.cfg.metadata.hook_name)
    parts = [
        encode(sae, cache_sites(model, part, [site])[site][:, 4:]).flatten(0, 1)
        for part in rows.split(32)
    ]
    values, places = torch.cat(parts).topk(15, dim=0)
    top = rows[:, 4:].flatten()[places]
    tokens = top.mode(0).values
    alike = (values[-1] > 0) & ((top == tokens).sum(0) >= 10)
    return {
        latent: int(tokens[latent])
        for latent in torch.nonzero(alike)[:, 0].tolist()
        if re.fullmatch(r" ?[A-Za-z]{3,}", tokenizer.decode([int(tokens[latent])]))
    }


def test_texts_are_about_the_latents_word() -> None:
    model = load_model(DEMO / "models" / "docs-small-it", device="cpu")
    sae = load_sae_from_disk(DEMO / "saes" / "docs-small-res" / "blocks.1.hook_resid_pre")
    found = word_latents(load_model(DEMO / "models" / "docs-small", device="cpu"), sae)
    assert len(found) >= 20
    chosen = np.random.default_rng(0).permutation(sorted(found))[:N_LATENTS].tolist()
    prompt = template_prompt(model, "definition")
    assert "<start_of_turn>user" in prompt.text
    asked = []
    for latent in chosen:
        tokens = [
            found[latent] if i in prompt.positions else t for i, t in enumerate(prompt.tokens)
        ]
        asked.append(Injection(ScopePrompt("", tuple(tokens), "", ())))
    own = [completion.answer for [completion] in complete(model, asked, max_new_tokens=20)]
    config = SweepConfig(layers=(1,), multiples=(0.75, 1.25, 2.0), max_new_tokens=20, n_controls=0)
    swept = sweep(model, sae, chosen, {"definition": prompt}, config)
    best = swept.best(by="surest")
    read = best.set_index("latent").loc[chosen, "answer"].tolist()
    matched = np.mean([unigram_f1(a, b) for a, b in zip(read, own, strict=True)])
    shuffled = np.mean(
        [unigram_f1(a, b) for i, a in enumerate(read) for j, b in enumerate(own) if i != j]
    )
    assert matched > shuffled + 0.05
    # Latents of one word speak more clearly than random directions; the share of pairs is the AUC.
    random = random_sweep(model, {"definition": prompt}, replace(config, n_controls=80))
    controls, fresh = (random[random["latent"] < 40], random[random["latent"] >= 40])
    p, p_fresh = (
        np.array([one.p for one in compare_with_null(table, controls).values()])
        for table in (swept.table, fresh)
    )
    less, alike = p[:, None] < p_fresh[None], p[:, None] == p_fresh[None]
    assert less.mean() + alike.mean() / 2 > 0.55
