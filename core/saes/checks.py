"""Can this SAE be loaded, and does it belong to this model? Every "no" comes with its reason."""

import difflib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sae_lens import SAE
from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory
from safetensors import safe_open

from core.catalog.formats.sites import advice_on_module
from core.catalog.model_names import official_name
from core.catalog.sae_config import folder_problem, weights_problem
from core.catalog.sae_kinds import format_problem
from core.models.folder import pickle_files, read_json_object
from core.models.hooks import Model, hook_width, layer_of_hook, site_shape
from core.saes.kinds import check_kind
from core.saes.site import check_head, head_of
from core.weight_files import safetensors_problem

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
_PICKLE_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".pkl")
_TUNED = re.compile(r"-(it|instruct|chat)(-v[\d.]+)?(-hf)?$")
_COMMON_SITES = ("hook_resid_pre", "hook_resid_post", "attn.hook_z", "hook_mlp_out")


def check_release(release: str, sae_id: str) -> None:
    """Raise ValueError unless sae_lens lists that SAE (repositories pass), and it can be shown."""
    directory = get_pretrained_saes_directory()
    if release not in directory:
        if "/" in release:
            return
        close = difflib.get_close_matches(release, directory, n=4, cutoff=0.5)
        remedy = f"Close to it: {', '.join(close)}. " if close else ""
        raise ValueError(
            f"sae_lens knows no release {release!r}. {remedy}A repository is given as 'owner/name'."
        )
    ids = directory[release].saes_map
    if sae_id not in ids:
        close = difflib.get_close_matches(sae_id, ids, n=4, cutoff=0.3) or list(ids)[:4]
        raise ValueError(
            f"Release {release} has no SAE {sae_id!r}. Among its {len(ids)}: {', '.join(close)}."
        )
    refusal = format_problem(directory[release].conversion_func, ids[sae_id])
    if refusal is not None:
        raise ValueError(f"{sae_id} of {release} {refusal}")


def check_sae_folder(folder: Path) -> None:
    """Raise ValueError, saying what to do, unless `folder` looks like an SAE that can be loaded."""
    check_files(folder)
    problem = folder_problem(folder, read_json_object(folder / CONFIG))
    if problem is None:
        problem = weights_problem(folder / WEIGHTS)
    if problem is not None:
        raise ValueError(problem)


def check_files(folder: Path) -> None:
    """Raise ValueError unless `folder` holds a config and whole weights (no pickle)."""
    if folder.is_file():
        if folder.suffix in _PICKLE_SUFFIXES:
            raise ValueError(_pickle_refusal(folder))
        raise ValueError(f"{folder} is a file; give the folder that holds {CONFIG} and {WEIGHTS}.")
    if not folder.is_dir():
        raise ValueError(f"There is no folder {folder}; give one that sae.save_model wrote.")
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            pickles = pickle_files(folder)
            if pickles:
                raise ValueError(_pickle_refusal(folder / pickles[0]))
            raise ValueError(f"{folder} has no {name}; save the SAE there with sae.save_model.")
    problem = safetensors_problem(folder / WEIGHTS)
    if problem:
        raise ValueError(f"{problem} Copy the file again.")


@contextmanager
def folder_errors(folder: Path) -> Iterator[None]:
    """Turn sae_lens' complaints about a folder's contents into one ValueError that names it."""
    try:
        yield
    except KeyError as error:
        raise ValueError(
            f"{folder / CONFIG} lacks {error}; save the SAE again with sae.save_model."
        ) from error
    except TypeError as error:
        raise ValueError(f"{folder / CONFIG} is incomplete: {error}.") from error
    except RuntimeError as error:
        if "loading state_dict" not in str(error):
            raise
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            found = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
        detail = " ".join(line.strip() for line in str(error).splitlines()[1:])
        raise ValueError(
            f"{folder / WEIGHTS} does not match its {CONFIG}: {detail} The file holds {found}."
        ) from error


