"""Ways back from the last thing that somebody removed or changed; none on a laptop's explorer."""

from core import resources
from pages.parts import action, people


def lists(*, key: str) -> None:
    """A button that puts back what this person last took off a list."""
    from core.latent.lists import last_change, undo_change

    store, person = resources.store(), people.current()
    said = "" if person.local else last_change(store, person)

    def undo() -> str:
        return f"“{undo_change(resources.store(), people.current())}” is as it was."

    if said:
        action.button("Undo", undo, key=key, icon=":material/undo:", help=f"{said}.")
    else:
        action.shown(key)


def descriptions(sae_fingerprint: str, d_sae: int, *, key: str) -> None:
    """A button that puts back the descriptions that this person last changed."""
    from core.descriptions.saved import last_description, undo_descriptions

    store, person = resources.store(), people.current()
    n = 0 if person.local else last_description(store, person, sae_fingerprint)

    def undo() -> str:
        by = people.current()
        done = undo_descriptions(resources.store(), by, sae_fingerprint, d_sae)
        return f"{done:,} descriptions are as they were."

    if n:
        action.button("Undo my last change", undo, key=key, icon=":material/undo:")
    else:
        action.shown(key)
