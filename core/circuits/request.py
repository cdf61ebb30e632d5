"""A circuit of a prompt: what is asked, and the graph with names and what else can be explained."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import pandas as pd
import torch
from sae_lens import SAE
from torch import Tensor

from core.catalog.entries import SaeEntry
from core.circuits.graph import LATENT, LOGIT, REST, TOKEN, Circuit, Pruning
from core.circuits.steps import LatentEnd, LogitEnd
from core.circuits.subgraph import Shown
from core.circuits.trace import trace_circuit
from core.descriptions.sources import DescribedSae
from core.gradients.prompt import checked_tokens, prompt_texts, read_prompt
from core.gradients.sae_choices import described_saes, name_of, title_of
from core.lease import Lease
from core.models.hooks import Model
from core.saes import encode, sae_inputs
from core.store import Key, Store
from core.store.dataclass_codec import dataclass_codec
from core.tokens import token_text

_VERSION = 3
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
class NamedCircuit:
    """A traced circuit in words, as it is stored; nothing here holds on to a model."""

    circuit: Circuit
    """The graph."""
    tokens: tuple[str, ...]
    """Texts of the prompt's tokens, each in a cell of its own."""
    parts: tuple[str, ...]
    """What each adds to the prompt, as `RowTexts.parts`."""
    n_leading: int
    """How many of them stand in front of the prompt: 1 for a beginning-of-text token, or 0."""
    labels: tuple[str, ...]
    """Name of each node."""
    titles: tuple[str, ...]
    """Name of each layer."""
    ends: tuple[EndChoice, ...]
    """What can be explained on this prompt, this end among it."""


@dataclass(frozen=True, eq=False)
class CircuitResult(NamedCircuit):
    """The same with what was asked."""

    request: CircuitRequest
    """What was asked."""
    saes: Mapping[str, DescribedSae]
    """What identifies the weights of each SAE, by its name in links."""

    def entry(self, layer: int) -> SaeEntry | None:
        """SAE of a layer; None for tokens and logits."""
        chain = self.request.chain
        return chain[layer - 1] if 1 <= layer <= len(chain) else None

    def frame(self, shown: Shown | None = None) -> pd.DataFrame:
        """The edges of all, or of what is `shown`, strongest first, with their ends' names."""
        edges = self.circuit.edges if shown is None else shown.circuit.edges
        names = pd.Series(self.labels if shown is None else shown.labels)
        table = pd.DataFrame(
            {
                "from": names.iloc[edges["source"]].to_numpy(),
                "to": names.iloc[edges["target"]].to_numpy(),
            }
        )
        return pd.concat([table, edges[["weight", "influence", "flow"]]], axis=1)


_CODEC = dataclass_codec(NamedCircuit)


def trace(lease: Lease, store: Store, request: CircuitRequest) -> CircuitResult:
    """The circuit of `request`, a layer a turn; from the store where it was traced before.

    `lease` is of the request's model and chain.

    Raises:
        ValueError: a prompt that cannot be used, SAEs that do not go together, an end that is not
            active, or no SAE.
        JobCancelled: through the lease's progress.
    """
    if not request.chain:
        raise ValueError("Choose at least one SAE to trace the circuit through.")
    if len(request.end) > 2:
        raise ValueError("What is to be explained is a token, or a position and a latent.")
    with lease.turn() as (model, saes):
        prompt = read_prompt(model, saes, request.prompt)
        ids = checked_tokens(model, prompt.tokens)
        described = described_saes(lease, request.chain)
        # Weights, tokens and options rather than names; and what the menu of ends says.
        parameters = {
            "model": lease.model_fingerprint,
            "saes": [sae.fingerprint for sae in described.values()],
            "tokens": ids[0].tolist(),
            "end": list(request.end),
            "pruning": asdict(request.pruning),
            "freeze": [request.freeze_attention, request.freeze_layer_norm],
            "titles": list(layer_titles(request)),
        }
    found = store.get_or_compute(
        Key("circuit", _VERSION, parameters),
        lambda: _traced(lease, request, ids, n_leading=prompt.n_leading),
        _CODEC,
        waiting=lease.progress.check,
    )
    return CircuitResult(**vars(found), request=request, saes=described)


