"""Which questions a run will ask, before it asks any."""

from collections.abc import Mapping

from core.autointerp.chat_roles import ChatExplainer, ChatJudge
from core.autointerp.fuzzing import ChatMarksJudge, Fuzzing, fuzzing_items
from core.autointerp.generation import Generation
from core.autointerp.neighbours import NeighbourPrecision
from core.autointerp.numbers import one_sided
from core.autointerp.roles import Material
from core.autointerp.run import Roles
from core.autointerp.simulation import Simulation
from core.llm import ChatRequest


def first_requests(
    materials: Mapping[int, Material], roles: Roles, *, explanation_tokens: int
) -> list[ChatRequest]:
    """Every first question of a run: explanations are taken to be as long as they may be.

    Reminders after answers that cannot be read, and revisions, come on top.
    """
    longest = "word " * explanation_tokens
    requests: list[ChatRequest] = []
    for material in materials.values():
        if not material.evidence.examples:
            continue
        if isinstance(roles.explainer, ChatExplainer):
            requests.append(roles.explainer.request(material.evidence))
        if roles.judge is None or not material.scoring:
            continue
        active = [example.is_active for example in material.scoring]
        if isinstance(roles.judge, ChatJudge) and not one_sided(active):
            requests.append(roles.judge.request(longest, material.scoring))
        for scorer in roles.scorers:
            requests += _of_scorer(scorer, material, roles, longest)
    return requests


def _of_scorer(scorer: object, material: Material, roles: Roles, longest: str) -> list[ChatRequest]:
    if isinstance(scorer, Fuzzing) and isinstance(scorer.judge, ChatMarksJudge):
        items = fuzzing_items(material)
        examples, marks = [item[0] for item in items], [item[1] for item in items]
        return [scorer.judge.request(longest, examples, marks)] if items else []
    if isinstance(scorer, NeighbourPrecision) and isinstance(roles.judge, ChatJudge):
        own = [example for example in material.scoring if example.source == "top"]
        mixed = [*own, *material.neighbours]
        told_apart = not one_sided([example.is_active for example in mixed])
        asks = own and material.neighbours and told_apart
        return [roles.judge.request(longest, mixed)] if asks else []
    if isinstance(scorer, Simulation):
        if not scorer.varies(material.scoring):
            return []
        return [scorer.request(longest, ex) for ex in scorer.chosen(material.scoring)]
    if isinstance(scorer, Generation):
        first = [scorer.request(longest)]
        # A revision asks for an explanation, a detection and new texts.
        again = [*first, *first, *first] if roles.reviser is not None else []
        return first + again
    return []
