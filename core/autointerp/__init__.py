"""Explain latents in words, and test the words: do they tell where the latent fires?

    cfg = AutoInterpConfig(latents=[9, 11, 15], scoring=True)
    autointerp = AutoInterp(cfg, model, sae, token_set, endpoint=endpoint, store=store)
    data = autointerp.gather_data(progress=job.progress)
    autointerp.estimate(data).dollars
    results = autointerp.run(data=data, progress=job.progress)

The set-up is that of ARENA 1.3.3: an explainer sees some of the strongest examples with marks, a
judge gets the explanation and is to find the other strong examples among random ones, unmarked.
"""

from core.autointerp.chat_roles import ChatExplainer, ChatJudge
from core.autointerp.config import AutoInterpConfig
from core.autointerp.controls import CONTROLS, control_sae
from core.autointerp.counterexamples import same_token_inactive
from core.autointerp.example import Example
from core.autointerp.fuzzing import ChatMarksJudge, Fuzzing
from core.autointerp.gather import LatentWindows, TokenSource, Windows, gather_windows
from core.autointerp.generation import Generation, ModelProber, Reviser
from core.autointerp.lexical import LexicalExplainer, LexicalJudge, PreparedExplainer
from core.autointerp.neighbours import NeighbourPrecision
from core.autointerp.numbers import DetectionNumbers, detection_numbers, detection_table
from core.autointerp.parsing import UnreadableAnswer
from core.autointerp.pipeline import AutoInterp
from core.autointerp.prompts import ExplainerOptions
from core.autointerp.roles import (
    Evidence,
    Explained,
    Explainer,
    FailedAnswer,
    Judge,
    Judged,
    Material,
    Scored,
    Scorer,
)
from core.autointerp.run import Roles, explain_and_score
from core.autointerp.scope import scope_explanations
from core.autointerp.simulation import Simulation
from core.autointerp.split import split_windows

__all__ = [
    "CONTROLS",
    "AutoInterp",
    "AutoInterpConfig",
    "ChatExplainer",
    "ChatJudge",
    "ChatMarksJudge",
    "DetectionNumbers",
    "Evidence",
    "Example",
    "Explained",
    "Explainer",
    "ExplainerOptions",
    "FailedAnswer",
    "Fuzzing",
    "Generation",
    "Judge",
    "Judged",
    "LatentWindows",
    "LexicalExplainer",
    "LexicalJudge",
    "Material",
    "ModelProber",
    "NeighbourPrecision",
    "PreparedExplainer",
    "Reviser",
    "Roles",
    "Scored",
    "Scorer",
    "Simulation",
    "TokenSource",
    "UnreadableAnswer",
    "Windows",
    "control_sae",
    "detection_numbers",
    "detection_table",
    "explain_and_score",
    "gather_windows",
    "same_token_inactive",
    "scope_explanations",
    "split_windows",
]
