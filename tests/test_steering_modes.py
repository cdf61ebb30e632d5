"""Every mode of steering is a hand-written hook, in every family of models, cached and in bf16."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import SAE
from torch import Tensor

from core.models import Model, hooks_at, load_model
from core.patch_scoping.generation import CachedRun
from core.saes import decode, encode
from core.steering.intervention import MODES, UNSTEERED, Intervention, Place
from core.steering.steerer import Steerer
from tests.builders import make_sae
from tests.model_families import write_family

LATENTS = (3, 11)
STRENGTHS = (2.5, -1.0)
N_PROMPT = 6
KINDS = (
    ("gpt2", "bridge"),
    ("gpt2", "hooked"),
    ("llama", "bridge"),
    ("llama", "hooked"),
    ("gemma2", "bridge"),
)
SITES = (
    "blocks.1.hook_resid_pre",
    "blocks.2.hook_resid_post",
    "blocks.1.attn.hook_z",
    "blocks.1.hook_mlp_out",
)


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A tiny model of each family as each class."""
    family, backend = request.param
    folder = tmp_path_factory.mktemp(family)
    write_family(family, folder)
    return load_model(folder, device="cpu", backend=backend)


def tokens(n: int = 9) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    drawn = torch.randint(4, 290, (1, n), generator=generator)
    drawn[:, 0] = 0
    return drawn


def by_hand(sae: SAE, mode: str, x: Tensor, latents: tuple[int, ...] = LATENTS) -> Tensor:
    """The definition, with the SAE's own decoder and its error; two latents, one after another
    where they do not meet, from the same x."""
    flat = x.flatten(2).float()
    acts = encode(sae, flat)
    error = flat - decode(sae, acts, d_head=x.shape[-1]).flatten(2)
    new = acts.clone()
    total = torch.zeros_like(flat)
    for latent, s in zip(latents, STRENGTHS, strict=True):
        row = sae.W_dec[latent]
        unit = row / row.norm()
        along = (flat @ unit)[..., None]
        if mode in ("add", "renormalise"):
            new[..., latent] += s
        elif mode == "set":
            new[..., latent] = s
        elif mode == "least":
            new[..., latent] = new[..., latent].clamp_min(s)
        elif mode == "ablate":
            new[..., latent] = 0
        elif mode == "scale":
            total += (s - 1) * along * unit
        else:
            total += (along.clamp_max(s * row.norm()) - along) * unit
    out = decode(sae, new, d_head=x.shape[-1]).flatten(2) + error + total
    if mode == "renormalise":
        out = out * flat.norm(dim=-1, keepdim=True) / out.norm(dim=-1, keepdim=True)
    return out.reshape(x.shape)


def hand_hook(change: Callable[[Tensor], Tensor], where: slice | list[int]) -> Any:
    def hook_function(activations: Tensor, hook: Any) -> Tensor:
        changed = activations.clone()
        changed[:, where] = change(activations)[:, where].to(activations)
        return changed

    return hook_function


def sae_at(site: str, architecture: str = "standard") -> SAE:
    sae = make_sae(architecture, d_in=32, d_sae=64, hook_name=site)
    # Rows of other lengths than 1, so that whoever forgets the length is seen.
    sae.W_dec.data *= torch.linspace(0.5, 2, 64)[:, None]
    return sae


