"""Load SAEs, encode and decode with them, and say what an SAE is.

`encode` and `decode` never change the SAE, and do what an SAE's own methods need care for: SAEs of
`hook_z` that decode before they ever encoded, activations whose heads are flattened, SAEs of a
single head (`core.saes.site`), and SAEs that normalise their input and undo that on their output.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from pathlib import Path

import torch
from jaxtyping import Float
from sae_lens import SAE
from sae_lens.loading.pretrained_sae_loaders import sae_lens_disk_loader
from sae_lens.saes.transcoder import Transcoder
from torch import Tensor

from core.device import choose_device
from core.saes.card import SaeCard, sae_card, sae_hook_name, sae_layer
from core.saes.checks import check_fits, check_release, check_sae_folder, folder_errors
from core.saes.foreign import foreign_converter
from core.saes.kinds import check_kind, check_numbers, checked_loader
from core.saes.normalisation import fold_norm_factor, fold_saved, refuse_unscaled
from core.saes.site import head_of, put_at_site, read_at_site, reads_heads, sae_inputs
from core.saes.trained import at_trained_site

__all__ = [
    "SaeCard",
    "check_fits",
    "decode",
    "encode",
    "head_of",
    "load_sae",
    "load_sae_from_disk",
    "put_at_site",
    "read_at_site",
    "reads_heads",
    "reconstruct",
    "sae_card",
    "sae_hook_name",
    "sae_inputs",
    "sae_layer",
]

_RUNTIME_NORMS = {"layer_norm": ("ln_mu", "ln_std"), "constant_norm_rescale": ("x_norm_coeff",)}
"""Normalisations that measure each input, with the attributes sae_lens keeps in between."""


def load_sae(
    release: str,
    sae_id: str,
    *,
    device: str | torch.device | None = None,
    norm_factor: float | None = None,
    scaled_later: bool = False,
) -> SAE:
    """One published SAE (downloaded or cached), float32, in eval mode, with frozen parameters.

    Its metadata name the site at which transformer_lens has what it was trained on, which is not
    always the one that sae_lens names (`core.catalog.trained_sites`).

    Args:
        norm_factor: what its input is to be multiplied by, for an SAE of scaled activations whose
            factor is not published (`core.saes.normalisation`).
        scaled_later: load such an SAE without, for who will measure and fold it.

    Raises ValueError for an unknown release or id, naming close ones, for an SAE of a kind that is
    not shown, and for a norm_factor that is missing or not needed. Errors of huggingface_hub pass
    through; `core.hub` puts them into words.
    """
    check_release(release, sae_id)
    where = f"{sae_id} of {release}"
    with _quiet():
        sae = SAE.from_pretrained(
            release,
            sae_id,
            device=_device(device),
            dtype="float32",
            converter=checked_loader(release, sae_id),
        )
    check_kind(sae, where=where)
    at_trained_site(sae, release=release)
    return _frozen(_scaled(sae, norm_factor, where, later=scaled_later), where)


def load_sae_from_disk(
    path: str | Path,
    *,
    device: str | torch.device | None = None,
    norm_factor: float | None = None,
    scaled_later: bool = False,
) -> SAE:
    """The SAE in a folder of a format of `core.catalog.formats`, such as `sae.save_model` writes it
    (or one weight file, where a folder holds several).

    In eval mode, with frozen parameters; computes in float32 whatever it is stored in.
    `norm_factor` and `scaled_later` are as for `load_sae`; a factor that the trainer kept in the
    folder is folded in. Raises ValueError, saying what to do, when the folder lacks something, is
    corrupted, holds a pickle (which is not executed), or an SAE of a kind that is not shown.
    """
    folder = Path(path).expanduser()
    with _quiet(), folder_errors(folder):
        converter = foreign_converter(folder)
        if converter is None:
            check_sae_folder(folder)
            converter = sae_lens_disk_loader
        sae = SAE.load_from_disk(
            folder, device=_device(device), dtype="float32", converter=converter
        )
    check_kind(sae, where=str(folder))
    at_trained_site(sae, folder=folder)
    if norm_factor is None:
        fold_saved(sae, folder)
    return _frozen(_scaled(sae, norm_factor, str(folder), later=scaled_later), str(folder))


def encode(sae: SAE, activations: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_sae"]:
    """Latents of `activations`, which are `[..., d_in]`, or `[..., n_heads, d_head]` at hook_z.

    An SAE of a single head takes that head's numbers, `[..., d_head]` (up to three dimensions), or
    the whole site in four: `[batch, pos, n_heads, d_head]`. `read_at_site` chooses the head in any
    number. Casts to the SAE's device and dtype; gradients flow. Raises ValueError for another
    width.
    """
    flat = _flatten(sae, activations)
    latents = _flat_view(sae).encode(flat)
    # What the SAE noted about this input must not reach a later, unrelated decode.
    for name in _RUNTIME_NORMS.get(sae.cfg.normalize_activations, ()):
        sae.__dict__.pop(name, None)
    return latents


def decode(
    sae: SAE,
    latents: Float[Tensor, "... d_sae"],
    *,
    like: Float[Tensor, "... d_in"] | None = None,
    d_head: int | None = None,
) -> Float[Tensor, "... d_in"]:
    """Activations that the SAE writes for `latents` (`[..., d_out]` for transcoders).

    An SAE of hook_z gives `[..., n_heads, d_head]`: d_head is taken from the argument, else from
    the last dimension of `like`, else from what the SAE last encoded by itself. One of a single
    head gives that head's `[..., d_head]`. An SAE that normalises each input (layer_norm) needs
    `like`, the activations that were encoded.

    Raises ValueError when that is not known.
    """
    view = _flat_view(sae)
    norm = sae.cfg.normalize_activations
    is_transcoder = isinstance(sae, Transcoder)
    if norm in _RUNTIME_NORMS and not is_transcoder:
        if like is None:
            raise ValueError(
                f"This SAE normalises each input ({norm}): give decode the activations that were "
                "encoded, as like=activations."
            )
        # Its closures note mean and scale on the SAE, and decode below takes them off again.
        sae.run_time_activation_norm_fn_in(_flatten(sae, like))
    flat = view.decode(latents.to(device=sae.W_dec.device, dtype=sae.W_dec.dtype))
    if is_transcoder or not reads_heads(sae):
        return flat
    if d_head is None and like is not None:
        d_head = like.shape[-1]
    d_head = d_head or getattr(sae, "d_head", None)
    if not d_head:
        raise ValueError(
            "This SAE writes heads, whose width it does not know before it has encoded: give "
            "decode d_head=model.cfg.d_head, or like=activations."
        )
    if sae.cfg.d_in % d_head:
        raise ValueError(f"d_head {d_head} does not divide the SAE's d_in {sae.cfg.d_in}.")
    return flat if d_head == sae.cfg.d_in else flat.unflatten(-1, (-1, d_head))


def reconstruct(sae: SAE, activations: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_in"]:
    """The SAE's version of `activations`, in their shape (a transcoder's output for that input).

    Of a whole site, an SAE of a single head gives that head alone; `put_at_site` puts it back. In
    the SAE's dtype; the SAE's error is `activations - reconstruct(sae, activations)`.
    """
    output = decode(sae, encode(sae, activations), like=activations)
    skip = getattr(sae, "W_skip", None)
    if isinstance(skip, Tensor):
        output = output + _flatten(sae, activations) @ skip.T
    return output


def _scaled(sae: SAE, norm_factor: float | None, what: str, *, later: bool) -> SAE:
    if norm_factor is not None:
        return fold_norm_factor(sae, norm_factor, source="given")
    if not later:
        refuse_unscaled(sae, what)
    return sae


def _frozen(sae: SAE, where: str) -> SAE:
    check_numbers(sae, where=where)
    # nn.Module.eval would do, but SAEs answer len() and indexing: never test one for truth.
    sae.eval()
    sae.requires_grad_(False)
    return sae


def _flatten(sae: SAE, activations: Tensor) -> Tensor:
    """`[..., d_in]`, on the SAE's device and in its dtype."""
    d_in = sae.cfg.d_in
    if head_of(sae) is not None and activations.dim() > 3:
        activations = read_at_site(sae, activations)
    flat = activations
    if activations.shape[-1] != d_in and reads_heads(sae) and activations.dim() >= 2:
        flat = activations.flatten(-2)
    if flat.shape[-1] != d_in:
        raise ValueError(
            f"Activations {list(activations.shape)} do not fit the SAE, which reads {d_in} numbers "
            f"a position at {sae.cfg.metadata.hook_name}."
        )
    return flat.to(device=sae.W_dec.device, dtype=sae.W_dec.dtype)


def _flat_view(sae: SAE) -> SAE:
    """The same SAE (shared parameters and hooks) with the reshaping of heads switched off.

    sae_lens learns d_head from the first input and keeps it; a shallow copy leaves that, and what
    other threads see, alone.
    """
    if sae.cfg.reshape_activations != "hook_z":
        return sae
    view = copy(sae)
    view.turn_off_forward_pass_hook_z_reshaping()
    return view


def _device(device: str | torch.device | None) -> str:
    return choose_device(str(device) if device is not None else "auto")


@contextmanager
def _quiet() -> Iterator[None]:
    # The advice on loading the model is followed by `core.models.processing_for_sae`, and an
    # unknown scale is refused.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"norm_scaling_factor not found")
        warnings.filterwarnings("ignore", message=r"\s*This SAE has non-empty model_from")
        yield
