"""Which models and SAEs a dossier can be made with: the tuned model, the widths, the layers."""

from core.catalog import Catalog
from core.catalog.entries import SaeEntry
from core.corpus.documents import Corpus
from core.dossier.request import TOKENS, DossierRequest, SaeVersion
from core.gradients.sae_choices import depth, read_alike
from core.patch_scoping.question import DEFAULT_LAYER, DEMO_LAYERS, automatic_choice
from core.view.choices import Choices


def request_for(
    catalog: Catalog,
    choices: Choices,
    entry: SaeEntry,
    latent: int,
    corpus: Corpus,
    *,
    model: str = "",
    tokens: int = TOKENS,
) -> DossierRequest:
    """The dossier of a latent with all that this machine has for it; nothing is downloaded.

    Raises ValueError for a latent that does not exist.
    """
    if entry.width is not None and not 0 <= latent < entry.width:
        raise ValueError(
            f"There is no latent {latent}; this SAE has {entry.width:,}, so choose 0 to "
            f"{entry.width - 1:,}."
        )
    local = [it for it in choices.models if it.source != "hub" and it.base_model == entry.model]
    speaker = local[0].name if local else ""
    demo = entry.source == "demo"
    family = catalog.family_of(entry).entries if entry.width is not None else ()
    before, after = beside(choices, entry)
    return DossierRequest(
        model=model or entry.model,
        sae=_version(entry),
        latent=latent,
        corpus=corpus,
        tokens=tokens,
        speaker=speaker,
        speaker_layers=(DEMO_LAYERS if demo else (DEFAULT_LAYER,)) if speaker else (),
        speaker_by=automatic_choice(demo=demo),
        family=tuple(_version(it) for it in family) if _is_local(family) else (),
        before=before,
        after=after,
    )


def beside(choices: Choices, entry: SaeEntry) -> tuple[SaeVersion | None, SaeVersion | None]:
    """The nearest SAEs of the release before and behind this one, one head's left out."""
    if entry.source == "hub" or entry.head is not None:
        return None, None
    others = [
        it
        for it in choices.saes_for(entry.release, entry.model)
        if it.kind == "sae" and it.head is None and read_alike(it, entry)
    ]
    earlier = [it for it in others if depth(it) < depth(entry)]
    later = [it for it in others if depth(it) > depth(entry)]
    before = max(earlier, key=depth, default=None)
    after = min(later, key=depth, default=None)
    return (
        None if before is None else _version(before),
        None if after is None else _version(after),
    )


def _is_local(entries: "tuple[SaeEntry, ...]") -> bool:
    return len(entries) > 1 and all(it.source != "hub" for it in entries)


def _version(entry: SaeEntry) -> SaeVersion:
    return (*entry.key, entry.version)
