"""Answers of chat models as explanations, predictions and scores: in the form asked for, or not."""

import asyncio
import json
import math
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.autointerp import AutoInterpConfig, ExplainerOptions
from core.autointerp.chat import MORE_ROOM, ChatExplainer, ChatJudge
from core.autointerp.detection_statistics import detection_statistics, why_no_score
from core.autointerp.explain import Result, Roles, explain_and_score
from core.autointerp.fuzzing import ChatMarksJudge, Fuzzing
from core.autointerp.generation import Generation
from core.autointerp.negatives import NeighbourPrecision
from core.autointerp.parsing import (
    NoPattern,
    UnreadableAnswer,
    parse_explanation,
    parse_predictions,
    parse_texts,
    parse_thoughtful,
)
from core.autointerp.roles import Evidence, Explained, FailedAnswer, Judged, Material, NoScore
from core.autointerp.simulation import Simulation, simulated_activations
from core.llm import ChatAnswer, ChatEndpoint, ChatSession
from core.store import Store
from tests.loopback_openai import GOOD_KEY, Fault, LoopbackOpenAI, loopback_openai
from tests.raw_answers import ANSWER, SECRET, THOUGHTS
from tests.stub_examples import stub_example, stub_materials

ROOM = AutoInterpConfig([0]).thinking_tokens


@pytest.fixture(scope="module")
def service() -> Iterator[LoopbackOpenAI]:
    with loopback_openai() as running:
        yield running


@pytest.fixture(autouse=True)
def _fresh(service: LoopbackOpenAI) -> None:
    service.faults.clear()
    service.requests.clear()
    service.refuse = lambda body: None


def session(service: LoopbackOpenAI, store: Store | None = None) -> ChatSession:
    endpoint = ChatEndpoint("toy", service.url, GOOD_KEY, backoff_seconds=0.01)
    return ChatSession(endpoint, store=store)


def run(service: LoopbackOpenAI, reply: Any, *, n: int = 1, **options: Any) -> dict[int, Result]:
    """Explain and score `n` latents."""
    service.reply = reply
    chat = session(service, options.pop("store", None))
    materials = options.pop("materials", None) or stub_materials(n)
    cfg = AutoInterpConfig(list(materials), scoring=True, **options)
    judge = ChatJudge(chat, thinking_tokens=cfg.thinking_tokens)
    roles = Roles(ChatExplainer(chat, cfg), judge)
    return explain_and_score(materials, roles, session=chat)


def judges(body: dict[str, Any]) -> bool:
    return "numbered texts" in body["messages"][0]["content"]


