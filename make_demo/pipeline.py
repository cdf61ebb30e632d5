"""The stages of `make demo`: text, base model, definitions, SAEs, tuned model, measures, bundle."""

import json
import logging
import multiprocessing
import os
import platform
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from make_demo.base_model import train_base
from make_demo.bundle import save_model
from make_demo.definitions import choose_definitions, read_glossary
from make_demo.materials import Materials
from make_demo.measure import (
    induction_losses,
    language_loss,
    reading_score,
    sae_quality,
)
from make_demo.publish import write_bundle
from make_demo.recipe import Recipe
from make_demo.saes import SaePlan, sae_plans, save_sae, train_sae
from make_demo.stages import Stages, digest
from make_demo.text import build_text, read_train_docstrings
from make_demo.trigram import KneserNeyTrigram
from make_demo.tuned_model import VectorSource, decoder_directions, make_pairs, tune
from make_demo.vectors import (
    latent_words,
    word_latents,
    word_tokens,
)
from make_demo.wordnet import load_glosses

logger = logging.getLogger(__name__)

_EXTRA_WORDS = 1500
"""Words of several tokens that the tuned model learns besides those of the vocabulary."""


@dataclass(frozen=True)
class Step:
    """One stage, ready to be run."""

    name: str
    """Its folder below the working directory."""
    inputs: str
    """Digest of all that it depends on."""
    work: Callable[[Path], Any]
    """Writes into its folder and returns its result."""
    cost: int = 0
    """The costliest of a group begin first where several run side by side."""


