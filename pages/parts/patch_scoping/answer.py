"""The answer: the best text with what speaks for it, and the table of all texts."""

from typing import TYPE_CHECKING

import streamlit as st

from core import resources
from core.patch_scoping.question import PromptFacts
from core.view.markup import escape_markdown, shaded_tokens
from pages.parts import look, people, tasks
from pages.parts.patch_scoping.ask import CHOICE_WORDS

if TYPE_CHECKING:
    from core.patch_scoping.null_distribution import NullComparison
    from core.patch_scoping.run import ScopeResult
    from core.patch_scoping.tables import BestText


def prompt(facts: PromptFacts) -> None:
    """What the model reads, with the latent's places marked."""
    with st.container(border=True):
        n = len(facts.positions)
        st.caption(
            f"What the model reads: {len(facts.tokens)} tokens. The latent takes the place of the "
            f"{'marked token' if n == 1 else f'{n} marked tokens'}"
            + ("." if facts.chat else "; this model has no chat format, so it reads plain text.")
        )
        marked = [float(i in facts.positions) for i in range(len(facts.tokens))]
        st.markdown(shaded_tokens(facts.tokens, marked, dark=look.is_dark()))
        for note in facts.notes:
            st.caption(escape_markdown(note))


def headline(
    latent: int,
    best: "BestText",
    by: str,
    compared: "NullComparison | None",
    result: "ScopeResult",
    *,
    waiting: bool,
) -> None:
    """The best text, why it was chosen, and whether the latent does anything."""
    text = escape_markdown(best.text) if best.text else "(the model says nothing)"
    left, right = st.columns([4, 1], vertical_alignment="center")
    with left:
        st.markdown(f"**Latent {latent}**")
        st.markdown(f"### {text}")
        st.caption(
            f"This is {CHOICE_WORDS[by]}, at {best.multiple:.4g} × the typical norm before layer "
            f"{best.layer}."
        )
    with right:
        st.button(
            "Use as description",
            icon=":material/bookmark_add:",
            key="scope_use",
            disabled=not best.text,
            on_click=lambda: tasks.attempt(lambda: save({latent: best.text}, result)),
            help="Keep this text as your description of the latent; it is then shown on the other "
            "pages, before those of other sources.",
        )
    saved_note(result, (latent,))
    if compared is None:
        if waiting:
            st.caption("Whether the latent stands out from random directions is being measured.")
    else:
        _verdict(compared)


def table(result: "ScopeResult", *, norms: bool) -> None:
    """Scale, text and measures, the best three scales marked; norms too where they were asked."""
    from core.patch_scoping.tables import remarks, text_table

    shown = text_table(result.table)
    number = st.column_config.NumberColumn
    ended = bool(shown["end"].astype(bool).any())  # what the model says gets the room
    st.dataframe(
        shown,
        hide_index=True,
        width="stretch",
        height=min(600, 38 + 35 * len(shown)),
        column_order=[
            column for column in shown if (column != "norm" or norms) and (column != "end" or ended)
        ],
        column_config={
            "best": st.column_config.TextColumn(
                "Best",
                width=45,
                help="The three scales of a layer with the highest combined score.",
            ),
            "layer": number("Layer", width=60),
            "scale": number("Scale", format="%.3g", width=60, help="× the typical norm"),
            "text": st.column_config.TextColumn(
                "What the model says", width=290 if norms or ended else 365
            ),
            "sample": number("Sample", width=70),
            "probability": st.column_config.ProgressColumn(
                "Probability",
                min_value=0,
                max_value=1,
                format="%.2f",
                width=80,
                help="Geometric mean of the probabilities of the text's tokens.",
            ),
            "self-similarity": number(
                "Self-similarity",
                format="%.3f",
                width=92,
                help="How much of the latent's direction arrives at the end of the prompt, some "
                "layers later: the cosine of the two.",
            ),
            "entropy": number(
                "Entropy",
                format="%.2f",
                width=75,
                help="How undecided the model is about its next token, in nats.",
            ),
            "cross-entropy": number(
                "Cross-entropy",
                format="%.2f",
                width=95,
                help="How far the next token is from what the model says of an average word, in "
                "nats; high is far.",
            ),
            "score": number(
                "Score",
                format="%.2f",
                width=65,
                help="0.4 × self-similarity - 0.6 × cross-entropy, each spread over 0 to 1.",
            ),
            "norm": number("Norm", format="%.4g", width=70, help="Length of what is put in."),
            "end": st.column_config.TextColumn("End", width=60),
        },
    )
    for remark in remarks(result.table):
        st.caption(remark)


def _verdict(compared: "NullComparison") -> None:
    """Whether the latent stands out, in words and figures."""
    if compared.verdict == "stands out":
        show, icon, title = st.success, ":material/check_circle:", "The latent stands out."
        said = "Random directions of the same lengths rarely make the model speak as clearly."
    elif compared.verdict == "unclear":
        show, icon, title = (
            st.info,
            ":material/help:",
            "It is unclear whether the latent stands out.",
        )
        said = "Some random directions of the same lengths make the model speak as clearly."
    else:
        show, icon, title = st.warning, ":material/block:", "Unexplainable here."
        said = (
            "Random directions of the same lengths make the model speak as clearly, so take the "
            "text for a guess unless other evidence bears it out."
        )
    show(f"**{title}** {said}", icon=icon)
    st.caption(
        f"{compared.p:.0%} of directions speak as clearly over all layers and scales: mean entropy "
        f"of the next token {compared.entropy:.2f} nats (random directions "
        f"{compared.control_entropy:.2f}), log-probability of the texts {compared.log_prob:z.1f} "
        f"({compared.control_log_prob:.1f}), agreement of the texts with one another "
        f"{compared.agreement:.2f} ({compared.control_agreement:.2f}). Not part of the verdict: "
        f"largest rise of the self-similarity {compared.rise:.3f} ({compared.control_rise:.3f})."
    )


def saved_note(result: "ScopeResult", latents: tuple[int, ...]) -> None:
    """That descriptions of these latents were saved, if that was the last thing saved."""
    if st.session_state.get("scope_saved") == (result.sae_fingerprint, latents):
        n = len(latents)
        what = "description of this latent" if n == 1 else f"descriptions of {n} latents"
        st.success(f"Saved as your {what}.", icon=":material/check:")


def save(texts: dict[int, str], result: "ScopeResult") -> None:
    """Keep texts as the user's descriptions of their latents."""
    import pandas as pd

    from core.descriptions.saved import save_user_descriptions
    from core.descriptions.table import YOURS, Descriptions

    kept = {latent: text for latent, text in texts.items() if text}
    frame = pd.DataFrame({"index": list(kept), "description": list(kept.values())})
    described = Descriptions.from_frame(frame, result.d_sae, source=YOURS)
    save_user_descriptions(
        resources.store(), result.sae_fingerprint, described, by=people.current()
    )
    st.session_state["scope_saved"] = (result.sae_fingerprint, tuple(texts))