EXPLANATIONS = [
    (ANSWER, "the word 'cat'"),
    ('This neuron activates on "stop".', '"stop"'),
    ("It activates on some bytes.", "some bytes"),
    ("Sure! This neuron activates on letters", "letters"),
    ("activates on x", "x"),
    ("This neuron primarily activates on x.", "x"),
    ("**This neuron activates on:** the word 'cat'", "the word 'cat'"),
    ("**This neuron activates on** the word", "the word"),
    ("This neuron activates on **the word** `cat`.", "the word 'cat'"),
    ("This neuron activates on `don't`.", '"don\'t"'),
    ("*This neuron activates on cats.*", "cats"),
    ('"This neuron activates on cats."', "cats"),
    ("“This neuron activates on the word “x””", "the word “x”"),
    ("```\nThis neuron activates on cats\n```", "cats"),
    ("> This neuron activates on cats", "cats"),
    ("- This neuron activates on cats", "cats"),
    ("1. This neuron activates on cats", "cats"),
    ("## Explanation\n\nThis neuron activates on cats.  \n", "cats"),
    ("Explanation: the word 'cat'", "the word 'cat'"),
    ("**Explanation:** the word 'cat'.", "the word 'cat'"),
    ("**Explanation**: **This neuron activates on cats**", "cats"),
    ("EXPLANATION - cats", "cats"),
    ('My explanation: "This neuron activates on cats."', "cats"),
    ("Explanation: The unit responds to cats", "cats"),
    ("Answer: This neuron activates on cats", "cats"),
    ("This neuron activates on cats.\n\nExplanation: all marked tokens are cats.", "cats"),
    ("This neuron activates on cats.\n\nLet me know if you need more!", "cats"),
    ("This neuron activates on:\n- the word x\n- the word y", "the word x; the word y"),
    ("This neuron activates on\n\nthe word x", "the word x"),
    ('{"explanation": "the word cat"}', "the word cat"),
    ('{"explanation": "This neuron activates on the word \\"cat\\"."}', 'the word "cat"'),
    ('```json\n{"explanation": "cats"}\n```', "cats"),
    ('Here you are:\n```json\n{"Explanation": "cats"}\n```\nDone.', "cats"),
    ('Here: {"explanation": "cats"} as asked', "cats"),
    ("{'explanation': 'cats'}", "cats"),
    ('{"explanation": "cats",}', "cats"),
    ('{"reasoning": "This neuron activates on dogs", "explanation": "cats"}', "cats"),
    ('[{"result": {"explanation": "**cats**"}}]', "cats"),
    # What a sentence is about is no mark of formatting.
    ("This neuron activates on the token '**' in lists", "the token '**' in lists"),
    ("This neuron activates on ** operators", "** operators"),
    ("This neuron activates on # comments", "# comments"),
    ("This neuron activates on __init__ methods", "__init__ methods"),
    ("This neuron activates on <<think>> tokens", "<<think>> tokens"),
    ('This neuron activates on the phrase "I\'m sorry".', 'the phrase "I\'m sorry"'),
    ("This neuron activates on 'the alarm activates on Monday'", "'the alarm activates on Monday'"),
    ('This neuron activates on the string "{" in code', 'the string "{" in code'),
    ("This neuron activates on ','", "','"),
    ('This neuron activates on ".".', '"."'),
    ("Explanation: '!'", "'!'"),
    ('{"explanation": "This neuron activates on `**`"}', "'**'"),
    # What a model adds on the lines below is no part of the sentence.
    ("explanation: This neuron activates on cats\nconfidence: high", "cats"),
    ("This neuron activates on cats.\nAll marked tokens are cats.", "cats"),
    ("This neuron activates on cats.\n**Note:** two texts differ.", "cats"),
    ("This neuron activates on the word\ncat in prose.", "the word cat in prose"),
    ("This neuron activates on words, e.g.\ncats and dogs", "words, e.g. cats and dogs"),
    ("This neuron activates on 猫。", "猫"),
]
NO_EXPLANATIONS = [
    "",
    "...",
    "the word 'cat'",
    "** the word",
    "I'm sorry, but I cannot help with that.",
    "I cannot determine what this neuron activates on from these texts.",
    "cannot determine what this neuron activates on from these texts",
    "Je suis désolé, mais je ne peux pas déterminer ce qui active ce neurone.",
    "Leider kann ich das nicht sagen.",
    "申し訳ありませんが、判断できません。",
    "What this neuron activates on is unclear.",
    "This neuron activates on.",
    "This neuron activates on cats. This neuron activates on dogs.",
    "explanation: cats\nexplanation: dogs",
    "This neuron activates on maybe cats\nEXPLANATION: NONE",
    '{"explanation": "cannot determine what this neuron activates on from these texts"}',
    '{"explanation": "I\'m sorry, I cannot tell."}',
    '{"explanation": ""}',
    '{"explanation": ["cats"]}',
    '{"explanation": "cats"} {"explanation": "dogs"}',
    '{"answer": "cats"}',
    '{"explanation": "This neuron activates on ca',
    "[1, 2]",
    "Explanation: I cannot say what this neuron activates on",
]
NO_PATTERNS = [
    "NONE",
    "None.",
    "**NONE**",
    '"NONE"',
    "null",
    "This neuron activates on NONE",
    "Explanation: none",
    '{"explanation": null}',
    '```json\n{"explanation": null}\n```',
    '{"explanation": "NONE"}',
]


@pytest.mark.parametrize(("answer", "expected"), EXPLANATIONS)
def test_explanations_in_the_form_asked_for(answer: str, expected: str) -> None:
    assert parse_explanation(answer) == expected


