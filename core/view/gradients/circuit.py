"""A circuit for the page: traced in one lease, named, and with what else could be explained."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import pandas as pd
import torch

from core.catalog.entries import SaeEntry
from core.circuits import Circuit, LatentEnd, LogitEnd, Pruning, trace_circuit
from core.circuits.graph import LATENT, LOGIT, REST, TOKEN
from core.engine import Engine
from core.jobs.progress import Progress
from core.models.hooks import cache_sites
from core.models.token_text import token_text
from core.saes import encode, sae_hook_name
from core.view.gradients.prompt import prompt_ids, prompt_texts
from core.view.gradients.sites import name_of, title_of
from core.view.gradients.texts import SaePrint, sae_prints
from core.view.loading import HubErrorsInWords

_N_TOKENS, _N_LATENTS = 10, 20


@dataclass(frozen=True)
class CircuitRequest:
    """Which circuit is wanted."""

    model: str
    """Name of the model."""
    prompt: str
    """Text it reads."""
    chain: tuple[SaeEntry, ...]
    """SAEs it is traced through, earliest first."""
    end: tuple[int, ...]
    """A token id; position and index of a latent of the last SAE; empty for the likeliest token."""
    pruning: Pruning
    """How much is kept."""
    freeze_attention: bool
    """Whether attention patterns are held."""
    freeze_layer_norm: bool
    """Whether scales of LayerNorms are held."""

    @property
    def key(self) -> str:
        """Key of the job: two users who want the same share it."""
        plain = asdict(replace(self, chain=()))
        saes = [[*entry.key, entry.version] for entry in self.chain]
        text = json.dumps([plain, saes])
        return "circuit:" + hashlib.sha256(text.encode()).hexdigest()[:24]


@dataclass(frozen=True)
class EndChoice:
    """Something that can be explained."""

    end: tuple[int, ...]
    """As in the request."""
    title: str
    """What it is, in words."""


@dataclass(frozen=True, eq=False)
class CircuitResult:
    """A traced circuit; nothing here holds on to a model."""

    request: CircuitRequest
    """What was asked."""
    circuit: Circuit
    """The graph."""
    tokens: tuple[str, ...]
    """Texts of the prompt's tokens."""
    labels: tuple[str, ...]
    """Name of each node."""
    titles: tuple[str, ...]
    """Name of each layer."""
    ends: tuple[EndChoice, ...]
    """What can be explained on this prompt, this end among it."""
    prints: Mapping[str, SaePrint]
    """What identifies the weights of each SAE, by its name in links."""

    def entry(self, layer: int) -> SaeEntry | None:
        """SAE of a layer; None for tokens and logits."""
        chain = self.request.chain
        return chain[layer - 1] if 1 <= layer <= len(chain) else None

    def frame(self) -> pd.DataFrame:
        """The edges, strongest first, with the names of their ends."""
        edges = self.circuit.edges
        names = pd.Series(self.labels)
        table = pd.DataFrame(
            {
                "from": names.iloc[edges["source"]].to_numpy(),
                "to": names.iloc[edges["target"]].to_numpy(),
            }
        )
        return pd.concat([table, edges[["weight", "influence", "flow"]]], axis=1)


