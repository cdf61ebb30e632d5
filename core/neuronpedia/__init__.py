"""What does Neuronpedia say about a latent, and where is its page?

    frame = fetch_explanations("gpt2-small/7-res-jb", store=store, progress=job.progress)
    url = dashboard_url("gpt2-small/7-res-jb", 9, embed=True, plots=False)

Explanations come from the bucket of exports (gzipped JSON Lines, listed page by page), are kept in
the store batch by batch, and cost a `NeuronpediaError` of one sentence when they cannot be had.
"""

from core.neuronpedia.addresses import dashboard_url
from core.neuronpedia.errors import NeuronpediaError, NoExplanations
from core.neuronpedia.exports import (
    FRESH_SECONDS,
    ExplanationEmbeddings,
    fetch_embeddings,
    fetch_explanations,
    recall_explanations,
)
from core.neuronpedia.http import Patience

__all__ = [
    "FRESH_SECONDS",
    "ExplanationEmbeddings",
    "NeuronpediaError",
    "NoExplanations",
    "Patience",
    "dashboard_url",
    "fetch_embeddings",
    "fetch_explanations",
    "recall_explanations",
]
