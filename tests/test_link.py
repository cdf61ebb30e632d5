"""What a page's link carries, written and read."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.link import (
    Link,
    LinkField,
    list_of,
    one_of,
    read_flag,
    read_whole,
    real,
    short_text,
    whole,
    write_flag,
    write_list,
    write_number,
)


@dataclass(frozen=True)
class Shown:
    layer: int = 2
    scale: float = 1.0
    frozen: bool = False
    order: str = "position"
    prompt: str = "a"
    latents: tuple[int, ...] = ()


LINK = Link(
    Shown(),
    [
        LinkField("layer", "layer", whole(-1, 40)),
        LinkField("scale", "scale", real(-1e3, 1e3), write_number),
        LinkField("frozen", "frozen", read_flag, write_flag),
        LinkField("order", "order", one_of(("position", "strength"))),
        LinkField("prompt", "prompt", short_text(200)),
        LinkField(
            "latents", "latents", list_of(lambda text: read_whole(text, 0, 99), 5), write_list
        ),
    ],
)


def test_a_default_view_needs_no_parameter():
    assert LINK.to_parameters(Shown()) == {}
    assert LINK.parse({}) == (Shown(), ())


@given(
    st.builds(
        Shown,
        layer=st.integers(-1, 40),
        scale=st.floats(-1e3, 1e3),
        frozen=st.booleans(),
        order=st.sampled_from(["position", "strength"]),
        prompt=st.text(min_size=1, max_size=200),
        latents=st.lists(st.integers(0, 99), min_size=1, max_size=5).map(tuple),
    )
)
def test_a_view_comes_back_from_its_link(view):
    assert LINK.parse(LINK.to_parameters(view)) == (view, ())


@pytest.mark.parametrize(
    ("parameter", "text", "says"),
    [
        ("layer", "41", "from -1 to 40"),
        ("layer", "1_0", "whole number"),
        ("layer", "--1", "whole number"),
        ("layer", "٣", "whole number"),
        ("scale", "nan", "from -1000.0 to 1000.0"),
        ("scale", "1_0", "number"),
        ("frozen", "yes", "neither"),
        ("order", "size", "position, strength"),
        ("prompt", "x" * 201, "200 characters"),
        ("latents", "1,2,3,4,5,6", "at most 5"),
        ("latents", "1,100", "from 0 to 99"),
    ],
)
def test_what_cannot_be_used_gets_its_default_and_a_sentence(parameter, text, says):
    view, problems = LINK.parse({parameter: text, "order": "strength"} | {parameter: text})
    assert getattr(view, parameter) == getattr(Shown(), parameter)
    assert len(problems) == 1
    assert says in problems[0]
    assert problems[0].startswith(parameter)
    if parameter != "order":
        assert view.order == "strength", "the rest of the link is followed"
