"""A page's view in a session: which links are followed, what a widget changes, what it resets."""

import pytest
from streamlit.testing.v1 import AppTest

from pages.parts import page_state
from tests.page_sessions import other_defaults


def _page() -> None:
    from dataclasses import dataclass

    import streamlit as st

    from core.link import Link, LinkField, one_of, whole
    from pages.parts.page_state import PageState

    @dataclass(frozen=True)
    class View:
        depth: int = 1
        kind: str = "rows"
        cell: int = 0

    fields = [
        LinkField("depth", "depth", whole(0, 9)),
        LinkField("kind", "kind", one_of(["rows", "columns"])),
        LinkField("cell", "cell", whole(0, 99)),
    ]
    page = PageState("test", Link(View(), fields), forgets={"cell": ("depth", "kind")})
    view = page.begin()
    st.slider("Depth", 0, 9, **page.widget("test_depth", "depth"))
    st.segmented_control("Kind", ["rows", "columns"], **page.choices("test_kind", "kind"))
    twice = view.cell * 2
    st.number_input(
        "Twice the cell",
        0,
        198,
        **page.widget("test_cell", "cell", value=twice, read=lambda number: number // 2),
    )
    st.text(f"{view.depth} {view.kind} {view.cell}")
    for problem in page.problems():
        st.warning(problem)


def _app(**link: str) -> AppTest:
    app = AppTest.from_function(_page)
    for name, value in link.items():
        app.query_params[name] = value
    return app.run()


def _address(app: AppTest) -> dict[str, str]:
    return {
        name: value[0] if isinstance(value, list) else value
        for name, value in app.query_params.items()
    }


def _go_to(app: AppTest, **link: str) -> AppTest:
    app.query_params.clear()
    for name, value in link.items():
        app.query_params[name] = value
    return app.run()


def test_a_link_is_followed_and_only_what_differs_is_written() -> None:
    app = _app(depth="4", kind="rows", cell="7")
    assert app.text[0].value == "4 rows 7"
    assert (app.slider[0].value, app.number_input[0].value) == (4, 14)
    assert _address(app) == {"depth": "4", "cell": "7"}


def test_what_cannot_be_used_is_said_until_something_is_chosen() -> None:
    app = _app(depth="40", cell="7")
    assert app.text[0].value == "1 rows 7"
    assert "depth in this link cannot be used" in app.warning[0].value
    app.slider[0].set_value(5).run()
    assert not app.warning


def test_a_widget_changes_its_field_and_forgets_what_belonged_to_the_old_value() -> None:
    app = _app(cell="7")
    app.number_input[0].set_value(21).run()
    assert app.text[0].value == "1 rows 10"
    app.slider[0].set_value(6).run()
    assert app.text[0].value == "6 rows 0"
    assert _address(app) == {"depth": "6"}


def test_a_choice_that_is_taken_back_changes_nothing() -> None:
    app = _app(kind="columns")
    app.button_group[0].set_value([]).run()
    assert app.text[0].value == "1 columns 0"
    assert app.button_group[0].value in ("columns", ["columns"])


def test_an_address_that_the_browser_had_not_updated_yet_changes_nothing() -> None:
    app = _app(depth="4")
    app.slider[0].set_value(6).run()
    assert _go_to(app, depth="4").text[0].value == "6 rows 0"
    assert _address(app) == {"depth": "6"}


def test_the_back_button_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    app = _app(depth="4")
    app.slider[0].set_value(6).run()
    monkeypatch.setattr(page_state, "_STALE_SECONDS", 0.0)
    assert _go_to(app, depth="4").text[0].value == "4 rows 0"


def test_an_edited_address_is_followed_at_once() -> None:
    app = _app(depth="4")
    app.slider[0].set_value(6).run()
    assert _go_to(app, depth="8").text[0].value == "8 rows 0"


def test_a_bare_address_keeps_the_view_of_the_session() -> None:
    """Streamlit drops the parameters when another page is opened in between."""
    app = _app(depth="4")
    assert _go_to(app).text[0].value == "4 rows 0"
    assert _address(app) == {"depth": "4"}


def _page_of_every_kind() -> None:
    from dataclasses import dataclass

    import streamlit as st

    from core.link import Link, LinkField, one_of, whole
    from pages.parts.page_state import PageState

    @dataclass(frozen=True)
    class View:
        number: int = 1
        word: str = "a"

    words = ["a", "b", "c"]
    fields = [
        LinkField("number", "number", whole(0, 9)),
        LinkField("word", "word", one_of(words)),
    ]
    page = PageState("test", Link(View(), fields))
    view = page.begin()
    st.slider("Slider", 0, 9, **page.widget("slider", "number"))
    st.number_input("Number", 0, 9, **page.widget("number", "number"))
    st.toggle("Toggle", **page.widget("toggle", "number", value=view.number > 5, read=int))
    st.text_input("Line", **page.widget("line", "word"))
    st.text_area("Area", **page.widget("area", "word"))
    st.segmented_control("Buttons", words, **page.choices("buttons", "word"))
    st.multiselect("Several", words, **page.choices("several", "word", value=[view.word]))
    st.selectbox("Menu", **page.menu("menu", "word", words))
    st.radio("Radio", **page.menu("radio", "word", words))
    st.select_slider("Steps", words, **page.widget("steps", "word"))


def test_what_a_widget_shows_is_its_default_too() -> None:
    """A browser that draws a widget late takes its default, and may send that back."""
    app = AppTest.from_function(_page_of_every_kind)
    app.query_params["number"], app.query_params["word"] = "7", "c"
    app.run()
    assert not app.exception
    assert app.slider[0].value == app.number_input[0].value == 7
    assert app.toggle[0].value
    assert app.selectbox[0].value == app.radio[0].value == "c"
    assert app.text_area[0].proto.default == "c"
    assert other_defaults(app) == []
    app.number_input[0].set_value(3).run()
    app.selectbox[0].set_value("b").run()
    assert other_defaults(app) == []
    assert app.slider[0].value == 3
    assert app.text_input[0].value == "b"
