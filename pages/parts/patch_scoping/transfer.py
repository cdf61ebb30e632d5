"""Does the SAE fit the model that explains, and can that model read latents at all?"""

from typing import TYPE_CHECKING

import streamlit as st

from pages.parts.patch_scoping import jobs

if TYPE_CHECKING:
    from core.patch_scoping.choice import By
    from core.patch_scoping.run import ScopeRequest


def draw(request: "ScopeRequest", by: "By", *, link: str) -> None:
    """The SAE's quality on both models, then the test with latents of one word."""
    from core.patch_scoping.transfer import transfer_sentence

    base, speaker = jobs.base_model(request), request.question.speaker
    models = [base] if base == speaker else [base, speaker]
    st.markdown("**Does the SAE fit?**")
    st.caption(
        f"The SAE was trained on {base}. What it says of another model holds as far as it can "
        "rebuild that model's activations: both read the same text."
    )
    if not jobs.may_start(
        "quality", request, "Measure it", "This reads some text with both models."
    ):
        return
    if not jobs.base_ready(request):
        return
    found = jobs.quality(request, models, link=link)
    if found is None:
        return
    st.dataframe(
        {
            "model": list(found),
            "explained variance": [
                f"{quality.explained_variance:.1%}" for quality in found.values()
            ],
            "cosine": [f"{quality.cosine:.3f}" for quality in found.values()],
            "latents active": [f"{quality.l0:.1f}" for quality in found.values()],
            "typical norm": [f"{quality.norm:.4g}" for quality in found.values()],
            "loss (nats)": [f"{quality.loss:.2f}" for quality in found.values()],
            "loss with the SAE": [f"{quality.loss_spliced:.2f}" for quality in found.values()],
            "loss recovered": [f"{quality.loss_recovered:.1%}" for quality in found.values()],
        },
        hide_index=True,
        width="stretch",
    )
    if len(models) == 2:
        st.markdown(transfer_sentence(found[base], found[speaker]))
    st.markdown("**Can the model read latents?**")
    st.caption(
        "Some latents fire on one word. Asked for the meaning of such a latent, a model that reads "
        "latents says what it says of the word itself. The overlap of the two texts (unigram F1, "
        "0 to 1) is compared with that for other latents' words; in brackets, 95% intervals."
    )
    if not st.toggle(
        "Ask about 60 latents that fire on one word",
        key="scope_reading",
        help="With the question, layers and scales above, on the model that explains and on the "
        f"base model.{jobs.readings_take(request)}",
    ):
        return
    peaks = jobs.peaks(request, link=link)
    if peaks is None:
        return
    read = jobs.readings(request, models, peaks, by, link=link)
    if read is None:
        return
    st.dataframe(
        {
            "model": list(read.scores),
            "own word": [str(score.f1) for score in read.scores.values()],
            "other words": [str(score.shuffled) for score in read.scores.values()],
            "word for word": [str(score.exact) for score in read.scores.values()],
            "latents": [len(read.words)] * len(read.scores),
        },
        hide_index=True,
        width="stretch",
    )
    st.dataframe(
        read.scores[speaker]
        .table.round(2)
        .rename(
            columns={
                "own": "the word's own definition",
                "read": "what the model says of the latent",
                "f1": "overlap",
                "shuffled": "with others",
            }
        ),
        hide_index=True,
        width="stretch",
        height=300,
    )