def _traced(lease: Lease, request: CircuitRequest, ids: Tensor, *, n_leading: int) -> NamedCircuit:
    circuit = trace_circuit(
        lease,
        ids,
        _end_of(request),
        pruning=request.pruning,
        freeze_attention=request.freeze_attention,
        freeze_layer_norm=request.freeze_layer_norm,
    )
    with lease.turn() as (model, saes):
        texts = prompt_texts(model, ids)
        ends = _likely_ends(model, saes[-1], ids)
        wanted = {*(end[0] for end, _ in ends if len(end) == 1), *_logit_ids(circuit)}
        named = {token: token_text(model.tokenizer, token) for token in wanted}
    return NamedCircuit(
        circuit=circuit,
        tokens=texts.cells,
        parts=texts.parts,
        n_leading=n_leading,
        labels=tuple(_labels(circuit, texts.cells, named)),
        titles=layer_titles(request),
        ends=_choices(request, ends, texts.cells, named),
    )


def layer_titles(request: CircuitRequest) -> tuple[str, ...]:
    """Name of each layer of the picture."""
    titles = ["Tokens", *(_short(entry) for entry in request.chain)]
    return (*titles, "Next token") if len(request.end) != 2 else tuple(titles)


def _end_of(request: CircuitRequest) -> LogitEnd | LatentEnd:
    if len(request.end) == 2:
        return LatentEnd(*request.end)
    return LogitEnd(request.end[0] if request.end else None)


@torch.no_grad()
def _likely_ends(model: Model, sae: SAE, ids: Tensor) -> list[tuple[tuple[int, ...], float]]:
    """The likeliest next tokens with their chances, then the last token's strongest latents."""
    chances = model(ids, return_type="logits")[0, -1].float().softmax(-1)
    last = encode(sae, sae_inputs(model, sae, ids))[0, -1]
    likely = chances.topk(min(_N_TOKENS, len(chances)))
    active = last.topk(min(_N_LATENTS, len(last)))
    tokens = zip(likely.indices.tolist(), likely.values.tolist(), strict=True)
    latents = zip(active.indices.tolist(), active.values.tolist(), strict=True)
    return [
        *(((int(token),), float(chance)) for token, chance in tokens),
        *(
            ((ids.shape[1] - 1, int(latent)), float(value))
            for latent, value in latents
            if value > 0
        ),
    ]


def _choices(
    request: CircuitRequest,
    ends: list[tuple[tuple[int, ...], float]],
    texts: tuple[str, ...],
    named: Mapping[int, str],
) -> tuple[EndChoice, ...]:
    where = _short(request.chain[-1])

    def title(end: tuple[int, ...], value: float | None) -> str:
        if len(end) == 2:
            return f"latent {end[1]} of {where} at {texts[end[0]]!r} ({end[0]})"
        likely = "" if value is None else f" ({value:.0%} likely)"
        return f"next token {named[end[0]]!r}{likely}"

    choices = [EndChoice(end, title(end, value)) for end, value in ends]
    if request.end and request.end not in [end for end, _ in ends]:
        choices.insert(0, EndChoice(request.end, title(request.end, None)))
    return tuple(choices)


def chain_note(chain: tuple[SaeEntry, ...]) -> str | None:
    """How to read a circuit through these SAEs; None where each layer feeds only the next."""
    if all("resid" in (entry.hook_name or "") for entry in chain):
        return None
    return (
        "Not all of these SAEs read the residual stream, which carries everything. What flows past "
        "the others is drawn as lines that pass over their layers."
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
    return [int(token) for token in nodes["index"][nodes["kind"] == LOGIT]]


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
