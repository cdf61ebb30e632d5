"""What sort of latent it is: one word, positional, repetition, absorbed, a split child, …"""

from core.dossier.measure import LEVEL, named
from core.dossier.reads import Reads
from core.dossier.result import Dossier
from core.view.markup import visible_token

_NEARLY_ALL = 0.9


def beside_all(reads: Reads) -> str:
    """The neighbour that nearly all of its peaks have, which says more than the words there."""
    pattern = reads.pattern
    if pattern.kind not in ("after", "before") or pattern.share < _NEARLY_ALL:
        return ""
    return f"{pattern.kind} “{visible_token(pattern.token)}”"


def rather(kind: str, sorts: tuple[str, ...]) -> str:
    """What no explanation by words can say: position and repetition, where they hold."""
    found = [it for it in sorts if it.startswith(("positional", "repetition"))]
    if not found or kind in ("silent", "too few"):
        return ""
    return f" Words do not say it: {'; '.join(found)}."


def sorts_of(dossier: Dossier) -> tuple[str, ...]:
    """All sorts that it is of, each with its figure."""
    found = []
    reads, hides, belongs = dossier.reads, dossier.hides, dossier.belongs
    if reads is not None and reads.count:
        pattern = reads.pattern
        if pattern.kind == "word":
            found.append(f"one word: “{pattern.token}” in {pattern.share:.0%} of its peaks")
        elif pattern.kind == "class":
            found.append(f"a class of words: {pattern.token}, {pattern.share:.0%} of its peaks")
        elif pattern.kind in ("after", "before") and pattern.token.startswith("<|"):
            found.append(
                f"the first token: {pattern.share:.0%} of its peaks are where a text begins"
            )
        elif pattern.kind in ("after", "before"):
            beside = f"{pattern.kind} “{visible_token(pattern.token)}”"
            found.append(f"a neighbour: {beside}, {pattern.share:.0%} of its peaks")
        elif pattern.kind not in ("mixed", "none"):
            found.append(f"words by their form or topic: {pattern.token}, {pattern.share:.0%}")
        early, repeats = (named(reads.measures, name) for name in ("early", "repeats"))
        if early is not None and early.low > 0.5:
            found.append(f"positional: {early.value:.0%} of its firings at the start of a text")
        if repeats is not None and repeats.low > 0.5 and repeats.p() <= LEVEL:
            found.append(
                f"repetition: {repeats.value:.0%} of its firings where a pair of tokens comes again"
            )
    if hides is not None and hides.fits:
        covers, absorbed = (named(hides.measures, name) for name in ("covers", "absorbed"))
        if covers is not None and absorbed is not None and covers.high < 0.5 and absorbed.low > 0:
            found.append(
                f"absorbed: at {absorbed.value:.0%} of the positions of “{hides.concept}” another "
                "latent fires instead"
            )
    if belongs is not None and len(belongs.relatives):
        parents = belongs.relatives[belongs.relatives["relation"] == "parent"]
        children = belongs.relatives[belongs.relatives["relation"] == "child"]
        if len(parents):
            last = parents.iloc[-1]
            found.append(
                f"split child: of latent {int(last['latent'])} among {int(last['width']):,} "
                f"(cosine {float(last['cosine']):.2f})"
            )
        if len(children) > 1:
            found.append(f"split parent: {len(children)} children in wider SAEs")
    return tuple(found)
