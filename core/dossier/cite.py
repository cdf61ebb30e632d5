"""How a dossier is called, and the line by which it is cited."""

from core.dossier.conclude import Conclusion
from core.dossier.result import Dossier

_DIGITS = 12


def title_of(dossier: Dossier, conclusion: Conclusion) -> str:
    """Such as `Latent 7 of docs-small-res / blocks.2.hook_resid_pre: "F"`."""
    request = dossier.request
    name = f": {conclusion.name}" if conclusion.name else ""
    return f"Latent {request.latent} of {request.sae[0]} / {request.sae[1]}{name}"


def citation(dossier: Dossier) -> str:
    """One line with all that is needed to make the same again."""
    request, made = dossier.request, dossier.versions
    parts = [
        f"Dossier of latent {request.latent}, SAE {request.sae[0]}/{request.sae[1]}",
        f"(sha256 {made.get('sae', '')[:_DIGITS] or 'unknown'})",
        f"on {request.model}",
        f"(sha256 {made.get('model', '')[:_DIGITS] or 'unknown'}),",
        f"text “{request.corpus.name}” ({request.corpus.digest[:_DIGITS]}),",
        f"{request.tokens:,} tokens, seed {request.seed};",
        "SAE Latent Explorer,",
        ", ".join(
            f"{name} {made[name]}"
            for name in ("torch", "transformer-lens", "sae-lens")
            if name in made
        ),
    ]
    return " ".join(parts).rstrip(" ,") + "."


def file_name(dossier: Dossier) -> str:
    """A name for files, without an ending."""
    release, sae_id, _ = dossier.request.sae
    return f"dossier-{release}-{sae_id}-{dossier.request.latent}".replace("/", "_")
