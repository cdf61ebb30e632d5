"""Write an AbsTopK SAE as the TopK SAE that it equals.

    python -m core.saes.convert FOLDER NEW_FOLDER

An AbsTopK SAE keeps the k pre-activations that are largest in size, with their signs. Give each
latent a twin that reads and writes the opposite direction: of the two pre-activations `p` and `-p`,
one is `|p|`, so the k largest of all are the k largest in size, each in the latent of its side, and
above 0. For d_sae latents, latent `i` of the result fires where latent `i` was above 0, and latent
`d_sae + i` where it was below, with the sign turned; the reconstruction is the same.
"""

import argparse
import sys
from pathlib import Path

import torch
from sae_lens import SAE, AbsTopKSAE, TopKSAE, TopKSAEConfig
from sae_lens.saes.sae import SAEMetadata

from core.catalog.sae_config import folder_problem, weights_problem, whole_number
from core.models.folder import read_json_object
from core.saes.checks import CONFIG, WEIGHTS, check_files, folder_errors


@torch.no_grad()
def two_sided_as_topk(sae: SAE) -> TopKSAE:
    """The TopK SAE of 2·d_sae latents that computes what an AbsTopK SAE does; a copy.

    Its metadata keep what the SAE says of itself, and say in `two_sided` how the latents map. What
    was published about single latents (`neuronpedia_id`) is left out, for it is about both sides.

    Raises ValueError for an SAE of another architecture, or with a k beyond its latents.
    """
    if not isinstance(sae, AbsTopKSAE):
        raise ValueError(
            f"The SAE is of the architecture {sae.cfg.architecture()!r}; only 'abstopk' is written "
            "as another one."
        )
    config, n = sae.cfg, sae.cfg.d_sae
    if not whole_number(config.k, 1, n):
        raise ValueError(f"The SAE has k {config.k!r} and {n} latents; correct k in its cfg.json.")
    metadata = config.metadata.to_dict() | {
        "neuronpedia_id": None,
        "two_sided": (
            f"Written from an AbsTopK SAE of {n} latents: latent i below {n} fires where latent i "
            f"of it was above 0, latent {n} + i where latent i was below 0, with the sign turned."
        ),
    }
    topk = TopKSAE(
        TopKSAEConfig(
            d_in=config.d_in,
            d_sae=2 * n,
            k=config.k,
            rescale_acts_by_decoder_norm=config.rescale_acts_by_decoder_norm,
            dtype=config.dtype,
            device=str(sae.W_dec.device),
            apply_b_dec_to_input=config.apply_b_dec_to_input,
            normalize_activations=config.normalize_activations,
            reshape_activations=config.reshape_activations,
            metadata=SAEMetadata(**metadata),
        )
    )
    topk.W_enc.data = torch.cat([sae.W_enc, -sae.W_enc], dim=1)
    topk.b_enc.data = torch.cat([sae.b_enc, -sae.b_enc])
    topk.W_dec.data = torch.cat([sae.W_dec, -sae.W_dec])
    topk.b_dec.data = sae.b_dec.detach().clone()
    return topk.eval().requires_grad_(False)


def convert_folder(folder: Path, new_folder: Path) -> TopKSAE:
    """Write the AbsTopK SAE in `folder` to `new_folder` as a TopK SAE, and return that.

    Raises ValueError for a folder without such an SAE, and for one to write to that is not empty.
    """
    check_files(folder)
    config = read_json_object(folder / CONFIG)
    architecture = config.get("architecture")
    if architecture != "abstopk":
        raise ValueError(
            f"{folder} holds an SAE of the architecture {architecture!r}; only 'abstopk' is "
            "written as another one."
        )
    # But for the kind itself, what holds of a TopK SAE's config holds of this one.
    problem = folder_problem(folder, {**config, "architecture": "topk"})
    problem = problem or weights_problem(folder / WEIGHTS)
    if problem is not None:
        raise ValueError(problem)
    if new_folder.exists() and (not new_folder.is_dir() or any(new_folder.iterdir())):
        raise ValueError(f"{new_folder} is there already; give the name of a new folder.")
    with folder_errors(folder):
        topk = two_sided_as_topk(SAE.load_from_disk(folder, device="cpu"))
    topk.save_model(new_folder)
    return topk


def main(arguments: list[str]) -> int:
    """Run the command; 0, or 1 after a sentence about what is wrong."""
    parser = argparse.ArgumentParser(prog="python -m core.saes.convert", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of the AbsTopK SAE")
    parser.add_argument("new_folder", type=Path, help="folder to write the TopK SAE to")
    given = parser.parse_args(arguments)
    folder, new_folder = given.folder.expanduser(), given.new_folder.expanduser()
    try:
        topk = convert_folder(folder, new_folder)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    half = topk.cfg.d_sae // 2
    sys.stdout.write(
        f"Wrote {new_folder}: a TopK SAE of {topk.cfg.d_sae} latents. Latent i fires where latent "
        f"i of {folder} was above 0, latent {half} + i where it was below.\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
