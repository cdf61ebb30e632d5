"""Which site and which model: from module names, from the folder's path, or as the user says.

Where a format does not hold one of them and the path does not tell, the user says so in a small
file beside the SAE, `explorer.json`: `{"model_name": "gpt2-small", "hook_name":
"blocks.5.hook_resid_post"}`, and there, in sae_lens' words, how it was trained where no format
tells: `prepend_bos` and `normalize_activations`. What stands there wins over what was found
otherwise. A `model_name` may also stand in an `explorer.json` further up, for all SAEs below that
do not say it themselves.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.catalog.formats.reading import name_of, quote, read_object
from core.catalog.model_names import hub_repository

SIDECAR = "explorer.json"
NORMALISATIONS = ("none", "expected_average_only_in", "constant_norm_rescale", "layer_norm")
"""Values of normalize_activations that the user can say; what else there is needs more files."""
_KNOWN = ("model_name", "hook_name", "prepend_bos", "normalize_activations")
PARENTS = 6
"""Folders above an SAE in which an explorer.json may name its model."""
NO_CENTRING = (("center_writing_weights", False),)
"""What SAEs trained on Hugging Face's activations ask of their model: keep the streams' mean."""

_HOOK = re.compile(r"blocks\.\d{1,4}\.[a-z0-9_.]+|hook_embed|hook_pos_embed|ln_final\.[a-z_.]+")
_BLOCK = r"(?:(?:model|transformer|gpt_neox|language_model)\.)*(?:layers|h|blocks)[._](\d{1,4})"
_MODULES = (
    (rf"{_BLOCK}", "blocks.{}.hook_resid_post"),
    (
        rf"{_BLOCK}\.(?:self_attn|attn|attention)(?:\.(?:o_proj|c_proj|dense|out_proj))?",
        "blocks.{}.hook_attn_out",
    ),
    (rf"{_BLOCK}\.mlp(?:\.(?:down_proj|c_proj|dense_4h_to_h))?", "blocks.{}.hook_mlp_out"),
    # `act` is a module of models whose MLP has no gate; behind a gate hook_post is another tensor.
    (rf"{_BLOCK}\.mlp\.act", "blocks.{}.mlp.hook_post"),
    (r"(?:(?:model|transformer|gpt_neox)\.)*(?:embed_tokens|wte|embed_in)", "hook_embed"),
)
_SECOND_NORM = re.compile(r"gemma-?[23](?!b)|olmo-?[23]|glm-?4|exaone-?4", re.IGNORECASE)
"""Models whose blocks normalise what attention and MLP write: transformer_lens' hook_attn_out and
hook_mlp_out come after that norm, Hugging Face's modules end before it. Folders have any name, so
`core.saes.check_fits` looks at the model itself too."""


def site_of_module(module: str) -> str | None:
    """transformer_lens' name of what a Hugging Face module puts out, or None.

    >>> site_of_module("layers.5.mlp")
    'blocks.5.hook_mlp_out'
    """
    for pattern, hook in _MODULES:
        match = re.fullmatch(pattern, module)
        if match:
            return hook.format(*(int(group) for group in match.groups()))
    return None


def advice_on_module(name: str) -> str | None:
    """How to name a site in sae_lens' config that is named as Hugging Face does, or None.

    The end of a sentence about the config.
    """
    site = site_of_module(name)
    if site is None or _HOOK.fullmatch(name):
        return None
    return (
        f"names the site as Hugging Face does ({quote(name)}), whose output transformer_lens calls"
        f' {site}; write that as hook_name, and {{"center_writing_weights": false}} as'
        " model_from_pretrained_kwargs, since Hugging Face's weights are not centred."
    )


def module_problem(module: str, hook_name: str, model_name: str) -> str | None:
    """Why the module's output is not what the model has at that site, or None."""
    if hook_name == "hook_embed" and "gemma" in model_name.lower():
        return (
            f"it reads {module} of {model_name}, which transformer_lens scales and Hugging Face's"
            f" module does not; choose an SAE of another site, or name one in {SIDECAR}."
        )
    before = hook_name.endswith(("hook_attn_out", "hook_mlp_out"))
    if before and _SECOND_NORM.search(model_name):
        return (
            f"it reads the output of {module} before the norm that {model_name} applies to it, and"
            f" {hook_name} is after that norm; choose an SAE of the residual stream."
        )
    return None