class Pipeline:
    """Runs the stages in order, each only where its inputs have changed."""

    def __init__(
        self,
        recipe: Recipe,
        *,
        work_dir: Path,
        demo_dir: Path,
        device: torch.device,
        wordnet: Path | None = None,
        workers: int = 1,
    ) -> None:
        self._arguments: dict[str, Any] = {
            "work_dir": work_dir,
            "demo_dir": demo_dir,
            "device": device,
            "wordnet": wordnet,
        }
        self.recipe, self.demo_dir, self.device, self.wordnet = recipe, demo_dir, device, wordnet
        self.workers = workers
        self.stages = Stages(work_dir, machine=_name_of(device))
        self.plans = sae_plans(recipe.saes, recipe.base)
        self.materials = Materials(recipe, self.stages, device)

    def groups(self) -> list[list[Step]]:
        """All stages in order; those of one group do not need each other."""
        recipe = self.recipe
        text = digest(recipe.corpus)
        base = digest(text, recipe.base)
        words = digest(
            text, self.wordnet.name if self.wordnet else None, _EXTRA_WORDS, read_glossary()
        )
        saes = {plan: self._sae_digest(base, plan) for plan in self.plans}
        tuning_saes = [saes[plan] for plan in self.plans if not plan.shipped]
        tuned = digest(base, words, tuning_saes, recipe.tune)
        measures = [Step("measured/models", base, self._measure_base)] + [
            Step(
                f"measured/{plan.folder}",
                digest(saes[plan], tuned if self._is_read(plan) else None),
                self._sae_measure(plan),
            )
            for plan in self.plans
            if plan.shipped
        ]
        return [
            [Step("text", text, lambda folder: build_text(recipe.corpus, folder))],
            [Step("base", base, self._train_base)],
            [Step("definitions", words, self._definitions)],
            [
                Step(
                    f"saes/{plan.folder}",
                    saes[plan],
                    self._sae_stage(plan),
                    plan.width * plan.steps,
                )
                for plan in self.plans
            ],
            [Step("tuned", tuned, self._tune)],
            measures,
        ]

    def run(self, *, until: str | None = None) -> None:
        """Run what has not been run with this recipe, in order; `until` names the last stage."""
        for group in self.groups():
            if self.workers > 1 and len(group) > 1 and until not in [step.name for step in group]:
                self._run_side_by_side(group)
            for step in group:
                self.stages.run(step.name, step.inputs, step.work)
                if step.name == until:
                    return
        write_bundle(
            self.recipe,
            self.stages,
            self.plans,
            self.demo_dir,
            model_of=self.materials.hugging_face,
        )

    def _run_side_by_side(self, group: Sequence[Step]) -> None:
        """Run stages in processes of their own: training small SAEs leaves a GPU mostly idle."""
        spawn = multiprocessing.get_context("spawn")
        names = [step.name for step in sorted(group, key=lambda step: -step.cost)]
        with ProcessPoolExecutor(self.workers, mp_context=spawn) as pool:
            jobs = [pool.submit(_run_stage, self.recipe, self._arguments, name) for name in names]
            for job in jobs:
                job.result()

    def run_stage(self, name: str) -> None:
        """Run one stage whose predecessors are done."""
        for step in (step for group in self.groups() for step in group):
            if step.name == name:
                self.stages.run(step.name, step.inputs, step.work)

    def _sae_digest(self, base: str, plan: SaePlan) -> str:
        """Only what this one SAE depends on: changing another's steps does not train it again."""
        shared = self.recipe.saes
        return digest(base, plan, shared.tokens, shared.batch, shared.lr)

    def _train_base(self, folder: Path) -> dict[str, int]:
        model = train_base(
            self.recipe.base,
            self.materials.tokens("train"),
            vocab_size=self.recipe.corpus.vocab_size,
            device=self.device,
            checkpoint=folder / "checkpoint.pt",
            report=self._reporter("base", self.recipe.base.steps + self.recipe.base.second_steps),
        )
        tokenizer_json = self.materials.path("text") / "tokenizer.json"
        save_model(model.cpu(), tokenizer_json, folder / "model", chat=False)
        return {"parameters": model.num_parameters()}

    def _definitions(self, folder: Path) -> dict[str, int]:
        docstrings = read_train_docstrings(self.materials.path("text"))
        glosses = load_glosses(self.wordnet, download_to=folder)
        words = list(word_tokens(self.materials.tokenizer).values())
        definitions = choose_definitions(docstrings, glosses, words, extra_words=_EXTRA_WORDS)
        (folder / "definitions.json").write_text(json.dumps(definitions, indent=1))
        return {"words": len(definitions), "wordnet_words": len(glosses)}

    def _sae_stage(self, plan: SaePlan) -> Callable[[Path], dict[str, int]]:
        def work(folder: Path) -> dict[str, int]:
            activations = self.materials.activations(plan.hook_name)
            sae = train_sae(
                plan, activations, self.recipe.saes, self.recipe.base, device=str(self.device)
            )
            save_sae(sae.cpu(), plan, folder)
            return {"width": plan.width}

        return work

    def _tune(self, folder: Path) -> dict[str, int]:
        definitions = json.loads(
            (self.materials.path("definitions") / "definitions.json").read_text()
        )
        words = word_tokens(self.materials.tokenizer)
        pairs = make_pairs(self.materials.tokenizer, words, definitions)
        labelled: dict[int, list[tuple[int, torch.Tensor]]] = {}
        for plan in self.plans:
            layer = plan.residual_layer
            if not plan.shipped and layer in self.recipe.tune.layers:
                sae = self.materials.sae(plan)
                found = word_latents(latent_words(sae, self.materials.residuals[layer]), words)
                labelled.setdefault(layer, []).extend(
                    (item.token, sae.W_dec[item.latent].detach().cpu()) for item in found
                )
        source = VectorSource(
            self.recipe.tune, self.materials.residuals, decoder_directions(labelled)
        )
        model = self.materials.hugging_face("base")
        torch.nn.Module.to(model, self.device)
        tune(
            model,
            self.recipe.tune,
            pairs,
            source,
            context=self.recipe.base.context,
            checkpoint=folder / "checkpoint.pt",
            report=self._reporter("tuned", self.recipe.tune.steps),
        )
        tokenizer_json = self.materials.path("text") / "tokenizer.json"
        save_model(model.cpu(), tokenizer_json, folder / "model", chat=True)
        return {"pairs": len(pairs), "tuning_latents": sum(map(len, labelled.values()))}

    def _measure_base(self, folder: Path) -> dict[str, Any]:
        base = self.materials.hugging_face("base")
        torch.nn.Module.to(base, self.device)
        trigram = KneserNeyTrigram(self.materials.tokens("train"), self.recipe.corpus.vocab_size)
        context = self.recipe.base.context
        result: dict[str, Any] = {
            "parameters": base.num_parameters(),
            "induction": induction_losses(base),
            "language": {
                name: language_loss(base, self.materials.tokens(name), trigram, context=context)
                for name in ("held_out_docstrings", "held_out_packages")
            },
        }
        logger.info("base model: %s", result)
        return result

    def _is_read(self, plan: SaePlan) -> bool:
        """Whether the tuned model's reading of this SAE is scored; it has seen none of it."""
        released = plan.release == "docs-small-res"
        return released and plan.residual_layer in self.recipe.tune.layers

    def _sae_measure(self, plan: SaePlan) -> Callable[[Path], dict[str, Any]]:
        def work(folder: Path) -> dict[str, Any]:
            sae = self.materials.sae(plan)
            held_out, more = self.materials.measuring_windows
            quality = sae_quality(self.materials.processed_base, sae, held_out, more_windows=more)
            result: dict[str, Any] = {"quality": {"width": plan.width, **quality}}
            layer = plan.residual_layer
            if layer is not None and self._is_read(plan):
                sample = self.materials.residuals[layer]
                words = word_tokens(self.materials.tokenizer)
                found = word_latents(latent_words(sae, sample), words)
                score = reading_score(self.materials.reader, sae, found, sample, layer=layer)
                result["reading"] = asdict(score)
            logger.info("%s: %s", plan.folder, result)
            return result

        return work

    def _reporter(self, title: str, steps: int) -> Callable[[int, float], None]:
        return lambda step, loss: logger.info(
            "%s: step %d of %d, loss %.3f", title, step, steps, loss
        )


def _name_of(device: torch.device) -> str:
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"{os.cpu_count()} cores of {platform.machine()}"


def _run_stage(recipe: Recipe, arguments: dict[str, Any], name: str) -> None:
    """`Pipeline.run_stage` in a process of its own, on one thread."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(1)
    Pipeline(recipe, **arguments).run_stage(name)
