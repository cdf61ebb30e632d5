"""Does the text name what the latent fires on and writes, more than other latents' tokens?"""

from typing import TYPE_CHECKING

import streamlit as st

from core.view.markup import escape_markdown, visible_token
from pages.parts.patch_scoping import jobs

if TYPE_CHECKING:
    from core.patch_scoping.run import ScopeRequest, ScopeResult
    from core.patch_scoping.tables import BestText

_OTHERS = 400


def draw(
    request: "ScopeRequest",
    result: "ScopeResult",
    best: "BestText",
    *,
    link: str,
) -> None:
    """The latent's tokens, those that the best text names, and every text's score."""
    import numpy as np
    import pandas as pd

    from core.patch_scoping.faithfulness import faithfulness

    st.caption(
        "A text fits if it names words that the latent fires on, or words that it makes more "
        "likely, and names those of other latents less. Only literal naming counts: a definition "
        "that paraphrases scores 0 here, so a low score is no verdict, a high one is."
    )
    if not jobs.may_start(
        "peaks", request, "Read a sample of text", "What latents fire on is known after that."
    ):
        return
    if not jobs.base_ready(request):
        return
    peaks = jobs.peaks(request, link=link)
    if peaks is None:
        return
    latent = request.latents[0]
    own = peaks.of(latent)
    drawn = np.random.default_rng(0).permutation(peaks.alive)[: _OTHERS + 1]
    others = [peaks.of(int(other)) for other in drawn if other != latent][:_OTHERS]
    if not others or not own.active:
        st.info("The latent never fires on the sample of text, so there is nothing to compare.")
        return
    left, right = st.columns(2)
    with left:
        st.caption("Fires on (share of its strongest positions)")
        shares = [f"{visible_token(token)}  {share:.0%}" for token, share in own.active.items()]
        st.code("\n".join(shares[:10]), language=None)
    with right:
        st.caption("Makes more likely")
        st.code("\n".join(visible_token(token) for token in own.boosted), language=None)
    found = faithfulness(best.text, own, others)
    if found.named:
        words = escape_markdown(", ".join(found.named))
        st.markdown(
            f"The best text names: {words}. That is {found.active:.0%} of what it fires on and "
            f"{found.boosted:.0%} of what it writes; of other latents the text names "
            f"{found.others:.1%} on average, and as much as of this one for a share of "
            f"{found.p:.2f} of them."
        )
    else:
        st.markdown("The best text names none of these words.")
    rows = []
    for text in dict.fromkeys(result.table["answer"]):
        score = faithfulness(str(text), own, others)
        rows.append(
            {
                "text": text,
                "names": ", ".join(score.named),
                "score": score.score,
                "with other latents": score.others,
                "p": score.p,
            }
        )
    st.dataframe(
        pd.DataFrame(rows).round(3),
        hide_index=True,
        width="stretch",
        column_config={"text": st.column_config.TextColumn("text", width="large")},
    )
    _detection(request, best, link=link)


def _detection(request: "ScopeRequest", best: "BestText", *, link: str) -> None:
    st.markdown("**Can the text tell where the latent fires?**")
    if not best.text or not st.toggle(
        "Check the best text by detection",
        key="scope_detect",
        help="Examples in which the latent fires are mixed with others; those that hold a word of "
        "the text are taken for active. A judge that understands paraphrase is on the page of "
        "autointerp, where your description can be scored by a chat model.",
    ):
        return
    found = jobs.detection(request, best.text, link=link)
    if found is None:
        return
    numbers = found.get("numbers")
    if not numbers or numbers["balanced_accuracy"] is None:
        st.info(escape_markdown(str(found.get("error") or "There is nothing to check.")))
        return
    low, high = numbers["balanced_low"], numbers["balanced_high"]
    interval = "too few examples for an interval" if low is None else f"{low:.2f} to {high:.2f}"
    st.markdown(
        f"Balanced accuracy {numbers['balanced_accuracy']:.2f} ({interval}); guessing has 0.5. "
        f"Accuracy {numbers['accuracy']:.2f}; always answering no has {numbers['all_none']:.2f}."
    )