@pytest.mark.parametrize("answer", NO_EXPLANATIONS)
def test_what_is_in_no_such_form_is_no_explanation(answer: str) -> None:
    with pytest.raises(UnreadableAnswer) as raised:
        parse_explanation(answer)
    assert not isinstance(raised.value, NoPattern)
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize("answer", NO_PATTERNS)
def test_no_pattern_is_an_answer_of_its_own(answer: str) -> None:
    with pytest.raises(NoPattern, match="found no pattern"):
        parse_explanation(answer)
    with pytest.raises(NoPattern):
        parse_thoughtful(answer if "{" in answer else f"hm\nEXPLANATION: {answer}")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ('{"numbers": [1, 4]}', [1, 4]),
        ('{"numbers": []}', []),
        ('Here: {"numbers": [1]}', [1]),
        ("```json\n[1, 4]\n```", [1, 4]),
        ('["1", "4"]', [1, 4]),
        ('{"Numbers": "1, 4"}', [1, 4]),
        ('{"numbers": "None"}', []),
        ("**1, 4**", [1, 4]),
        ("**Answer:** 1, 4.", [1, 4]),
        ("```2,3```", [2, 3]),
        ("1, 2,", [1, 2]),
    ],
)
def test_lists_come_as_json_as_well(answer: str, expected: list[int]) -> None:
    assert parse_predictions(answer, n_examples=4) == expected


def test_texts_come_as_json_as_well() -> None:
    assert parse_texts('{"yes": ["a cat"], "no": ["a dog"]}') == (["a cat"], ["a dog"])
    # Only marks that stand around all of a text are taken away.
    said = 'YES: She said "hi"\nYES: "Yes," he said, "no"\nYES: "a cat"\nNO：犬'
    assert parse_texts(said) == (['She said "hi"', '"Yes," he said, "no"', "a cat"], ["犬"])
    for wrong in ('{"yes": ["a"]}', "YES: same\nNO: same", '{"yes": 1, "no": 2}'):
        with pytest.raises(UnreadableAnswer):
            parse_texts(wrong)


@pytest.mark.slow
@settings(max_examples=400)
@given(
    st.text(max_size=80) | st.text("{}[]\"'`*:,.\n 0123456789YESNOexplanationumbers", max_size=80)
)
def test_no_text_crashes_a_parser(text: str) -> None:
    for parse in (parse_explanation, parse_thoughtful, parse_predictions, parse_texts):
        try:
            found = parse(text)
        except UnreadableAnswer:
            continue
        assert found is not None


@pytest.mark.parametrize(
    "part", ['{"a":', "**a ", "* a", '"', "`", "{", "[", "Explanation:", "YES:"]
)
def test_no_text_takes_forever(part: str) -> None:
    for parse in (parse_explanation, parse_thoughtful, parse_predictions, parse_texts):
        with suppress(UnreadableAnswer):
            parse(part * 4000)


@pytest.mark.parametrize("sent", THOUGHTS, ids=lambda sent: sent.name)
def test_thoughts_never_become_explanations_or_predictions(
    sent: Any, service: LoopbackOpenAI
) -> None:
    """Through the whole run: the thought holds what would be a well-formed explanation."""
    service.faults = [Fault(body=sent.body, content_type=sent.content_type)]
    service.faults *= 1 if sent.text else 2
    result = run(service, lambda body: "1, 2")[0]
    assert "SECRET" not in str(result["explanation"])
    assert "SECRET" not in result["error"]
    if sent.text:
        assert result["explanation"] == "the word 'cat'"
        assert result["status"] == "scored"
        assert result["unreadable"] == 0
        # The judge is told the explanation, and not what was thought.
        assert "SECRET" not in str(service.questions()[-1])
    else:
        assert (result["status"], result["explanation"]) == ("failed", None)
        assert len(result["explanation raw"]) == result["unreadable"] == 2
        assert "think" in result["error"] or "thought" in result["error"]
        assert "SECRET" not in str(service.questions()[-1])


def test_a_cut_answer_gets_more_room_once(service: LoopbackOpenAI) -> None:
    def reply(body: dict[str, Any]) -> Any:
        if judges(body):
            return "1, 2"
        if body["max_tokens"] > ROOM + 25:
            return f"<think>{SECRET}</think>{ANSWER}"
        return {"content": f"<think>{SECRET}", "finish_reason": "length"}

    result = run(service, reply)[0]
    assert result["explanation"] == "the word 'cat'"
    assert result["unreadable"] == 1
    first, second, _ = service.questions()
    assert second["max_tokens"] == MORE_ROOM * first["max_tokens"]
    assert "could not be read" in second["messages"][-1]["content"]
    assert "cut" in second["messages"][-1]["content"]
    # Half a thought is not handed back as if it had been said.
    assert [it["role"] for it in second["messages"]] == ["system", "user", "user"]


