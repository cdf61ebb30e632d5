"""What an SAE is, in the words of its config and of what lies beside it."""

from dataclasses import dataclass
from pathlib import Path

from sae_lens import SAE
from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

from core.catalog.formats.reading import finite
from core.models.hooks import layer_of_hook
from core.saes.firing_rates import FILE_NAME, read_firing_rates
from core.saes.site import head_of


@dataclass(frozen=True)
class SaeCard:
    """What an SAE is, in the words of its config; None where nothing is known."""

    architecture: str
    """Such as "standard", "jumprelu", "topk", "gated" or "transcoder"."""
    model_name: str | None
    """Model it was trained on, as its author named it."""
    hook_name: str
    """Site it reads."""
    layer: int | None
    """Layer of that site; None outside the blocks."""
    d_in: int
    """Numbers it reads a position."""
    d_sae: int
    """Number of latents."""
    dtype: str
    """Precision it computes in, such as "float32"."""
    dataset: str | None
    """Dataset it was trained on."""
    context_size: int | None
    """Length of the training contexts, in tokens."""
    neuronpedia_id: str | None
    """Such as "gpt2-small/8-res-jb"."""
    l0: float | None
    """Mean number of active latents a token, as published or from the stored firing rates."""
    dead_fraction: float | None = None
    """Share of latents that never fired, by the stored firing rates."""
    norm_factor: float | None = None
    """What its input is multiplied by, folded into the weights; None where nothing was."""
    norm_factor_source: str | None = None
    """Where that factor is from, in words."""
    head: int | None = None
    """Head of the site that it reads alone; None for all of it."""


def sae_hook_name(sae: SAE) -> str:
    """Site that the SAE reads. Raises ValueError when its metadata does not say."""
    hook_name = sae.cfg.metadata.hook_name
    if not isinstance(hook_name, str):
        raise ValueError(
            "The SAE does not say which site it reads; add hook_name to metadata in its cfg.json."
        )
    return hook_name


def sae_layer(sae: SAE) -> int | None:
    """Layer of the site that the SAE reads; None outside the blocks."""
    return layer_of_hook(sae_hook_name(sae))


def sae_card(
    sae: SAE,
    *,
    release: str | None = None,
    sae_id: str | None = None,
    folder: str | Path | None = None,
) -> SaeCard:
    """Summary of an SAE.

    `release` and `sae_id` add what sae_lens' directory knows, `folder` what sparsity.safetensors
    there says (log10 of each latent's firing rate).
    """
    metadata = sae.cfg.metadata
    listed = get_pretrained_saes_directory().get(release) if release else None
    l0 = listed.expected_l0.get(sae_id) if listed and sae_id else None
    rates = read_firing_rates(Path(folder) / FILE_NAME, sae.cfg.d_sae) if folder else None
    if not l0 and rates is not None:
        l0 = float(rates.sum())
    # sae_lens' trainer notes what it saw last.
    l0 = l0 or finite(metadata.l0)
    neuronpedia_id = metadata.neuronpedia_id
    if neuronpedia_id is None and listed and sae_id:
        neuronpedia_id = listed.neuronpedia_id.get(sae_id)
    return SaeCard(
        architecture=sae.cfg.architecture(),
        model_name=metadata.model_name,
        hook_name=sae_hook_name(sae),
        layer=sae_layer(sae),
        d_in=sae.cfg.d_in,
        d_sae=sae.cfg.d_sae,
        dtype=str(sae.W_dec.dtype).removeprefix("torch."),
        dataset=metadata.dataset_path,
        context_size=metadata.context_size,
        neuronpedia_id=neuronpedia_id,
        l0=float(l0) if l0 else None,
        dead_fraction=None if rates is None else float((rates == 0).mean()),
        norm_factor=metadata.norm_factor,
        norm_factor_source=metadata.norm_factor_source,
        head=head_of(sae),
    )
