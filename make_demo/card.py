"""The generated model card, demo/README.md: figures against their aims, recipe, time, licences."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from itertools import pairwise
from typing import Any

from make_demo.recipe import Recipe
from make_demo.wordnet import ATTRIBUTION


def model_card(
    recipe: Recipe,
    *,
    text: Mapping[str, Any],
    measured: Mapping[str, Any],
    seconds: Mapping[str, Mapping[str, float]],
    bundle_bytes: int,
) -> str:
    """Markdown; every figure comes from `measured`."""
    return "\n".join(
        [
            "# The demo bundle",
            "",
            "Made by `make demo`; this page is generated from what that run measured. Two small "
            "models of the documentation of Python's scientific stack, and the sparse autoencoders "
            "(SAEs) trained on the first of them. They exist so that the explorer can be tried "
            "without a GPU, a key or a network. They are real, and they are small: nothing here "
            "says anything about large models.",
            "",
            *_models(recipe, measured),
            *_aims(recipe, measured, bundle_bytes),
            *_saes(measured["saes"]),
            *_reading(measured),
            *_recipe(recipe, text, seconds),
            "## Licences",
            "",
            "Weights, like the code, under the MIT licence. The training text is the documentation "
            "of packages under BSD-, MIT- and Apache-style licences; none of it is shipped. "
            + ATTRIBUTION,
            "",
        ]
    )


def _models(recipe: Recipe, measured: Mapping[str, Any]) -> list[str]:
    base = recipe.base
    return [
        "## Models",
        "",
        f"- `docs-small`: GPT-2 architecture, {base.n_layers} layers, d_model {base.d_model}, "
        f"{base.n_heads} heads, vocabulary {recipe.corpus.vocab_size}, context {base.context}, "
        f"{measured['parameters'] / 1e6:.1f} M parameters, fp16 on disk.",
        '- `docs-small-it`: the same model tuned to answer `What is the meaning of the word "X"?` '
        "in Gemma's chat format. **It was tuned to read vectors, as Gemma was not**: in "
        f"{recipe.tune.vector_fraction:.0%} of its tuning batches the word's residual is replaced "
        "by a vector (a mean of the word's contexts, or a decoder direction of SAEs trained for "
        "this purpose only and not shipped, either with noise and another latent's direction "
        "added). So patch scoping works here far better than it would on an untuned model of this "
        "size.",
        "",
    ]


def _aims(recipe: Recipe, measured: Mapping[str, Any], bundle_bytes: int) -> list[str]:
    rows = [
        "## Figures against their aims",
        "",
        "| figure | measured | aim | |",
        "|---|---|---|---|",
    ]
    for name, title in (
        ("held_out_docstrings", "held-out docstrings"),
        ("held_out_packages", f"held-out packages ({', '.join(recipe.corpus.held_out_packages)})"),
    ):
        loss = measured["language"][name]
        gain = loss["trigram"] - loss["model"]
        rows.append(
            f"| Validation loss, {title}: {loss['model']:.2f} nats; Kneser-Ney trigram "
            f"{loss['trigram']:.2f} | {gain:.2f} better | ≥ 0.8 better | {_mark(gain >= 0.8)} |"
        )
    induction = measured["induction"]
    share = induction["second_copy"] / induction["first_copy"]
    rows.append(
        f"| Induction: loss on the second copy of random tokens {induction['second_copy']:.3f}, "
        f"first copy {induction['first_copy']:.2f} | {share:.1%} | ≤ 2 % | {_mark(share <= 0.02)} |"
    )
    reading = measured["reading_mean"]
    rows.append(
        f"| `docs-small-it` reading unseen SAEs' directions: unigram F1 with its own definition of "
        f"the latent's top token | {reading['f1']:.2f} | ≥ 0.55 | {_mark(reading['f1'] >= 0.55)} |"
    )
    rows.append(
        f"| The same with latents shuffled | {reading['shuffled_f1']:.2f} | ≤ 0.12 | "
        f"{_mark(reading['shuffled_f1'] <= 0.12)} |"
    )
    saes = measured["saes"]
    wide = {
        key: value
        for key, value in saes.items()
        if "hook_z" not in key
        and value["width"] >= recipe.saes.residual_multiple * recipe.base.d_model
    }
    least = min((value["explained_variance"] for value in wide.values()), default=0.0)
    most_l0 = max((value["l0"] for value in wide.values()), default=0.0)
    rows.append(
        f"| Residual SAEs of width {recipe.saes.residual_multiple}× and more: lowest explained "
        f"variance, at L0 ≤ {most_l0:.0f} | {least:.3f} | ≥ 0.85 at L0 ≤ 32 | "
        f"{_mark(least >= 0.85 and most_l0 <= 32)} |"
    )
    recovered = min(value["loss_recovered"] for value in saes.values())
    rows.append(
        f"| Lowest loss recovered of any SAE | {recovered:.3f} | ≥ 0.9 | "
        f"{_mark(recovered >= 0.9)} |"
    )
    dead = max(value["dead_fraction"] for value in saes.values())
    rows.append(f"| Highest dead fraction of any SAE | {dead:.1%} | < 5 % | {_mark(dead < 0.05)} |")
    family = sorted(
        (value["width"], value["explained_variance"])
        for key, value in saes.items()
        if "splitting" in key
    )
    rises = all(a[1] < b[1] for a, b in pairwise(family))
    rows.append(
        "| Explained variance rises with the width of the family | "
        f"{' < '.join(f'{ev:.3f}' for _, ev in family)} | strictly | {_mark(rises)} |"
    )
    rows.append(
        f"| Size of the bundle | {bundle_bytes / 1e6:.1f} MB | ≤ 70 MB | "
        f"{_mark(bundle_bytes <= 70e6)} |"
    )
    return [*rows, ""]


def _mark(reached: bool) -> str:
    return "reached" if reached else "**missed**"


def _saes(saes: Mapping[str, Mapping[str, float]]) -> list[str]:
    rows = [
        "## SAEs",
        "",
        "TopK SAEs in sae_lens format, fp16 on disk, trained on the activations of `docs-small` as "
        "transformer_lens loads it (layer norms folded, writing weights centred), BOS left out. "
        "L0, explained variance and loss recovered (against zero ablation) on held-out docstrings.",
        "",
        "| release / id | width | L0 | explained variance | loss recovered | dead |",
        "|---|---|---|---|---|---|",
    ]
    for key, value in saes.items():
        rows.append(
            f"| {key} | {value['width']:,} | {value['l0']:.1f} | "
            f"{value['explained_variance']:.3f} | {value['loss_recovered']:.3f} | "
            f"{value['dead_fraction']:.2%} |"
        )
    return [*rows, ""]


def _reading(measured: Mapping[str, Any]) -> list[str]:
    rows = [
        "## Reading decoder directions",
        "",
        "Latents whose 15 strongest positions hold the same word at least 10 times; their decoder "
        "direction replaces the word at the input of the SAE's layer, at the scale (0.5 to 2 × the "
        "typical residual norm) whose text the model is surest of; unigram F1 with the model's own "
        "definition of the word. No direction of these SAEs was seen in tuning.",
        "",
        "| SAE | latents | F1 | shuffled | word for word |",
        "|---|---|---|---|---|",
    ]
    examples: list[str] = []
    for key, value in measured["reading"].items():
        rows.append(
            f"| {key} | {value['n_latents']} | {value['f1']:.2f} | {value['shuffled_f1']:.2f} | "
            f"{value['exact']:.0%} |"
        )
        examples += [
            f"| `{token}` | {own} | {read} |" for token, own, read in value["examples"][:4]
        ]
    rows += ["", "| top token | own definition | read from the direction |", "|---|---|---|"]
    return [*rows, *examples, ""]


def _recipe(
    recipe: Recipe, text: Mapping[str, Any], seconds: Mapping[str, Mapping[str, float]]
) -> list[str]:
    base = recipe.base
    tokens_seen = (base.steps + base.second_steps) * base.batch * base.context
    times = "; ".join(
        f"{sum(by_kind.values()) / 60:.0f} minutes on {machine} ("
        + ", ".join(f"{kind} {value / 60:.0f}" for kind, value in by_kind.items() if value >= 30)
        + ")"
        for machine, by_kind in seconds.items()
    )
    return [
        "## Recipe",
        "",
        f"Training text: {text['train_docstrings']:,} docstrings without near-duplicates, "
        f"{text['train_tokens'] / 1e6:.2f} M tokens; the base model saw {tokens_seen / 1e6:.1f} M. "
        f"Minutes by stage, added up where several ran side by side: {times}.",
        "",
        "Every setting and seed (`make_demo/recipe.py`):",
        "",
        "```json",
        json.dumps(asdict(recipe), indent=1),
        "```",
        "",
    ]
