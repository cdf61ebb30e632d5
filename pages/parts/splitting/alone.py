"""Where a family of widths is, for an SAE that reads its place alone."""

from collections.abc import Sequence

import streamlit as st

from core.catalog.entries import SaeEntry
from core.splitting.members import Member, families_elsewhere
from core.view.markup import escape_markdown
from core.view.selection import Selection
from pages.parts import view_state
from pages.parts.view_state import View

_MOST = 4


def draw(view: View, selection: Selection, entry: SaeEntry, members: Sequence[Member]) -> None:
    """A sentence and buttons that show families, where no other width reads the same place."""
    if len({member.entry.width for member in members}) > 1:
        return
    families = families_elsewhere(view.choices, selection, entry)
    place = escape_markdown(entry.hook_name or entry.sae_id)
    alone = (
        f"No SAE of another width reads {place} of {escape_markdown(selection.model)}, so nothing "
        "can be seen to split here; the map shows which of its latents form groups."
    )
    if not families:
        st.info(f"{alone} There is no family of widths for this model.", icon=":material/info:")
        return
    st.info(f"{alone} Families of widths are here:", icon=":material/info:")
    with st.container(horizontal=True, gap="small"):
        for family in families[:_MOST]:
            first, last = family.entries[0], family.entries[-1]
            target = Selection(selection.model, *first.key)
            st.button(
                f"{escape_markdown(family.hook_name)}: {len(family.entries)} widths, "
                f"{first.width:,} to {last.width:,} latents",
                key="family_" + "/".join(first.key),
                icon=":material/scatter_plot:",
                on_click=view_state.choose,
                args=(target,),
            )
