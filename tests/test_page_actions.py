"""Clicks that leave a field act on what it holds; long pastes are cut in words."""

import pytest
from streamlit.testing.v1 import AppTest

from pages.parts import errors


def _page() -> None:
    import streamlit as st

    from pages.parts import action, typed

    done: list[str] = st.session_state.setdefault("done", [])

    def refuse_bad() -> None:
        if st.session_state["name"] == "bad":
            action.refuse()

    name = typed.line("Name", "old", most=10, key="name", on_change=refuse_bad)
    show = st.toggle("Show", True, key="show")
    if show and action.clicked(f"Go to {name}", key="go"):
        done.append(name)
    action.forget_clicks()


def _typed_and_clicked(app: AppTest, text: str) -> None:
    # One message of the browser holds both, as when a click leaves the field.
    app.text_input(key="name").input(text)
    app.button(key="go").click()
    app.run()


def test_a_click_acts_once_on_what_is_typed() -> None:
    app = AppTest.from_function(_page).run()
    _typed_and_clicked(app, "new")
    assert app.session_state["done"] == ["new"]
    app.run()
    assert app.session_state["done"] == ["new"]


def test_a_click_beside_a_field_that_cannot_be_used_does_nothing() -> None:
    app = AppTest.from_function(_page).run()
    _typed_and_clicked(app, "bad")
    assert app.session_state["done"] == []
    _typed_and_clicked(app, "good")
    assert app.session_state["done"] == ["good"]


def test_a_click_that_was_not_come_to_is_void() -> None:
    app = AppTest.from_function(_page).run()
    app.toggle(key="show").set_value(False)
    app.button(key="go").click()
    app.run()
    app.toggle(key="show").set_value(True)
    app.run()
    assert app.session_state["done"] == []


def test_a_long_paste_is_cut_and_said_until_it_is_changed() -> None:
    app = AppTest.from_function(_page).run()
    app.text_input(key="name").input("x" * 25)
    app.run()
    assert app.text_input(key="name").value == "x" * 10
    (said,) = app.warning
    assert "25 characters; the first 10" in said.value
    app.run()
    assert len(app.warning) == 1
    app.text_input(key="name").input("short")
    app.run()
    assert not app.warning
    assert app.text_input(key="name").value == "short"


def _shown() -> None:
    import streamlit as st

    from pages.parts.page_state import show

    before = st.session_state.get("asked_of_browser", 0)
    wanted = st.session_state.get("wanted", "a")
    if "box" not in st.session_state or st.session_state["box"] != wanted:
        st.session_state["asked_of_browser"] = before + 1
    show("box", wanted)
    st.text_input("Box", key="box", on_change=lambda: st.session_state.update(wanted="b"))


def test_a_widget_that_shows_the_value_is_left_alone() -> None:
    app = AppTest.from_function(_shown).run()
    app.run()
    assert app.session_state["asked_of_browser"] == 1
    app.text_input(key="box").input("b")
    app.run()
    assert app.session_state["asked_of_browser"] == 1
    assert app.text_input(key="box").value == "b"


def _kept() -> None:
    import streamlit as st

    from pages.parts import action

    def keep() -> str:
        if st.session_state["fail"]:
            raise ValueError("It is too long; shorten it.")
        return "It is kept."

    st.toggle("Fail", key="fail")
    action.button("Keep", keep, key="keep")


def test_how_a_click_went_outlives_the_runs_that_come_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr(errors.time, "monotonic", lambda: now[0])
    app = AppTest.from_function(_kept).run()
    app.button(key="keep").click().run()
    for later in (0.1, 3.0):
        now[0] += later
        assert [it.value for it in app.run().success] == ["It is kept."]
    app.toggle(key="fail").set_value(True)
    app.button(key="keep").click().run()
    assert not app.success, "what was said of the click before is gone"
    assert [it.value for it in app.error] == ["It is too long; shorten it."]
    now[0] += 10.0
    app.run()
    assert not app.error
