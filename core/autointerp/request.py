"""What a run is made from, and the name that it is kept under."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from core.autointerp.config import AutoInterpConfig
from core.autointerp.parsing import PARSER_VERSION
from core.autointerp.view import AutointerpView
from core.corpus.documents import Corpus
from core.llm.reading import READER_VERSION

_VERSION = 2
_SPARE_CANDIDATES = 20
_CHAT_SWITCHES = (
    "boosted",
    "changed",
    "strengths",
    "kinds",
    "thoughts",
    "same-token",
    "neighbours",
)


@dataclass(frozen=True)
class RunRequest:
    """One run on one SAE."""

    model: str
    """Name of the model in the catalog."""
    sae: tuple[str, str]
    """Release and id."""
    version: str
    """Version of the SAE's files."""
    latent: int
    """The selected latent, for `choose="this"`."""
    view: AutointerpView
    """Settings; what does not matter for the run is at its default."""
    corpus: Corpus
    """Text to look for examples in."""
    service: str = ""
    """Address of the chat service, without secrets; empty where none is asked."""
    speaker: str = ""
    """Model that explains, where one does so itself; empty for `model`."""
    demo: bool = False
    """Whether that model is the demo's, which was tuned to be asked."""

    @property
    def id(self) -> str:
        """Name of the run: 16 hexadecimal digits that depend on everything that matters."""
        parts = [_VERSION, self.model, self.sae, self.version, self.corpus.digest]
        parts += [self.service, self.explaining_model]
        # Read better, the same answers, which are kept, are another run.
        parts += [READER_VERSION, PARSER_VERSION] if self.asks else []
        chosen = self.latent if self.view.choose == "this" else None
        text = json.dumps([*parts, chosen, asdict(self.view)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def asks(self) -> bool:
        """Whether a chat service is asked."""
        return "chat" in (self.view.explainer, self.view.judge)

    @property
    def explaining_model(self) -> str:
        """The model that says itself what a latent means; empty where another explainer does."""
        return (self.speaker or self.model) if self.view.explainer == "scope" else ""

    def config(self, latents: list[int]) -> AutoInterpConfig:
        """The settings in the words of `core.autointerp`."""
        names = {field.name for field in fields(AutoInterpConfig)} - {"latents"}
        known = {name: value for name, value in asdict(self.view).items() if name in names}
        across = "quantiles" in self.view.switches
        return AutoInterpConfig(latents, scoring=True, across_quantiles=across, **known)

    def candidates(self, d_sae: int) -> tuple[list[int], int]:
        """Latents to look at, and how many of them, the first that fire, are wanted.

        Raises ValueError for latents that the SAE does not have, or an empty list.
        """
        if self.view.choose == "this":
            chosen = [self.latent]
        elif self.view.choose == "list":
            chosen = list(self.view.latents)
        else:
            import numpy as np

            n = min(self.view.n_random, d_sae)
            order = np.random.default_rng(self.view.draw).permutation(d_sae)
            return order[: 2 * n + _SPARE_CANDIDATES].tolist(), n
        if not chosen:
            raise ValueError("The list names no latent; type some, such as 3, 7, 10-14.")
        if max(chosen) >= d_sae:
            raise ValueError(
                f"There is no latent {max(chosen)}; this SAE has {d_sae:,}, so choose 0 to "
                f"{d_sae - 1:,}."
            )
        return chosen, len(chosen)


def request_of_record(record: Mapping[str, Any], *, version: str, corpus: Corpus) -> RunRequest:
    """The request that a record was made from, on what there is now."""
    settings: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in record["settings"].items()
    }
    return RunRequest(
        model=record["model"],
        sae=(record["release"], record["sae"]),
        version=version,
        latent=record["latents"][0],
        view=AutointerpView(**settings),
        corpus=corpus,
        service=record["service"],
        speaker=record.get("speaker", ""),
    )


def relevant(view: AutointerpView) -> AutointerpView:
    """The view with everything at its default that makes no difference to a run."""
    off = AutointerpView()
    changes: dict[str, object] = {"run": off.run, "other": off.other}
    if view.choose != "list":
        changes["latents"] = off.latents
    if view.choose != "random":
        changes |= {"n_random": off.n_random, "draw": off.draw}
    chat_explains, chat_judges = view.explainer == "chat", view.judge == "chat"
    if not (chat_explains or chat_judges):
        changes |= {"chat_model": off.chat_model, "thinking_tokens": off.thinking_tokens}
    if not chat_explains:
        changes |= {
            "max_tokens_in_explanation": off.max_tokens_in_explanation,
            "use_examples_in_explanation_prompt": off.use_examples_in_explanation_prompt,
            "switches": tuple(name for name in view.switches if name not in _CHAT_SWITCHES),
        }
    scores = set(view.scores)
    if not (chat_explains or chat_judges):
        scores -= {"generation", "simulation", "revision"}
    if not chat_explains or "generation" not in scores:
        scores -= {"revision"}
    changes["scores"] = tuple(name for name in view.scores if name in scores)
    return replace(view, **changes)  # type: ignore[arg-type]
