"""Who answers, what is asked, and what of it the model really sees."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from core.catalog import Catalog
from core.catalog.entries import ModelEntry, SaeEntry
from core.catalog.model_names import hub_repository
from core.patch_scoping.view import OWN
from core.tokens import row_texts

if TYPE_CHECKING:  # they bring torch, and a page is drawn before that is there
    from core.engine import Engine
    from core.models import Model
    from core.patch_scoping.choice import By
    from core.patch_scoping.prompt import ScopePrompt, Template
    from core.view.choices import Choices

DEFAULT_LAYER = 2
"""Where the literature replaces."""
DEMO_LAYERS = (1, 2)
"""Where the demo's tuned model was taught to read."""
_MARK = "{X}"
_TUNED_ENDINGS = ("-it", "-Instruct", "-instruct", "-Chat", "-chat")


@dataclass(frozen=True)
class Question:
    """What is asked, of whom."""

    speaker: str
    """Model that answers."""
    template: str = "definition"
    """Name of a template, or `OWN`."""
    own: str = ""
    """The reader's question, with {X} for the placeholder; used with `OWN`."""
    prefill: str = ""
    """The beginning of the answer; used with `OWN`."""


@dataclass(frozen=True)
class PromptFacts:
    """The prompt as the model sees it, for display."""

    text: str
    """The whole prompt, chat format included."""
    tokens: tuple[str, ...]
    """What each of its tokens adds to it (`RowTexts.parts`), BOS included."""
    positions: tuple[int, ...]
    """Which of them are replaced."""
    placeholder: str
    """What stands for the latent."""
    notes: tuple[str, ...]
    """What a reader should know, in sentences."""
    n_layers: int
    """Layers of the model."""
    chat: bool
    """Whether the tokenizer's chat template was used."""
    stop: str | None
    """What ends an answer."""


def speakers(choices: "Choices", entry: SaeEntry, catalog: Catalog) -> tuple[ModelEntry, ...]:
    """Models that can explain the latents of an SAE, the one to ask unless told otherwise first.

    Models on this machine that were tuned from its model, then its own, then published tuned
    models: those would have to be downloaded, so nobody is asked to do that by default.
    """
    fitting = [model for model in choices.models if entry.model in (model.name, model.base_model)]
    local = sorted(fitting, key=lambda model: model.name == entry.model)
    known = {model.name for model in local}
    published = [] if entry.source == "demo" else published_tuned(entry.model, catalog)
    return (*local, *(model for model in published if model.name not in known))


def published_tuned(model: str, catalog: Catalog) -> list[ModelEntry]:
    """Published models that were tuned from a published one: "gemma-2b-it" for "gemma-2b"."""
    repository = hub_repository(model)
    if repository is None:
        return []
    names = [repository + ending for ending in _TUNED_ENDINGS]
    found = [catalog.model(name) for name in names if hub_repository(name) == name]
    return [replace(tuned, base_model=model) for tuned in found]


def template_of(question: Question) -> "Template":
    """The template that is meant.

    Raises ValueError for a question of the reader's that mentions no {X}.
    """
    from core.patch_scoping.prompt import TEMPLATES, Template

    if question.template != OWN:
        return TEMPLATES[question.template]
    if _MARK not in question.own + question.prefill:
        raise ValueError(
            "Your question does not say where the latent should stand; write {X} there, as in "
            '"What is like {X}?".'
        )
    stop = '"' if question.prefill.rstrip().endswith('"') else None
    return Template(OWN, question.own, question.prefill, stop)


def prompt_of(model: "Model", question: Question) -> "ScopePrompt":
    """The question as this model's tokens. Raises as `template_of` and `template_prompt`."""
    from core.patch_scoping.prompt import template_prompt

    return template_prompt(model, template_of(question))


def prompt_facts(engine: "Engine", question: Question) -> PromptFacts:
    """What the model sees when it is asked. Raises as `prompt_of`."""
    template = template_of(question)
    with engine.use(question.speaker) as (model, _):
        prompt = prompt_of(model, question)
        tokenizer: Any = model.tokenizer  # there is one: `prompt_of` raises without
        texts = row_texts(tokenizer, prompt.tokens)
        return PromptFacts(
            text=prompt.text,
            tokens=texts.parts,
            positions=prompt.positions,
            placeholder=prompt.placeholder,
            notes=prompt.notes,
            n_layers=int(model.cfg.n_layers),
            chat=bool(getattr(tokenizer, "chat_template", None)),
            stop=template.stop,
        )


def default_layers(n_layers: int, *, demo: bool) -> tuple[int, ...]:
    """The layers to replace before, unless the reader chooses."""
    wanted = DEMO_LAYERS if demo else (DEFAULT_LAYER,)
    return tuple(dict.fromkeys(min(layer, n_layers - 1) for layer in wanted))


def automatic_choice(*, demo: bool) -> "By":
    """How the best text is chosen, unless the reader says: the demo's model was tuned to answer,
    so its own likeliest text is its answer; elsewhere the metric of the method's authors."""
    return "likeliest" if demo else "combined"