def test_a_judge_that_is_cut_fails_with_the_limit(service: LoopbackOpenAI) -> None:
    cut = {"content": "1, 2", "finish_reason": "length", "usage": None}
    result = run(service, lambda body: cut if judges(body) else ANSWER, thinking_tokens=183)[0]
    assert result["status"] == "failed"
    limits = [body["max_tokens"] for body in service.questions()]
    assert limits == [183 + 25, 200, 200 * MORE_ROOM]
    assert f"cut at {200 * MORE_ROOM} tokens" in result["error"]
    assert "raise the limit" in result["error"]
    assert result["prediction raw"] == ["1, 2"] * 2


def test_an_object_that_is_closed_is_whole(service: LoopbackOpenAI) -> None:
    """In JSON mode some models go on with blanks until they are cut."""
    blank = {"content": '{"explanation": "cats"}\n\n  ', "finish_reason": "length"}
    assert run(service, lambda body: "1" if judges(body) else blank)[0]["explanation"] == "cats"


@pytest.mark.parametrize(
    "answer",
    ["I looked at 10 examples: 1 and 4 fit.", "1-4", "one, three", "1, 1", "7", "0", '{"n": [1]}'],
)
def test_judges_answers_are_never_guessed_at(answer: str, service: LoopbackOpenAI) -> None:
    results = run(service, lambda body: answer if judges(body) else ANSWER, n=3)
    for result in results.values():
        assert (result["status"], result["score"], result["predictions"]) == ("failed", None, None)
        assert result["unreadable"] == 2
    assert len(service.questions()) == 9


def test_no_pattern_is_reported_as_such_and_not_asked_again(service: LoopbackOpenAI) -> None:
    for answer in ("NONE", '{"explanation": null}'):
        service.requests.clear()
        result = run(service, lambda body, answer=answer: answer)[0]
        assert (result["status"], result["explanation"]) == ("no pattern", None)
        assert result["error"] == "The explainer found no pattern in the examples."
        assert result["unreadable"] == 0
        assert len(service.questions()) == 1


def test_forms_are_asked_for_and_left_out_where_they_are_refused(service: LoopbackOpenAI) -> None:
    service.refuse = lambda body: Fault(status=400) if "response_format" in body else None
    results = run(service, lambda body: "1, 2" if judges(body) else ANSWER, n=4)
    assert {result["status"] for result in results.values()} == {"scored"}
    service.refuse = lambda body: None
    service.requests.clear()
    run(service, lambda body: '{"numbers": [1]}' if judges(body) else '{"explanation": "x"}')
    forms = [it["response_format"]["json_schema"]["schema"] for it in service.questions()]
    assert [list(form["properties"]) for form in forms] == [["explanation"], ["numbers"]]
    chat = session(service)
    aloud = ChatExplainer(
        chat, AutoInterpConfig([0]), options=ExplainerOptions(chain_of_thought=True)
    )
    assert aloud.request(stub_materials(1)[0].evidence).response_format is None


