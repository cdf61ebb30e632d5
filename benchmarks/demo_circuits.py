"""How far the linear story holds on the demo: `python -m benchmarks.demo_circuits`.

For each pair of residual SAEs, the 20 strongest gradients on a sentence against a small step and
against ablation; the share of the induction pair's gradients that lies where induction would put
them; and the share of latents that raise tokens which start with a space.
"""

import sys
import warnings
from itertools import combinations

from sae_lens import SAE

from core.enrichment import builtin_sets, read_vocabulary
from core.enrichment.run import enrich
from core.gradients.induction import find_induction
from core.gradients.latents import latent_route
from core.gradients.repeated import head_scores, repeated_tokens
from core.gradients.verify import strongest_cells, verify
from core.models import load_model
from core.saes import load_sae_from_disk
from core.settings import REPOSITORY

SENTENCE = "Return the mean of the array elements along the given"
_DEMO = REPOSITORY / "demo"


def main() -> None:
    """Print everything."""
    warnings.simplefilter("ignore")
    model = load_model(_DEMO / "models/docs-small", device="cpu")

    def read(folder: str) -> SAE:
        return load_sae_from_disk(_DEMO / "saes" / folder, device="cpu")

    write = sys.stdout.write
    residual = [read(f"docs-small-res/blocks.{layer}.hook_resid_pre") for layer in range(4)]
    write("| layers | a small step | without targets TopK drops | ablation |\n|---|---|---|---|\n")
    for i, j in combinations(range(4), 2):
        route = latent_route(model.to_tokens(SENTENCE), residual[i], residual[j], model).route
        gradients = route.gradients()
        found = verify(route, gradients, strongest_cells(gradients))
        write(
            f"| {i} → {j} | {found.step.correlation:.3f} | {found.step.correlation_alive:.3f} | "
            f"{found.ablation.correlation:.3f} |\n"
        )
    scores = head_scores(model, repeated_tokens(model, 10, n_prompts=4))
    layer = int(scores.loc[scores["induction"].idxmax(), "layer"])
    pair = [read(f"docs-small-hook-z/blocks.{it}.hook_z") for it in (layer - 1, layer)]
    induction = find_induction(model, *pair)
    write(
        f"\nInduction, attention SAEs of layers {layer - 1} and {layer}: "
        f"{induction.boxes.share:.1%} in the boxes, chance {induction.boxes.chance:.1%}, "
        f"without repetition {induction.control_boxes.share:.1%}; "
        f"{len(induction.latents)} latents\n"
    )
    sets = builtin_sets(read_vocabulary(model.tokenizer, model.cfg.d_vocab))
    spaces = next(n for n, it in enumerate(sets.sets) if it.name == "starts with a space")
    enriched = enrich(residual[2].W_dec.detach(), model.W_U.detach(), sets)
    raised = (enriched.scores[:, spaces] > 0) & (enriched.q[:, spaces] < 0.05)
    beyond = raised & (enriched.beyond_controls()[:, spaces] < 0.05)
    write(
        f"{raised.mean():.0%} of the latents before layer 2 raise tokens that start with a space "
        f"(false discovery rate 5 %), {beyond.mean():.0%} more than 95 % of random directions\n"
    )


if __name__ == "__main__":
    main()