def trace(engine: Engine, request: CircuitRequest, progress: Progress) -> CircuitResult:
    """The circuit of `request`.

    Raises:
        ValueError: a prompt that cannot be used, SAEs that do not go together, an end that is not
            active, or no SAE.
        JobCancelled: through `progress`.
    """
    if not request.chain:
        raise ValueError("Choose at least one SAE to trace the circuit through.")
    if len(request.end) > 2:
        raise ValueError("What is to be explained is a token, or a position and a latent.")

    def report(done: int, total: int | None, message: str) -> None:
        progress.update(done, total, unit="bytes", message=message)

    names = [entry.key for entry in request.chain]
    with HubErrorsInWords(), engine.use(request.model, names, progress=report) as (model, saes):
        ids = prompt_ids(model, request.prompt)
        texts = prompt_texts(model, ids)
        end: LogitEnd | LatentEnd = LogitEnd(request.end[0] if request.end else None)
        if len(request.end) == 2:
            end = LatentEnd(*request.end)
        found = trace_circuit(
            ids,
            saes,
            model,
            end,
            pruning=request.pruning,
            freeze_attention=request.freeze_attention,
            freeze_layer_norm=request.freeze_layer_norm,
            progress=progress,
        )

        with torch.no_grad():
            chances = model(ids, return_type="logits")[0, -1].float().softmax(-1)
            site = sae_hook_name(saes[-1])
            acts = encode(saes[-1], cache_sites(model, ids, [site])[site])[0]
        likely = chances.topk(min(_N_TOKENS, len(chances))).indices.tolist()
        last = acts[-1].topk(min(_N_LATENTS, acts.shape[-1]))
        latents = [
            (ids.shape[1] - 1, int(latent))
            for latent, value in zip(last.indices.tolist(), last.values.tolist(), strict=True)
            if value > 0
        ]
        prints = sae_prints(request.chain, saes)
        named = {
            token: token_text(model.tokenizer, token) for token in {*likely, *_logit_ids(found)}
        }
    ends: list[tuple[int, ...]] = [*((it,) for it in likely), *latents]
    if request.end and request.end not in ends:
        ends.insert(0, request.end)
    where = _short(request.chain[-1])
    choices = [
        EndChoice(it, f"next token {named[it[0]]!r} ({float(chances[it[0]]):.0%} likely)")
        if len(it) == 1
        else EndChoice(it, f"latent {it[1]} of {where} at {texts[it[0]]!r} ({it[0]})")
        for it in ends
    ]
    titles = ["Tokens", *(_short(entry) for entry in request.chain)]
    if len(request.end) != 2:
        titles.append("Next token")
    return CircuitResult(
        request=request,
        circuit=found,
        tokens=texts,
        labels=tuple(_labels(found, texts, named)),
        titles=tuple(titles),
        ends=tuple(choices),
        prints=prints,
    )


def chain_note(chain: tuple[SaeEntry, ...]) -> str | None:
    """What a circuit through these SAEs leaves out; None where it leaves out nothing."""
    if all("resid" in (entry.hook_name or "") for entry in chain):
        return None
    return (
        "Not all of these SAEs read the residual stream, which carries everything: what flows past "
        "the others is left out, and each SAE is shown to feed only the next."
    )


def missing_note(result: CircuitResult) -> str:
    """How much of what flows the picture leaves out, in a sentence or two."""
    rest = max(result.circuit.rest)
    kept = list(result.circuit.kept[:-1])
    low, high = min(kept), max(kept)
    span = f"{low:.0%}" if low == high else f"{low:.0%} to {high:.0%}"
    return (
        f"The nodes shown carry {span} of the flow of their layers. Up to {rest:.0%} of a layer's "
        "flow comes from what its SAE leaves unexplained (open circles), which is not traced back."
    )


def descriptions_of(result: CircuitResult, known: Mapping[str, object]) -> dict[int, str]:
    """Description of each latent node, by row."""
    found: dict[int, str] = {}
    for row, node in enumerate(result.circuit.nodes.itertuples()):
        entry = result.entry(int(node.layer))
        texts = getattr(known.get(name_of(entry)), "texts", None) if entry is not None else None
        if texts is not None and node.kind == LATENT:
            found[row] = str(texts[int(node.index)])
    return found


def _logit_ids(circuit: Circuit) -> list[int]:
    nodes = circuit.nodes
    return [int(it) for it in nodes["index"][nodes["kind"] == LOGIT]]


def _short(entry: SaeEntry) -> str:
    return title_of(entry).split(" · ")[0].split(",")[0]


def _labels(circuit: Circuit, texts: tuple[str, ...], named: Mapping[int, str]) -> list[str]:
    labels = []
    nodes = circuit.nodes
    columns = [nodes[name].tolist() for name in ("layer", "kind", "position", "index")]
    for layer, kind, position, index in zip(*columns, strict=True):
        text = f"{texts[position]!r} ({position})"
        if kind == TOKEN:
            labels.append(text)
        elif kind == LOGIT:
            labels.append(f"logit {named[index]!r}")
        elif kind == REST:
            labels.append(f"unexplained by {circuit.layers[layer]}, {text}")
        else:
            labels.append(f"{circuit.layers[layer]}.{index}, {text}")
    return labels