def model_from_path(path: Path) -> str | None:
    """The nearest folder above whose name is a model that transformer_lens knows, or None."""
    for part in reversed(path.parent.parts[-6:]):
        plain = re.sub(r"^(?:sae|saes|transcoders?)[-_]|[-_]\d+[kx]$", "", part)
        for name in (part, plain):
            if name_of(name) and hub_repository(name) is not None:
                return name
    return None


def sidecar_names(path: Path) -> list[str]:
    """Files that may speak for the SAE at `path`: beside it, then in the folders above."""
    folder = str(path) if path.is_dir() else os.path.dirname(path)
    names = []
    for _ in range(PARENTS + 1):
        names.append(os.path.join(folder, SIDECAR))
        folder, below = os.path.dirname(folder), folder
        if folder in (below, ""):
            break
    return names


@dataclass(frozen=True)
class UserSettings:
    """What the user's explorer.json files say of one SAE; None where they are silent."""

    model_name: str | None = None
    """Its model, said beside the SAE: wins over all else."""
    hook_name: str | None = None
    """Its site, said beside the SAE: wins over all else."""
    model_above: str | None = None
    """The model said in a folder above: for SAEs that do not say it themselves."""
    prepend_bos: bool | None = None
    """Whether it was trained on texts that begin with BOS."""
    normalisation: str | None = None
    """How its input was scaled, as sae_lens' normalize_activations."""
    problem: str | None = None
    """What is wrong with the file beside the SAE."""
    problem_above: str | None = None
    """What is wrong with a file above, which matters where it is needed."""


def read_user_settings(path: Path) -> UserSettings:
    """What the user says of the SAE at `path` in explorer.json."""
    beside, *above = map(Path, sidecar_names(path))
    content, problem = _said_in(beside)
    model_above = problem_above = None
    for file in above:
        general, wrong = _said_in(file)
        problem_above = problem_above or wrong
        model_above = model_above or name_of(general.get("model_name"))
    model_name, hook_name = (name_of(content.get(key)) for key in ("model_name", "hook_name"))
    if problem is None and hook_name is not None and not _HOOK.fullmatch(hook_name):
        problem = (
            f"{beside} gives hook_name as {quote(hook_name)}; use the name of the site in"
            " transformer_lens, such as blocks.5.hook_resid_post."
        )
    return UserSettings(
        model_name,
        hook_name,
        model_above,
        content.get("prepend_bos"),
        content.get("normalize_activations"),
        problem,
        problem_above,
    )


def _said_in(file: Path) -> tuple[dict[str, Any], str | None]:
    if not file.exists():
        return {}, None
    content, problem = read_object(file)
    for key in ("model_name", "hook_name"):
        if problem is None and key in content and name_of(content[key]) is None:
            problem = f"{file} gives {key} as {quote(content[key])}; it must be a name."
    unknown = [key for key in content if key not in _KNOWN]
    bos, norm = content.get("prepend_bos"), content.get("normalize_activations")
    if problem is None and unknown:
        problem = (
            f"{file} has an entry {quote(unknown[0])}, which is not known; it can hold "
            f"{', '.join(_KNOWN)}."
        )
    if problem is None and bos is not None and not isinstance(bos, bool):
        problem = f"{file} gives prepend_bos as {quote(bos)}; write true or false."
    if problem is None and norm is not None and norm not in NORMALISATIONS:
        problem = (
            f"{file} gives normalize_activations as {quote(norm)}; write one of "
            f"{', '.join(NORMALISATIONS)}."
        )
    return ({}, problem) if problem is not None else (content, None)


def missing_problem(
    path: Path, label: str, said_of: UserSettings, *, model_name: object, hook_name: object
) -> str | None:
    """A sentence on what is not known of an SAE and how to say it, or None."""
    if not model_name and said_of.problem_above is not None:
        return said_of.problem_above
    wanted = [
        (name, what, example)
        for name, what, example, value in (
            ("model_name", "the model", "gpt2-small", model_name),
            ("hook_name", "the site", "blocks.5.hook_resid_post", hook_name),
        )
        if not value
    ]
    if not wanted:
        return None
    example = ", ".join(f'"{name}": "{value}"' for name, _, value in wanted)
    folder = path if path.is_dir() else path.parent
    return (
        f"{path} ({label}) does not say {' and '.join(what for _, what, _ in wanted)} it was"
        f" trained on; put a file {folder / SIDECAR} there with {{{example}}}."
    )
