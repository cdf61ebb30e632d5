"""Autointerp against ARENA's serial loop: questions to a slow service, and gathering.

ARENA's sides are measured in part and extrapolated along what they are linear in: the serial
loop over latents, the gathering loop over batches of text.
"""

import sys

import numpy as np
import torch
from openai import OpenAI
from sae_lens import SAE, HookedSAETransformer

from benchmarks.table import DEVICE, described_device, seconds_of
from core.autointerp import AutoInterpConfig
from core.autointerp.chat import ChatExplainer, ChatJudge
from core.autointerp.explain import Roles, explain_and_score
from core.autointerp.gather import gather_windows
from core.corpus import TokenSet, default_packing, docs_sample, load_token_set
from core.lease import PlainLease
from core.llm import ChatEndpoint, ChatSession
from core.models import Model, load_model
from core.saes import load_sae_from_disk, sae_hook_name
from core.settings import REPOSITORY
from tests.loopback_openai import GOOD_KEY, LoopbackOpenAI, loopback_openai
from tests.stub_examples import stub_materials

DEMO = REPOSITORY / "demo"
_ANSWER_SECONDS = 1.0
_LATENTS = 100
_SERIAL_LATENTS = 5
_TOKENS = 65_536
_ARENA_SHARE = 4
_PACKAGES = ["networkx", "numpy", "pandas"]
_BATCH_ROWS = 16
_REPEATS = 2


def print_autointerp() -> None:
    """The table of questions and of gathering."""
    write = sys.stdout.write
    write(f"On {described_device(DEVICE)}:\n\n")
    write("| what | plain | ours | ratio |\n|---|---|---|---|\n")
    with loopback_openai() as service:
        service.delay_seconds = _ANSWER_SECONDS
        service.reply = lambda body: (
            "1, 2" if "numbered texts" in body["messages"][0]["content"] else "activates on words"
        )
        serial = (
            seconds_of(lambda: _serially(service, _SERIAL_LATENTS)) * _LATENTS / _SERIAL_LATENTS
        )
        at_once = seconds_of(lambda: _at_once(service))
    _row(
        f"{_LATENTS} latents explained and scored by a service that answers after "
        f"{_ANSWER_SECONDS:g} s: one question after the other ({_SERIAL_LATENTS} latents measured, "
        f"times {_LATENTS // _SERIAL_LATENTS}) / 32 at a time",
        serial,
        at_once,
    )
    print_gathering()


def print_gathering() -> None:
    """The rows of gathering: ARENA's loop runs a part of the batches, for all latents."""
    # Two of one class: hooks of the one fire twice once an SAE has been attached to it.
    hooked, model = (
        load_model(DEMO / "models/docs-small", backend="hooked", device=DEVICE) for _ in range(2)
    )
    sae = load_sae_from_disk(DEMO / "saes/docs-small-res/blocks.2.hook_resid_pre", device=DEVICE)
    packing = default_packing(model, sae, layout="windows", max_tokens=_TOKENS)
    token_set = load_token_set(docs_sample(_PACKAGES), model.tokenizer, packing)
    n_batches = -(-token_set.n_rows // _BATCH_ROWS)
    n_measured = n_batches // _ARENA_SHARE
    for n in (4, 100, 1000):
        cfg = AutoInterpConfig(list(range(n)), total_tokens=_TOKENS)
        plain, ours = zip(
            *(
                (
                    seconds_of(lambda: _arena_loop(hooked, sae, token_set, cfg, n_measured)),  # noqa: B023
                    seconds_of(lambda: gather_windows(PlainLease(model, [sae]), token_set, cfg)),  # noqa: B023
                )
                for _ in range(_REPEATS)
            ),
            strict=True,
        )
        _row(
            f"Examples of {n:,} latents in {_TOKENS:,} tokens: ARENA's loop ({n_measured} of "
            f"{n_batches} batches measured) / one pass",
            min(plain) * n_batches / n_measured,
            min(ours),
        )


def _serially(service: LoopbackOpenAI, n: int) -> None:
    """A question after the other, as ARENA asks them."""
    client = OpenAI(api_key=GOOD_KEY, base_url=service.url)
    session = ChatSession(ChatEndpoint("toy", service.url, GOOD_KEY))
    explainer = ChatExplainer(session, AutoInterpConfig(list(range(n)), scoring=True))
    judge = ChatJudge(session)
    for material in stub_materials(n).values():
        first = explainer.request(material.evidence)
        said = client.chat.completions.create(model="toy", messages=first.messages)  # type: ignore[arg-type]
        text = (said.choices[0].message.content or "").split("activates on")[-1]
        second = judge.request(text, material.scoring)
        client.chat.completions.create(model="toy", messages=second.messages)  # type: ignore[arg-type]


def _at_once(service: LoopbackOpenAI) -> None:
    session = ChatSession(ChatEndpoint("toy", service.url, GOOD_KEY, concurrency=32))
    cfg = AutoInterpConfig(list(range(_LATENTS)), scoring=True)
    roles = Roles(ChatExplainer(session, cfg), ChatJudge(session))
    found = explain_and_score(stub_materials(_LATENTS), roles, session=session)
    if {result["status"] for result in found.values()} != {"scored"}:
        raise RuntimeError("A latent was not scored; the comparison would be unfair.")


@torch.no_grad()
def _arena_loop(
    model: Model, sae: SAE, token_set: TokenSet, cfg: AutoInterpConfig, n_batches: int
) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
    """Run with the SAE attached; for each latent of each batch, the highest places and windows.

    The first `n_batches` batches only.
    """
    if not isinstance(model, HookedSAETransformer):
        raise TypeError("ARENA's loop needs a HookedSAETransformer.")
    name = f"{sae_hook_name(sae)}.hook_sae_acts_post"
    kept: dict[int, list[tuple[torch.Tensor, torch.Tensor]]] = {
        latent_idx: [] for latent_idx in cfg.latents
    }
    width = torch.arange(-cfg.buffer, cfg.buffer + 1, device=DEVICE)
    tokens = torch.from_numpy(token_set.tokens.astype(np.int64)).to(DEVICE)
    for rows in tokens.split(_BATCH_ROWS)[:n_batches]:
        _, cache = model.run_with_cache_with_saes(
            rows, saes=[sae], stop_at_layer=3, names_filter=[name]
        )
        acts = cache[name][..., cfg.latents]
        for i, latent in enumerate(cfg.latents):
            inner = acts[:, cfg.buffer : -cfg.buffer, i]
            best = inner.flatten().topk(cfg.n_top_ex).indices
            row, column = best // inner.shape[1], best % inner.shape[1] + cfg.buffer
            places = row[:, None], column[:, None] + width
            kept[latent].append((rows[places], acts[..., i][places]))
    found = {}
    for latent, parts in kept.items():
        windows, values = (torch.cat(some) for some in zip(*parts, strict=True))
        order = values[:, cfg.buffer].topk(cfg.n_top_ex).indices
        found[latent] = windows[order], values[order]
    return found


def _row(claim: str, plain: float, ours: float) -> None:
    sys.stdout.write(f"| {claim} | {plain:.2f} s | {ours:.2f} s | {plain / ours:.1f}× |\n")
    sys.stdout.flush()
