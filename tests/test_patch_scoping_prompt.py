"""Placeholders are found in the tokens that the model really sees."""

from copy import deepcopy

import pytest

from core.models import Model
from core.patch_scoping.prompt import (
    TEMPLATES,
    _notes,
    default_placeholder,
    scope_prompt,
    template_prompt,
    template_text,
)

CHAT = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ m.role }}\n{{ m.content }}"
    "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


@pytest.fixture
def chat_model(tiny_model: Model, monkeypatch: pytest.MonkeyPatch) -> Model:
    """A model whose chat template writes BOS itself, as Gemma's does."""
    monkeypatch.setattr(tiny_model.tokenizer, "chat_template", CHAT)
    return tiny_model


def test_every_occurrence_and_nothing_else(any_model: Model) -> None:
    prompt = scope_prompt(any_model, 'What is "<unk>"? It is "<unk>", "')
    tokens = any_model.to_tokens(prompt.text)[0].tolist()
    assert list(prompt.tokens) == tokens
    assert prompt.positions == tuple(i for i, t in enumerate(tokens) if t == 1)
    assert len(prompt.positions) == 2
    assert "2 times" in prompt.notes[0]


def test_bos_is_not_a_placeholder_even_when_it_is_the_same_token(any_model: Model) -> None:
    prompt = scope_prompt(any_model, "A <|endoftext|> B", placeholder="<|endoftext|>")
    assert prompt.tokens[0] == 0
    [place] = prompt.positions
    assert place > 0
    assert prompt.tokens[place] == 0


def test_bos_in_the_text_is_not_doubled(any_model: Model) -> None:
    with_bos = scope_prompt(any_model, "<|endoftext|>the <unk> is")
    assert with_bos.tokens == scope_prompt(any_model, "the <unk> is").tokens


def test_no_bos_where_the_model_is_used_without(any_model: Model) -> None:
    prompt = scope_prompt(any_model, "the <unk> is")
    any_model.cfg.default_prepend_bos = False
    try:
        without = scope_prompt(any_model, "the <unk> is")
    finally:
        any_model.cfg.default_prepend_bos = True
    assert without.tokens == prompt.tokens[1:]
    assert without.positions == tuple(place - 1 for place in prompt.positions)


def test_a_placeholder_of_several_tokens_is_replaced_whole(any_model: Model) -> None:
    prompt = scope_prompt(any_model, "the zqx is", placeholder="zqx")
    [places] = prompt.occurrences
    assert len(places) > 1
    assert any_model.tokenizer.decode([prompt.tokens[i] for i in places]).strip() == "zqx"
    assert "splits" in prompt.notes[0]


def test_letters_count_as_a_word_of_their_own(any_model: Model) -> None:
    prompt = scope_prompt(any_model, 'XML says "X" or Xs', placeholder="X")
    assert len(prompt.occurrences) == 1


def test_a_token_that_joins_the_placeholder_with_more_is_told() -> None:
    # A tokenizer with the token '"X' covers characters 1 to 3 where the placeholder is 2 to 3.
    notes = _notes('a"X b', "X", [(2, 3)], [(1,)], [(0, 1), (1, 3), (3, 5)])
    assert "joins 'X' with '\"'" in notes[0]
    assert not _notes("a X b", "X", [(2, 3)], [(1,)], [(0, 1), (1, 3), (3, 5)])


@pytest.mark.parametrize(
    ("text", "placeholder", "message"),
    [
        ("nothing here", None, "does not occur"),
        ("nothing here", "X", "does not occur"),
        ("nothing here", "", "empty"),
        ("<unk> " + "word " * 200, None, "shorten"),
    ],
)
def test_refusals(tiny_model: Model, text: str, placeholder: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scope_prompt(tiny_model, text, placeholder=placeholder)


def test_default_placeholder(tiny_model: Model) -> None:
    tokenizer = deepcopy(tiny_model.tokenizer)
    assert default_placeholder(tokenizer) == "<unk>"
    tokenizer.unk_token = tokenizer.bos_token  # as GPT-2 has it
    assert default_placeholder(tokenizer) == "X"
    tokenizer.unk_token = None
    assert default_placeholder(tokenizer) == "X"


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates(chat_model: Model, name: str) -> None:
    prefill = TEMPLATES[name].prefill
    plain = template_text(chat_model, TEMPLATES[name], chat=False)
    assert plain.endswith(prefill.replace("{X}", "<unk>"))
    assert plain.count("<unk>") == 1 + prefill.count("{X}")
    chat = template_text(chat_model, TEMPLATES[name], placeholder="zq")
    assert "<start_of_turn>user" in chat
    assert chat.endswith("model\n" + prefill.replace("{X}", "zq"))


def test_a_chat_template_that_writes_bos(chat_model: Model) -> None:
    prompt = template_prompt(chat_model, "free")
    assert prompt.text.startswith("<|endoftext|>")
    assert prompt.tokens.count(0) == 1, "though the template and to_tokens both add it"
    assert prompt.tokens[prompt.positions[0]] == 1


def test_chat_needs_a_template(tiny_model: Model) -> None:
    with pytest.raises(ValueError, match="chat template"):
        template_text(tiny_model, TEMPLATES["definition"], chat=True)
    with pytest.raises(ValueError, match="definition"):
        template_prompt(tiny_model, "haiku")
