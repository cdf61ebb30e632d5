"""NAME.pt with NAME_cfg.json: the SAEs of attention heads of gpt2-small-hook-z-kk, and their kin.

    f = relu((x - b_dec) W_enc + b_enc)        x' = f W_dec + b_dec

One folder may hold many of them; each is an SAE of its own, named after its file.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.catalog.formats import sites
from core.catalog.formats.archives import load_torch_file, torch_file_problem
from core.catalog.formats.description import Description
from core.catalog.formats.reading import name_of, positive_int, read_object, sizes_problem
from core.catalog.formats.tensors import check_tensors

if TYPE_CHECKING:
    from torch import Tensor

NAME = "hook_z"
CONFIG_ENDING, WEIGHTS_ENDING = "_cfg.json", ".pt"


def config_of(path: Path) -> Path:
    """The config beside the weight file `path`."""
    return path.with_name(path.name.removesuffix(WEIGHTS_ENDING) + CONFIG_ENDING)


def files(path: Path) -> tuple[Path, ...]:
    """Files whose change is a change of the SAE."""
    return path, config_of(path)


def describe(path: Path) -> Description:
    """The SAE in the weight file `path` from the config beside it; weights are not loaded."""
    config = config_of(path)
    cfg, problem = read_object(config)
    said_of = sites.read_user_settings(path)
    model_name = said_of.model_name or name_of(cfg.get("model_name")) or said_of.model_above
    model_name = model_name or sites.model_from_path(path) or ""
    hook_name = said_of.hook_name or name_of(cfg.get("act_name"))
    problem = (
        problem
        or said_of.problem
        or sizes_problem(config, cfg, ("act_size", "dict_size"))
        or torch_file_problem(path)
        or sites.missing_problem(path, NAME, said_of, model_name=model_name, hook_name=hook_name)
    )
    return Description(
        NAME,
        problem=problem,
        model_name=model_name,
        hook_name=hook_name,
        d_in=positive_int(cfg.get("act_size")),
        d_sae=positive_int(cfg.get("dict_size")),
        architecture="standard",
        context_size=positive_int(cfg.get("seq_len")),
    )


def load(path: Path, description: Description) -> tuple[dict[str, Any], dict[str, "Tensor"]]:
    """Config entries and float32 tensors in sae_lens' names.

    Raises:
        ValueError: tensors are missing, unknown or of another shape; with the remedy.
    """
    d_in, d_sae = description.d_in or 0, description.d_sae or 0
    wanted: dict[str, tuple[int, ...]] = {"W_enc": (d_in, d_sae), "W_dec": (d_sae, d_in)}
    wanted |= {"b_enc": (d_sae,), "b_dec": (d_in,)}
    return {"apply_b_dec_to_input": True}, check_tensors(path, load_torch_file(path), wanted)
