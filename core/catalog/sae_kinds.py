"""Which kinds of SAEs does the explorer show, and why not the others?

What is shown rests on two things: a latent fires where its activation is above 0, and an activation
depends on its own position alone. Kinds of which that does not hold are refused, and so are those
that the explorer has never been tested with: a list of what is known, not of what is not.
"""

SUPPORTED = (
    *("standard", "gated", "jumprelu", "topk", "matching_pursuit"),
    *("transcoder", "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder"),
)
"""sae_lens' names of the architectures that the tests take through the whole explorer."""
TRAINING_ONLY = ("batchtopk", "matryoshka_batchtopk")
"""Architectures that sae_lens trains and then writes as another one."""
CONVERT_COMMAND = "python -m core.saes.convert FOLDER NEW_FOLDER"
"""Writes an AbsTopK SAE as the TopK SAE that it equals."""

ABSTOPK = (
    "is an AbsTopK SAE, whose latents also fire below 0, and the explorer shows firings above 0 "
    "only; write it as the TopK SAE with twice as many latents that it equals exactly: "
    f"{CONVERT_COMMAND} (a published one after sae.save_model(FOLDER))."
)
TEMPORAL = (
    "is a temporal SAE, which reads the positions before as well and adds what it predicts from "
    "them to what its latents write, so its latents say neither what stands at a position nor "
    "what is rebuilt there; choose SAEs of the same model that read each position by itself, such "
    "as Gemma Scope or Llama Scope."
)
CROSS_LAYER = (
    "is a layer of a cross-layer transcoder, whose latents write to all later layers; sae_lens "
    "adds these decoders up to one that belongs to no layer and rebuilds nothing. Choose "
    "transcoders of single layers, such as gemma-scope-2b-pt-transcoders."
)


def quote(value: object) -> str:
    """`value` as a sentence quotes it: short, whatever it is."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # numbers of thousands of digits, nesting without end
        return f"a {type(value).__name__} too large to print"
    return text if len(text) <= 60 else f"{text[:57]}..."


def architecture_problem(architecture: object) -> str | None:
    """Why SAEs of an architecture are refused, as the end of a sentence; None if they are not."""
    if architecture in SUPPORTED:
        return None
    if architecture == "abstopk":
        return ABSTOPK
    if architecture == "temporal":
        return TEMPORAL
    if architecture in TRAINING_ONLY:
        return (
            f"is a training checkpoint ({architecture}); write the SAE for use with "
            "sae.save_inference_model(folder)."
        )
    return (
        f"has the architecture {quote(architecture)}, which the explorer has not been tested with; "
        f"it reads {', '.join(sorted(SUPPORTED))}."
    )


def dashboard_problem(neuronpedia_id: object) -> str | None:
    """Why an SAE is refused by what it is called on Neuronpedia; None if it is not.

    A layer of a cross-layer transcoder looks like any transcoder once sae_lens has loaded it, but
    for this name, which it keeps also where it was saved again.
    """
    source = neuronpedia_id.split("/")[-1] if isinstance(neuronpedia_id, str) else ""
    return CROSS_LAYER if "clt" in source.split("-") else None


def format_problem(conversion: str | None, repo_path: str) -> str | None:
    """Why SAEs of a published file format are refused; None if they are not.

    `conversion` is sae_lens' name of the format, `repo_path` where the SAE is in its repository.
    """
    if conversion == "temporal":
        return TEMPORAL
    if conversion == "mntss_clt_layer_transcoder":
        return CROSS_LAYER
    if conversion == "gemma_3" and "clt" in repo_path:
        return CROSS_LAYER
    return None
