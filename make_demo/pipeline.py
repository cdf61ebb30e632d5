"""The stages of `make demo`: text, base model, definitions, SAEs, tuned model, measures, bundle."""

import json
import logging
import os
import platform
from collections.abc import Callable
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sae_lens import SAE
from tokenizers import Tokenizer
from transformers import GPT2LMHeadModel

from core.models import Model, load_model
from core.saes import load_sae_from_disk
from make_demo.activations import SiteActivations, gather, sample_windows
from make_demo.base_model import train_base
from make_demo.bundle import copy_sae, save_model, size_in_bytes, write_index
from make_demo.card import model_card
from make_demo.definitions import choose_definitions, read_glossary
from make_demo.measure import (
    VectorReader,
    induction_losses,
    language_loss,
    reading_score,
    sae_quality,
)
from make_demo.recipe import Recipe
from make_demo.saes import SaePlan, sae_plans, save_sae, train_sae
from make_demo.stages import Stages, digest
from make_demo.text import build_text, read_train_docstrings
from make_demo.trigram import KneserNeyTrigram
from make_demo.tuned_model import VectorSource, decoder_directions, make_pairs, tune
from make_demo.vectors import (
    ResidualSample,
    latent_words,
    sample_residuals,
    word_latents,
    word_tokens,
)
from make_demo.wordnet import load_glosses

logger = logging.getLogger(__name__)

_EXTRA_WORDS = 1500
"""Words of several tokens that the tuned model learns besides those of the vocabulary."""


