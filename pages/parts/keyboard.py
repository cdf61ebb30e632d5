"""Keys that do what buttons do, and the list of them, which `?` opens.

The browser turns a key into a click on the button that stands in the sidebar, so keys can never do
anything that a reader without a keyboard cannot.
"""

from functools import cache
from typing import Any

import streamlit as st

from core import resources
from core.view.selection import Selection, to_parameters
from pages.parts import going, programs

SEARCHES = ("map_search", "latent_words", "find_text")
"""Keys of the boxes in which a page searches its latents; the first one on the page is used."""
_HELP, _SEARCH = "keyboard_help", "keyboard_search"
_BUTTONS = {
    "n": ("latent_next", "N", "next latent"),
    "p": ("latent_previous", "P", "previous latent"),
    "x": ("latent_random", "X", "a latent at random"),
    "/": (_SEARCH, "/", "search: the page's own box, else the list of all latents"),
    "?": (_HELP, "?", "this list"),
}
"""Key, the container of the button that it clicks, its name, and what it does."""
_SCRIPT = """
export default function (component) {
  const { buttons, searches } = component.data
  const typing = "input, textarea, select, [contenteditable=true], [role=dialog], [role=listbox]"
  const pressed = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return
    if (event.target.closest && event.target.closest(typing)) return
    const name = buttons[event.key.toLowerCase()]
    if (!name) return
    if (event.key === "/") {
      for (const search of searches) {
        const box = document.querySelector(`.st-key-${search} input`)
        if (!box) continue
        event.preventDefault()
        box.focus()
        box.scrollIntoView({ block: "center" })
        return
      }
    }
    const button = document.querySelector(`.st-key-${name} button, .st-key-${name} a`)
    if (!button || button.disabled) return
    event.preventDefault()
    button.click()
  }
  document.addEventListener("keydown", pressed)
  return () => document.removeEventListener("keydown", pressed)
}
"""


def draw(selection: Selection) -> None:
    """A button to search all latents, the button for the list of keys, and what listens to keys."""
    if programs.is_one():
        return
    st.button(
        "Search its latents",
        key=_SEARCH,
        icon=":material/search:",
        type="tertiary",
        on_click=going.to,
        args=("pages/latent.py", to_parameters(selection) | {"tab": "browse"}),
    )
    if st.button("Keys (?)", key=_HELP, icon=":material/keyboard:", type="tertiary"):
        _show()
    # Components bring pandas, for which the first paint does not wait.
    if not resources.warm_up().libraries.done():
        return
    buttons = {key: name for key, (name, _, _) in _BUTTONS.items()}
    _component()(key="keyboard", data={"buttons": buttons, "searches": list(SEARCHES)})


@st.dialog("Keys")
def _show() -> None:
    lines = [f"| **{shown}** | {does} |" for _, shown, does in _BUTTONS.values()]
    st.markdown("\n".join(["| key | what it does |", "|---|---|", *lines]))
    st.caption("Keys do nothing while you type in a box. Esc closes this list.")


@cache
def _component() -> Any:
    return st.components.v2.component(
        "keyboard", html="<span></span>", js=_SCRIPT, isolate_styles=False
    )