def test_answers_that_cannot_be_read_are_paid_for_once(
    service: LoopbackOpenAI, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    first = run(service, lambda body: "Je ne sais pas.", n=3, store=store)
    assert len(service.questions()) == store.usage().paid.entries == 6
    assert run(service, lambda body: pytest.fail("asked again"), n=3, store=store) == first
    store.close()


def one_kind(active: bool) -> Material:
    shown = [stub_example([i, i + 1, i + 2], True) for i in range(3)]
    scoring = [stub_example([50 + i, i, 60 + i], active) for i in range(4)]
    return Material(Evidence(0, shown), scoring, scoring[:2])


@pytest.mark.parametrize(("active", "missing"), [(True, "negatives"), (False, "positives")])
def test_a_test_set_of_one_kind_gives_no_score(
    active: bool, missing: str, service: LoopbackOpenAI
) -> None:
    result = run(service, lambda body: ANSWER, materials={0: one_kind(active)})[0]
    assert (result["status"], result["score"]) == ("unscored", None)
    assert result["error"].startswith(f"No score: the test set had no {missing}")
    assert result["numbers"]["n"] == 4
    assert result["numbers"]["n_active"] == 4 * active
    assert {result["numbers"][it] for it in ("accuracy", "balanced_accuracy", "f1")} == {None}
    # No judge was paid for what would tell nothing.
    assert len(service.questions()) == 1
    found = detection_statistics([active] * 4, [True] * 4)
    assert all(math.isnan(it) for it in (found.balanced_accuracy, found.f1, found.precision))
    assert why_no_score([active] * 4) == result["error"]


def test_scorers_say_why_there_is_no_score(service: LoopbackOpenAI) -> None:
    service.reply = lambda body: pytest.fail("asked")
    chat = session(service)
    explained = Explained("cats")

    def why(scorer: Any, material: Material) -> str:
        with pytest.raises(NoScore) as raised:
            asyncio.run(scorer.score(explained, material))
        return str(raised.value)

    fuzzing = Fuzzing(ChatMarksJudge(chat))
    assert "no positives" in why(fuzzing, one_kind(False))
    everywhere = stub_example([1, 2], True)
    everywhere.toks_are_active = [True, True]
    assert "too few tokens are silent" in why(fuzzing, Material(Evidence(0, []), [everywhere]))
    neighbours = NeighbourPrecision(ChatJudge(chat))
    assert "no negatives" in why(neighbours, one_kind(True))
    assert "no examples of neighbours" in why(neighbours, Material(Evidence(0, []), [everywhere]))
    assert "all the same" in why(Simulation(chat), one_kind(False))
    assert "nothing to simulate" in why(Simulation(chat), Material(Evidence(0, [])))
    assert service.questions() == []


def _lines(body: dict[str, Any], value: str) -> dict[str, Any]:
    n = int(re.findall(r"the (\d+) tokens", body["messages"][0]["content"])[0])
    tokens = [it for i in range(1, n + 1) for it in (str(i), " ", value, "\n")]
    listed = [
        {"token": it, "logprob": -0.1, "top_logprobs": [{"token": it, "logprob": -0.1}]}
        for it in tokens
    ]
    return {"content": "".join(tokens), "logprobs": {"content": listed}}


def test_a_constant_simulation_has_no_correlation(service: LoopbackOpenAI) -> None:
    service.reply = lambda body: _lines(body, "3")
    chat = session(service)
    material = stub_materials(1)[0]
    found = asyncio.run(Simulation(chat, n_examples=2).score(Explained("x"), material))
    assert found.score is None
    assert found.why == "No score: the simulated activations are all the same."
    service.reply = lambda body: _lines(body, "57")
    chat = session(service)
    with pytest.raises(FailedAnswer, match="57"):
        asyncio.run(Simulation(chat, n_examples=2).score(Explained("x"), material))


def test_values_of_several_tokens_are_what_they_say() -> None:
    tokens = ("1", " ", "1", "0")
    tops = ({"1": -0.1}, {" ": 0.0}, {"1": -0.1, "2": -3.0}, {"0": -0.1})
    assert simulated_activations(ChatAnswer("1 10", logprobs=tops, tokens=tokens), 1) == [10.0]
    twice = ("1", " ", "3", "\n", "1", " ", "4")
    some = ({"3": 0.0},) * 7
    with pytest.raises(UnreadableAnswer, match="twice"):
        simulated_activations(ChatAnswer("", logprobs=some, tokens=twice), 1)


def test_a_writer_that_writes_nothing_fails_in_words(service: LoopbackOpenAI) -> None:
    service.reply = lambda body: "I have no idea."
    generation = Generation(session(service), lambda latent, texts: pytest.fail("run"))
    with pytest.raises(FailedAnswer, match="texts of both kinds") as raised:
        asyncio.run(generation.score(Explained("x"), Material(Evidence(0, []))))
    assert raised.value.unreadable == 2


def test_intervals_need_more_than_one_example() -> None:
    one = detection_statistics([True], [True])
    assert math.isnan(one.accuracy_low)
    uneven = detection_statistics([True] + [False] * 8, [True] + [False] * 8)
    assert uneven.balanced_accuracy == 1
    assert math.isnan(uneven.balanced_low)
    assert math.isnan(uneven.f1_high)
    assert not math.isnan(uneven.accuracy_low)


def test_a_judge_of_ones_own_is_not_counted_as_unreadable(service: LoopbackOpenAI) -> None:
    class Own:
        async def judge(self, explained: Explained, examples: Any) -> Judged:
            return Judged([1, 2])

    service.reply = lambda body: json.dumps({"explanation": "x"})
    chat = session(service)
    roles = Roles(ChatExplainer(chat, AutoInterpConfig([0])), Own())
    assert explain_and_score(stub_materials(1), roles, session=chat)[0]["unreadable"] == 0