class Pipeline:
    """Runs the stages; what several need is loaded once, when it is first asked for."""

    def __init__(
        self,
        recipe: Recipe,
        *,
        work_dir: Path,
        demo_dir: Path,
        device: torch.device,
        wordnet: Path | None = None,
    ) -> None:
        self.recipe, self.demo_dir, self.device, self.wordnet = recipe, demo_dir, device, wordnet
        self.stages = Stages(work_dir)
        self.plans = sae_plans(recipe.saes, recipe.base)

    def run(self, *, until: str | None = None) -> None:
        """Run what has not been run with this recipe, in order; `until` names the last stage."""
        recipe = self.recipe
        text = digest(recipe.corpus)
        base = digest(text, recipe.base)
        words = digest(
            text, self.wordnet.name if self.wordnet else None, _EXTRA_WORDS, read_glossary()
        )
        saes = {plan: self._sae_digest(base, plan) for plan in self.plans}
        tuning_saes = [saes[plan] for plan in self.plans if not plan.shipped]
        tuned = digest(base, words, tuning_saes, recipe.tune)
        steps: list[tuple[str, str, Callable[[Path], Any]]] = [
            ("text", text, lambda folder: build_text(recipe.corpus, folder)),
            ("base", base, self._train_base),
            ("definitions", words, self._definitions),
        ]
        steps += [(f"saes/{plan.folder}", saes[plan], self._sae_stage(plan)) for plan in self.plans]
        steps.append(("tuned", tuned, self._tune))
        steps.append(("measured/models", digest(base, tuned), self._measure_base))
        steps += [
            (f"measured/{plan.folder}", digest(saes[plan], tuned), self._sae_measure(plan))
            for plan in self.plans
            if plan.shipped
        ]
        for name, inputs, work in steps:
            self.stages.run(name, inputs, work)
            if name == until:
                return
        self._write_bundle()

    def _sae_digest(self, base: str, plan: SaePlan) -> str:
        """Only what this one SAE depends on: changing another's steps does not train it again."""
        shared = self.recipe.saes
        return digest(base, plan, shared.tokens, shared.batch, shared.lr)

    # -- what several stages need ------------------------------------------------------------

    def _path(self, stage: str) -> Path:
        return self.stages.path(stage)

    def _tokens(self, name: str) -> np.ndarray:
        return np.load(self._path("text") / f"{name}.npy", allow_pickle=False)

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return Tokenizer.from_file(str(self._path("text") / "tokenizer.json"))

    @cached_property
    def _processed_base(self) -> Model:
        """The base model as the explorer loads it; the SAEs live in its activations."""
        return load_model(self._path("base") / "model", device=str(self.device))

    @cached_property
    def _activations(self) -> dict[str, SiteActivations]:
        """At the sites of the SAEs that are not trained yet: a site is half a gigabyte."""
        pending = [plan for plan in self.plans if f"saes/{plan.folder}" not in self.stages.results]
        sites = list(dict.fromkeys(plan.hook_name for plan in pending))
        logger.info("gathering activations at %d sites", len(sites))
        windows = self._windows("train", self.recipe.saes.tokens, seed=11)
        return gather(self._processed_base, windows.to(self.device), sites)

    def _windows(self, name: str, n_tokens: int, *, seed: int) -> torch.Tensor:
        context = self.recipe.base.context
        return sample_windows(self._tokens(name), n_tokens=n_tokens, context=context, seed=seed)

    @cached_property
    def _residuals(self) -> dict[int, ResidualSample]:
        windows = self._windows("train", min(250_000, self.recipe.saes.tokens), seed=13)
        return sample_residuals(
            self._processed_base, windows.to(self.device), self.recipe.tune.layers
        )

    def _sae(self, plan: SaePlan) -> SAE:
        return load_sae_from_disk(self._path(f"saes/{plan.folder}"), device=str(self.device))

    def _reporter(self, title: str, steps: int) -> Callable[[int, float], None]:
        return lambda step, loss: logger.info(
            "%s: step %d of %d, loss %.3f", title, step, steps, loss
        )

    # -- stages ------------------------------------------------------------------------------

    def _train_base(self, folder: Path) -> dict[str, int]:
        model = train_base(
            self.recipe.base,
            self._tokens("train"),
            vocab_size=self.recipe.corpus.vocab_size,
            device=self.device,
            checkpoint=folder / "checkpoint.pt",
            report=self._reporter("base", self.recipe.base.steps + self.recipe.base.second_steps),
        )
        tokenizer_json = self._path("text") / "tokenizer.json"
        save_model(model.cpu(), tokenizer_json, folder / "model", chat=False)
        return {"parameters": model.num_parameters()}

    def _definitions(self, folder: Path) -> dict[str, int]:
        docstrings = read_train_docstrings(self._path("text"))
        glosses = load_glosses(self.wordnet, download_to=folder)
        words = list(word_tokens(self._tokenizer).values())
        definitions = choose_definitions(docstrings, glosses, words, extra_words=_EXTRA_WORDS)
        (folder / "definitions.json").write_text(json.dumps(definitions, indent=1))
        return {"words": len(definitions), "wordnet_words": len(glosses)}

    def _sae_stage(self, plan: SaePlan) -> Callable[[Path], dict[str, int]]:
        def work(folder: Path) -> dict[str, int]:
            activations = self._activations[plan.hook_name]
            sae = train_sae(
                plan, activations, self.recipe.saes, self.recipe.base, device=str(self.device)
            )
            save_sae(sae.cpu(), plan, folder)
            return {"width": plan.width}

        return work

    def _tune(self, folder: Path) -> dict[str, int]:
        definitions = json.loads((self._path("definitions") / "definitions.json").read_text())
        words = word_tokens(self._tokenizer)
        pairs = make_pairs(self._tokenizer, words, definitions)
        labelled: dict[int, list[tuple[int, torch.Tensor]]] = {}
        for plan in self.plans:
            layer = plan.residual_layer
            if not plan.shipped and layer in self.recipe.tune.layers:
                sae = self._sae(plan)
                found = word_latents(latent_words(sae, self._residuals[layer]), words)
                labelled.setdefault(layer, []).extend(
                    (item.token, sae.W_dec[item.latent].detach().cpu()) for item in found
                )
        source = VectorSource(self.recipe.tune, self._residuals, decoder_directions(labelled))
        model = self._hugging_face("base")
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
        tokenizer_json = self._path("text") / "tokenizer.json"
        save_model(model.cpu(), tokenizer_json, folder / "model", chat=True)
        return {"pairs": len(pairs), "tuning_latents": sum(map(len, labelled.values()))}

    def _hugging_face(self, stage: str) -> GPT2LMHeadModel:
        model = GPT2LMHeadModel.from_pretrained(self._path(stage) / "model", dtype=torch.float32)
        return model.eval()

    def _measure_base(self, folder: Path) -> dict[str, Any]:
        base = self._hugging_face("base")
        trigram = KneserNeyTrigram(self._tokens("train"), self.recipe.corpus.vocab_size)
        context = self.recipe.base.context
        result: dict[str, Any] = {
            "parameters": base.num_parameters(),
            "induction": induction_losses(base),
            "language": {
                name: language_loss(base, self._tokens(name), trigram, context=context)
                for name in ("held_out_docstrings", "held_out_packages")
            },
        }
        logger.info("base model: %s", result)
        return result

    @cached_property
    def _measuring_windows(self) -> tuple[torch.Tensor, torch.Tensor]:
        n = self.recipe.saes.tokens
        return (
            self._windows("held_out_docstrings", min(100_000, n), seed=17),
            self._windows("train", min(200_000, n), seed=19),
        )

    @cached_property
    def _reader(self) -> VectorReader:
        return VectorReader(self._hugging_face("tuned"), self._tokenizer)

    def _sae_measure(self, plan: SaePlan) -> Callable[[Path], dict[str, Any]]:
        def work(folder: Path) -> dict[str, Any]:
            sae = self._sae(plan)
            held_out, more = self._measuring_windows
            quality = sae_quality(self._processed_base, sae, held_out, more_windows=more)
            result: dict[str, Any] = {"quality": {"width": plan.width, **quality}}
            layer = plan.residual_layer
            if plan.release == "docs-small-res" and layer in self.recipe.tune.layers:
                sample = self._residuals[layer]
                words = word_tokens(self._tokenizer)
                found = word_latents(latent_words(sae, sample), words)
                score = reading_score(self._reader, sae, found, sample, layer=layer)
                result["reading"] = asdict(score)
            logger.info("%s: %s", plan.folder, result)
            return result

        return work

    def _measured(self) -> dict[str, Any]:
        """All measures, as the card takes them."""
        results = self.stages.results
        by_sae = {
            plan.folder: results[f"measured/{plan.folder}"] for plan in self.plans if plan.shipped
        }
        reading = {folder: r["reading"] for folder, r in by_sae.items() if "reading" in r}
        return {
            **results["measured/models"],
            "saes": {folder: r["quality"] for folder, r in by_sae.items()},
            "reading": reading,
            "reading_mean": {
                key: float(np.mean([score[key] for score in reading.values()]))
                for key in ("f1", "shuffled_f1")
            },
        }

    def _write_bundle(self) -> None:
        measured = self._measured()
        tokenizer_json = self._path("text") / "tokenizer.json"
        for stage, name in (("base", "docs-small"), ("tuned", "docs-small-it")):
            target = self.demo_dir / "models" / name
            save_model(self._hugging_face(stage), tokenizer_json, target, chat=stage == "tuned")
        for plan in self.plans:
            if plan.shipped:
                metrics = measured["saes"][plan.folder]
                copy_sae(
                    self._path(f"saes/{plan.folder}"), self.demo_dir / "saes" / plan.folder, metrics
                )
        write_index(self.demo_dir)
        card = model_card(
            self.recipe,
            text=self.stages.results["text"],
            measured=measured,
            seconds=self._minutes_by_kind(),
            bundle_bytes=size_in_bytes(self.demo_dir),
            machine=f"{os.cpu_count()} cores of {platform.machine()}"
            if self.device.type == "cpu"
            else torch.cuda.get_device_name(self.device),
        )
        (self.demo_dir / "README.md").write_text(card)
        logger.info("bundle written to %s: %d bytes", self.demo_dir, size_in_bytes(self.demo_dir))

    def _minutes_by_kind(self) -> dict[str, float]:
        """Seconds by stage, the SAEs together."""
        seconds: dict[str, float] = {}
        for name, value in self.stages.seconds.items():
            kind = name.split("/")[0]
            seconds[kind] = seconds.get(kind, 0.0) + value
        return seconds
