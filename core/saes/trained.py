"""Have a loaded SAE read where it was trained (`core.catalog.trained_sites` knows where)."""

from pathlib import Path

from sae_lens import SAE
from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

from core.catalog.trained_sites import reading_of


def at_trained_site(sae: SAE, *, release: str | None = None, folder: Path | None = None) -> SAE:
    """The same SAE, with the site, and the weight processing that it needs, in its metadata.

    `release` is that of a published SAE, `folder` that of one on this machine. SAEs of hook_z read
    heads, also where their loader forgets to say so.
    """
    metadata = sae.cfg.metadata
    # Reading the list takes seconds once in a process: not for SAEs that cannot be on it.
    listed = get_pretrained_saes_directory().get(release) if release else None
    config = {**metadata.to_dict(), "architecture": sae.cfg.architecture()}
    reading = reading_of(
        config,
        folder=folder,
        loader=listed.conversion_func if listed else None,
        release=release,
    )
    metadata.hook_name = reading.hook_name
    if reading.hook_name_out is not None:
        metadata.hook_name_out = reading.hook_name_out
    if reading.processing:
        metadata.model_from_pretrained_kwargs = dict(reading.processing)
    reads_heads = (reading.hook_name or "").endswith("attn.hook_z")
    if reads_heads and metadata.hook_head_index is None and not hasattr(sae.cfg, "d_out"):
        sae.cfg.reshape_activations = "hook_z"
        sae.turn_on_forward_pass_hook_z_reshaping()
    return sae