def check_fits(
    sae: SAE,
    model: Model,
    *,
    model_name: str | None = None,
    allow_instruction_tuned: bool = True,
) -> None:
    """Raise ValueError, with the reason, unless the SAE can be used on the model.

    Checked are its kind, the site (and a transcoder's output site), its width, a single head (which
    must be there), and the model's name:
    `model_name`, or the model's own where it was not loaded from a folder, whose name means
    nothing. With `allow_instruction_tuned` an SAE of a base model may be used on its
    instruction-tuned sibling, such as gemma-2b on gemma-2b-it.
    """
    metadata = sae.cfg.metadata
    check_kind(sae)
    _check_name(metadata.model_name, _model_name(model, model_name), allow_instruction_tuned)
    if head_of(sae) is None:
        _check_site(model, metadata.hook_name, sae.cfg.d_in, "reads")
    else:
        _check_single_head(sae, model)
    _check_module(model, metadata.hf_module, metadata.hook_name)
    if metadata.hook_name_out is not None or hasattr(sae.cfg, "d_out"):
        _check_site(
            model, metadata.hook_name_out, getattr(sae.cfg, "d_out", sae.cfg.d_in), "writes"
        )


def same_model(trained_on: str, used_on: str, *, allow_instruction_tuned: bool = True) -> bool:
    """Whether both names mean one model ("gpt2-small", "openai-community/gpt2"), or siblings."""
    trained, used = _plain_name(trained_on), _plain_name(used_on)
    return trained == used or (allow_instruction_tuned and trained == _TUNED.sub("", used))


def _check_name(trained_on: str | None, used_on: str | None, allow_tuned: bool) -> None:
    if trained_on is None or used_on is None:
        return
    if not same_model(trained_on, used_on, allow_instruction_tuned=allow_tuned):
        raise ValueError(
            f"The SAE was trained on {trained_on}, not on {used_on}; load {trained_on}, or choose "
            f"an SAE of {used_on}."
        )


def _check_site(model: Model, hook_name: str | None, width: int, verb: str) -> None:
    if not isinstance(hook_name, str):
        raise ValueError(
            f"The SAE does not say which site it {verb}; add "
            f"{'hook_name' if verb == 'reads' else 'hook_name_out'} to metadata in its {CONFIG}."
        )
    advice = advice_on_module(hook_name)
    if advice is not None:
        raise ValueError(f"The SAE {advice}")
    try:
        found = hook_width(model, hook_name)
    except ValueError as error:
        raise ValueError(f"The SAE {verb} {hook_name}. {error}") from error
    if found == width:
        return
    layer = layer_of_hook(hook_name)
    names = [f"blocks.{layer or 0}.{site}" for site in _COMMON_SITES]
    widths = {name: hook_width(model, name) for name in names if name in model.hook_dict}
    raise ValueError(
        f"The SAE {verb} {width} numbers a position at {hook_name}, where the model has {found}. "
        f"The model has {', '.join(f'{value} at {name}' for name, value in widths.items())}."
    )


def _check_single_head(sae: SAE, model: Model) -> None:
    metadata = sae.cfg.metadata
    if hasattr(sae.cfg, "d_out") or metadata.hook_head_index_out is not None:
        raise ValueError(
            "The SAE is a transcoder of single heads, which the explorer does not read; choose one "
            "of whole sites."
        )
    if not isinstance(metadata.hook_name, str):
        raise ValueError(
            f"The SAE does not say which site it reads; add hook_name to metadata in its {CONFIG}."
        )
    try:
        shape = site_shape(model, metadata.hook_name)
    except ValueError as error:
        raise ValueError(f"The SAE reads {metadata.hook_name}. {error}") from error
    check_head(sae, shape)


def _check_module(model: Model, module: object, hook_name: str) -> None:
    """Refuse SAEs of what a Hugging Face module puts out where the model has another tensor."""
    norms = {"hook_attn_out": "ln1_post.", "hook_mlp_out": "ln2_post."}
    block, _, site = hook_name.rpartition(".")
    if module is None or site not in norms:
        return
    if any(name.startswith(f"{block}.{norms[site]}") for name in model.hook_dict):
        raise ValueError(
            f"The SAE reads the output of {module} before the norm that this model applies to it, "
            f"and {hook_name} is after that norm; choose an SAE of the residual stream."
        )


def _model_name(model: Model, model_name: str | None) -> str | None:
    if model_name is not None:
        return model_name
    own = getattr(model.cfg, "model_name", None)
    if not isinstance(own, str) or own in ("", "custom") or Path(own).is_dir():
        return None
    return own


def _plain_name(name: str) -> str:
    return (official_name(name) or name).rstrip("/").split("/")[-1].lower()


def _pickle_refusal(path: Path) -> str:
    return (
        f"{path} is a pickle, which can run code when loaded, and was not opened. Give the folder "
        f"that sae.save_model wrote ({CONFIG} and {WEIGHTS})."
    )
