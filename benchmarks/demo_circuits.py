"""How far the linear story holds on the demo: `python -m benchmarks.demo_circuits`.

For each pair of residual SAEs, the 20 strongest gradients on a sentence against a small step and
against ablation; the share of the induction pair's gradients that lies where induction would put
them; and the share of latents that raise tokens which start with a space.
"""

import sys
import warnings
from itertools import combinations

from sae_lens import SAE

from core.enrichment.builtin import builtin_sets
from core.enrichment.run import enrich_latents
from core.gradients.heads import head_scores, induction_layers
from core.gradients.induction import find_induction
from core.gradients.repeated_tokens import repeated_tokens
from core.gradients.to_latents import latent_route
from core.gradients.verify import Verification, changes, strongest_cells
from core.lease import PlainLease
from core.models import Model, load_model
from core.saes import load_sae_from_disk
from core.settings import Settings
from core.tokens import token_texts

SENTENCE = "Return the mean of the array elements along the given"
_DEMO = Settings.from_environment().demo_dir
_LAYERS = range(4)


def print_checks(model: Model, residual: list[SAE]) -> None:
    """A row a pair of layers: correlation of the strongest gradients with what happens."""
    _write("| layers | a small step | without targets TopK drops | ablation |")
    _write("|---|---|---|---|")
    for i, j in combinations(_LAYERS, 2):
        route = latent_route(model.to_tokens(SENTENCE), residual[i], residual[j], model).route
        gradients = route.gradients()
        found = Verification.of(changes(route, gradients, strongest_cells(gradients.numpy())))
        _write(
            f"| {i} → {j} | {found.step.correlation:.3f} | {found.step.correlation_alive:.3f} | "
            f"{found.ablation.correlation:.3f} |"
        )


def print_induction(model: Model) -> None:
    """Of the attention SAEs at the strongest previous-token and induction heads."""
    tokens = repeated_tokens(model, 10, n_prompts=4)
    scores = head_scores(model, tokens)
    early, late = induction_layers(scores, _LAYERS) or (0, 1)
    pair = [_read(f"docs-small-hook-z/blocks.{layer}.hook_z") for layer in (early, late)]
    found = find_induction(PlainLease(model, pair), tokens)
    _write(
        f"\nInduction, attention SAEs of layers {early} and {late}: "
        f"{found.boxes.share:.1%} in the boxes, chance {found.boxes.chance:.1%}, "
        f"without repetition {found.control_boxes.share:.1%}; {len(found.latents)} latents"
    )


def print_spaces(model: Model, sae: SAE) -> None:
    """How many latents raise tokens that start with a space, by both measures."""
    sets = builtin_sets(token_texts(model.tokenizer, model.cfg.d_vocab))
    column = next(n for n, named in enumerate(sets.sets) if named.name == "starts with a space")
    found = enrich_latents(PlainLease(model, [sae]), sets)
    raised = (found.scores[:, column] > 0) & (found.q[:, column] < 0.05)
    beyond = raised & (found.beyond_controls()[:, column] < 0.05)
    _write(
        f"{raised.mean():.0%} of the latents before layer 2 raise tokens that start with a space "
        f"(false discovery rate 5 %), {beyond.mean():.0%} more than 95 % of random directions"
    )


def _read(folder: str) -> SAE:
    return load_sae_from_disk(_DEMO / "saes" / folder, device="cpu")


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")


def main() -> None:
    """Print everything."""
    warnings.simplefilter("ignore")
    model = load_model(_DEMO / "models/docs-small", device="cpu")
    residual = [_read(f"docs-small-res/blocks.{layer}.hook_resid_pre") for layer in _LAYERS]
    print_checks(model, residual)
    print_induction(model)
    print_spaces(model, residual[2])


if __name__ == "__main__":
    main()