@pytest.mark.parametrize("mode", MODES)
def test_modes_are_hand_written_hooks(model: Model, mode: str) -> None:
    text = tokens()
    for site in SITES:
        sae = sae_at(site, "topk" if "mlp" in site else "standard")
        # The latents that are most active here, or removing them would do nothing.
        active = encode(sae, _site(model, site, text).flatten(2))[0, 1:].mean(0).topk(2)
        latents = tuple(active.indices.tolist())
        it = Intervention(latents, STRENGTHS, mode)
        steerer = Steerer(model, sae, [it, UNSTEERED], n_prompt=N_PROMPT, n_leading=1)
        with steerer.around([0, 1, 0]):
            found = model(text.expand(3, -1), return_type="logits")
        plain = model(text, return_type="logits")[0]
        hook = hand_hook(lambda x, s=sae, n=latents: by_hand(s, mode, x, n), slice(1, None))
        with hooks_at(model, [(site, hook)]):
            wanted = model(text, return_type="logits")[0]
        assert (wanted - plain).abs().max() > 1e-3, (site, "the mode does something")
        for row in (0, 2):
            torch.testing.assert_close(found[row], wanted, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(found[1], plain, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("place", ["all", "after", "tokens", "where"])
def test_places_token_by_token(model: Model, place: str) -> None:
    """Under the cache, row by row at its own place, as in one run with hand-written hooks."""
    text, sae = tokens(), sae_at(SITES[0])
    acts = encode(sae, _site(model, SITES[0], text))[0]
    firing = (acts[1:] > 0).sum(0)
    gate = int(torch.nonzero((firing > 0) & (firing < 8))[0])
    where = {
        "all": list(range(1, 9)),
        "after": list(range(N_PROMPT - 1, 9)),
        "tokens": [2, 4],
        "where": [i for i in range(1, 9) if acts[i, gate] > 0],
    }[place]
    chosen = Place(place, (2, 4) if place == "tokens" else (), gate if place == "where" else None)
    for mode in ("add", "set", "scale", "renormalise"):
        it = Intervention(LATENTS, STRENGTHS, mode, chosen)
        steerer = Steerer(model, sae, [UNSTEERED, it], n_prompt=N_PROMPT, n_leading=1)
        run = CachedRun(model)
        parts = []
        for start, end in ((0, N_PROMPT), (N_PROMPT, 7), (7, 8), (8, 9)):
            with steerer.around([1, 0], start):
                parts.append(run.step(text[:, start:end].expand(2, -1)))
        found = torch.cat(parts, 1)
        hook = hand_hook(lambda x, m=mode: by_hand(sae, m, x), where)
        with hooks_at(model, [(SITES[0], hook)]):
            wanted = model(text, return_type="logits")[0]
        torch.testing.assert_close(found[0], wanted, atol=2e-5, rtol=1e-5)
        plain = model(text, return_type="logits")[0]
        torch.testing.assert_close(found[1], plain, atol=2e-5, rtol=1e-5)


def test_strengths_in_lengths_of_the_stream(model: Model) -> None:
    text, sae = tokens(), sae_at("blocks.1.hook_resid_pre")
    it = Intervention((3,), (0.5,), of_stream=True)
    with Steerer(model, sae, [it], n_prompt=N_PROMPT).around([0]):
        found = model(text, return_type="logits")
    unit = sae.W_dec[3] / sae.W_dec[3].norm()
    hook = hand_hook(lambda x: x + 0.5 * x.norm(dim=-1, keepdim=True) * unit, slice(0, None))
    with hooks_at(model, [(SITES[0], hook)]):
        wanted = model(text, return_type="logits")
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_of_the_stream_behind_output_weights(tiny_model: Model) -> None:
    text, sae = tokens(), sae_at("blocks.1.attn.hook_z")
    it = Intervention((3,), (0.5,), of_stream=True)
    before = _site(tiny_model, "blocks.1.hook_resid_mid", text)
    with Steerer(tiny_model, sae, [it], n_prompt=N_PROMPT).around([0]):
        after = _site(tiny_model, "blocks.1.hook_resid_mid", text)
    length = _site(tiny_model, "blocks.1.hook_resid_pre", text).norm(dim=-1)
    torch.testing.assert_close((after - before).norm(dim=-1), 0.5 * length, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("mode", ["add", "set", "scale"])
def test_transcoders_change_what_the_layer_gives_out(tiny_model: Model, mode: str) -> None:
    text = tokens()
    read, written = "blocks.1.ln2.hook_normalized", "blocks.1.hook_mlp_out"
    sae = make_sae("transcoder", d_in=32, d_sae=64, hook_name=read, hook_name_out=written)
    latents = encode(sae, _site(tiny_model, read, text))[..., list(LATENTS)]
    rows = sae.W_dec[list(LATENTS)]
    s = torch.tensor(STRENGTHS)

    def change(x: Tensor) -> Tensor:
        if mode == "scale":
            units = rows / rows.norm(dim=-1, keepdim=True)
            return x + ((s - 1) * (x @ units.T)) @ units
        return x + (s - latents if mode == "set" else s.expand_as(latents)) @ rows

    it = Intervention(LATENTS, STRENGTHS, mode)
    with Steerer(tiny_model, sae, [it], n_prompt=N_PROMPT).around([0]):
        found = tiny_model(text, return_type="logits")
    with hooks_at(tiny_model, [(written, hand_hook(change, slice(0, None)))]):
        wanted = tiny_model(text, return_type="logits")
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_transcoders_that_write_before_they_read_are_refused(tiny_model: Model) -> None:
    sae = make_sae(
        "transcoder",
        d_in=32,
        d_sae=64,
        hook_name="blocks.2.hook_resid_pre",
        hook_name_out="blocks.1.hook_mlp_out",
    )
    with pytest.raises(ValueError, match="read before they write"):
        Steerer(tiny_model, sae, [UNSTEERED], n_prompt=3)


def test_saes_that_normalise_their_input(tiny_model: Model) -> None:
    text = tokens()
    site = "blocks.1.hook_resid_pre"
    sae = make_sae(
        "standard", d_in=32, d_sae=64, hook_name=site, normalize_activations="layer_norm"
    )

    def change(x: Tensor) -> Tensor:
        acts = encode(sae, x)
        new = acts.clone()
        new[..., 3] = 2.5
        return decode(sae, new, like=x) + x - decode(sae, acts, like=x)

    it = Intervention((3,), (2.5,), "set")
    with Steerer(tiny_model, sae, [it], n_prompt=N_PROMPT).around([0]):
        found = tiny_model(text, return_type="logits")
    with hooks_at(tiny_model, [(site, hand_hook(change, slice(0, None)))]):
        wanted = tiny_model(text, return_type="logits")
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    stream = Intervention((3,), (0.5,), of_stream=True)
    with pytest.raises(ValueError, match="normalises each input"):
        Steerer(tiny_model, sae, [stream], n_prompt=N_PROMPT)


def test_an_sae_of_one_head_leaves_the_others(tiny_model: Model) -> None:
    site = "blocks.1.attn.hook_z"
    sae = make_sae("standard", d_in=8, d_sae=16, hook_name="blocks.1.attn.hook_q")
    sae.cfg.metadata.hook_name, sae.cfg.metadata.hook_head_index = site, 2
    before = _site(tiny_model, site, tokens())
    with Steerer(tiny_model, sae, [Intervention((3,), (2.0,))], n_prompt=N_PROMPT).around([0]):
        seen: list[Tensor] = []
        hook = (site, lambda activations, hook: seen.append(activations.clone()))
        with hooks_at(tiny_model, [hook]):
            tiny_model(tokens(), return_type=None)
    change = seen[0] - before
    torch.testing.assert_close(change[0, :, 2], 2 * sae.W_dec[3].expand(9, -1))
    assert change[:, :, [0, 1, 3]].abs().max() == 0


def test_bf16_is_float32_rounded_at_the_site(tiny_gpt2_dir: Path) -> None:
    model = load_model(tiny_gpt2_dir, device="cpu", dtype="bfloat16")
    text, sae = tokens(), sae_at(SITES[0])
    for mode in MODES:
        it = Intervention(LATENTS, STRENGTHS, mode)
        with Steerer(model, sae, [it], n_prompt=N_PROMPT).around([0]):
            found = model(text, return_type="logits")
        hook = hand_hook(lambda x, m=mode: by_hand(sae, m, x).to(x), slice(0, None))
        with hooks_at(model, [(SITES[0], hook)]):
            wanted = model(text, return_type="logits")
        # One step of bfloat16 at the site, where the two sums round differently.
        gap = (found - wanted).float().abs().mean()
        assert gap < 0.02 * (wanted - model(text, return_type="logits")).float().abs().mean(), mode


def test_random_directions_are_as_long_and_the_same_for_a_seed(tiny_model: Model) -> None:
    text, sae = tokens(), sae_at(SITES[0])
    its = [Intervention((3,), (2.0,), random=seed) for seed in (None, 1, 1, 2)]
    with Steerer(tiny_model, sae, its, n_prompt=N_PROMPT).around([0, 1, 2, 3]):
        steered = _site(tiny_model, SITES[0], text.expand(4, -1))
    moved = steered - _site(tiny_model, SITES[0], text)
    lengths = moved.norm(dim=-1)
    torch.testing.assert_close(lengths, lengths[:1].expand(4, -1))
    torch.testing.assert_close(moved[1], moved[2])
    assert (moved[1] - moved[3]).abs().max() > 0.1
    torch.testing.assert_close(moved[0, 0], 2 * sae.W_dec[3])


def _site(model: Model, site: str, text: Tensor) -> Tensor:
    seen: list[Tensor] = []
    hook = (site, lambda activations, hook: seen.append(activations.detach().clone()))
    with hooks_at(model, [hook]):
        model(text, return_type=None)
    return seen[-1]
