"""Every number that the demo bundle depends on, in one place.

A stage is run again when its part of the recipe, or that of a stage before it, has changed.
"""

from dataclasses import dataclass, field

from core.docs_corpus import PACKAGES

BOS, UNK, START_OF_TURN, END_OF_TURN = "<|endoftext|>", "<unk>", "<start_of_turn>", "<end_of_turn>"
SPECIAL_TOKENS = (BOS, UNK, START_OF_TURN, END_OF_TURN)
BOS_ID, UNK_ID = 0, 1


@dataclass(frozen=True)
class CorpusRecipe:
    """Which text, and how it is cut into tokens."""

    packages: tuple[str, ...] = PACKAGES
    """Packages whose docstrings are trained on."""
    held_out_packages: tuple[str, ...] = ("sympy", "numba")
    """Packages never trained on, for the validation loss on unseen authors."""
    held_out_fraction: float = 0.025
    """Share of the docstrings of `packages` kept for validation."""
    max_overlap: float = 0.4
    """A docstring with more of its 6-word shingles seen before is dropped."""
    vocab_size: int = 4096
    """Size of the byte-level BPE vocabulary, special tokens included."""
    max_docstrings: int | None = None
    """Only this many docstrings (tests); None takes all."""
    seed: int = 0
    """Order of the docstrings, and with it the held-out split."""


@dataclass(frozen=True)
class BaseRecipe:
    """`docs-small`: architecture and training."""

    d_model: int = 256
    """Width of the residual stream."""
    n_layers: int = 4
    """Transformer blocks."""
    n_heads: int = 8
    """Attention heads a block."""
    context: int = 256
    """Tokens a sequence."""
    batch: int = 32
    """Sequences a step."""
    induction_every: int = 1
    """Every so many steps two rows, and in the others one, are repeated random tokens."""
    short_fraction: float = 0.5
    """Share of the steps on sequences of half the context, which cost less attention."""
    steps: int = 3500
    """Optimiser steps of the first cycle of the learning rate."""
    second_steps: int = 0
    """Steps of a second cycle, which warms up again and falls linearly to the end."""
    second_peak: float = 0.6
    """Its highest learning rate, as a share of the first cycle's."""
    warmup_steps: int = 60
    """Steps of linear warm-up."""
    flat_fraction: float = 0.4
    """Share of the steps at the full learning rate, before the linear decay."""
    muon_lr: float = 0.02
    """Learning rate of the block matrices (Muon, momentum 0.95)."""
    adam_lr: float = 3e-3
    """Learning rate of embeddings, biases and norms (AdamW)."""
    dropout: float = 0.0
    """Share of the entries dropped after the embedding and in each sublayer."""
    weight_decay: float = 0.1
    """Weight decay of the block matrices. Of four settings of dropout and decay this one had the
    lowest loss on held-out docstrings."""
    seed: int = 0
    """Initial weights and batches."""


@dataclass(frozen=True)
class SaeRecipe:
    """The shipped SAEs, and the ones that only serve the tuning of `docs-small-it`."""

    family_layer: int = 2
    """Layer of the residual site (`hook_resid_pre`) of the feature-splitting family."""
    family_multiples: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    """Widths of the family as multiples of d_model."""
    residual_multiple: int = 8
    """Width of the residual SAE of each layer, as a multiple of d_model."""
    attention_multiple: int = 4
    """Width of the attention SAE of each layer, as a multiple of d_model."""
    k: int = 32
    """Active latents a token (TopK) of the residual SAEs."""
    read_ks: tuple[int, ...] = (16, 20)
    """The same for the residual SAEs at each of `tuning_layers`, tuning-only ones included. Fewer
    active latents are nearer to words: with 32 of them, and fewer tuning-only SAEs that were
    trained for longer, layer 1 was read with an F1 of 0.37 instead of 0.66."""
    attention_k: int = 24
    """Active latents a token (TopK) of the attention SAEs."""
    tokens: int = 4_000_000
    """Distinct corpus tokens whose activations are trained on."""
    steps: int = 4000
    """Optimiser steps of the narrowest and middle widths."""
    read_steps: int = 800
    """Optimiser steps of the residual SAEs at `tuning_layers`, whose directions the tuned model is
    to read. Longer training explains more of the variance and moves directions away from words:
    the same tuned model read them with an F1 of 0.28 after 4,000 steps and 0.52 after 800."""
    tuning_steps: int = 800
    """Optimiser steps of the tuning-only SAEs."""
    wide_steps: tuple[int, ...] = (5000, 6000, 7000)
    """Optimiser steps of the widest members of the family; more latents need more to settle."""
    batch: int = 2048
    """Activations a step."""
    lr: float = 1e-3
    """Adam's learning rate, decayed linearly over the last third."""
    revival_share: float = 0.75
    """Dead latents are started again up to this share of the steps."""
    wide_revival_shares: tuple[float, ...] = (0.5, 0.4, 0.4)
    """The same for the members with `wide_steps`. Ending early pays: with it and half as many steps
    again, 8,192 latents went from an explained variance of 0.902 to 0.926."""
    tuning_layers: tuple[int, ...] = (1, 2)
    """Layers of the tuning-only SAEs: trained with other seeds, never shipped, never scored."""
    tuning_saes: int = 12
    """How many of them a layer has."""
    seed: int = 0
    """Initial weights and batches."""


@dataclass(frozen=True)
class TuneRecipe:
    """`docs-small-it`: definitions from words and from vectors."""

    steps: int = 3000
    """Optimiser steps."""
    batch: int = 96
    """Question–answer pairs a step."""
    layers: tuple[int, ...] = (1, 2)
    """Layers at whose input the placeholder's residual is replaced by a vector."""
    vector_fraction: float = 0.75
    """Share of the batches with the word replaced by a vector."""
    latent_fraction: float = 0.5
    """Share of decoder directions of tuning-only SAEs, where a word has one; else context means."""
    contexts: tuple[int, ...] = (1, 2, 4, 8)
    """How many contexts a mean vector may average."""
    scales: tuple[float, float] = (0.5, 2.0)
    """Range of the vector's norm, in multiples of the typical residual norm."""
    noise: float = 1.0
    """Largest norm of the noise added to a unit vector; decoder directions of the shipped SAEs lie
    at cosines of 0.3 to 0.7 from anything seen in tuning."""
    company: float = 0.5
    """Largest norm of another tuning-only latent's direction that is added as well: a latent's
    direction strays from its word not at random but towards other latents."""
    sample_tokens: int = 250_000
    """Corpus tokens among whose residuals contexts are found, and the words of latents."""
    muon_lr: float = 0.01
    """Learning rate of the block matrices."""
    adam_lr: float = 2e-3
    """Learning rate of everything else."""
    seed: int = 0
    """Batches."""


@dataclass(frozen=True)
class Recipe:
    """The whole demo."""

    corpus: CorpusRecipe = field(default_factory=CorpusRecipe)
    """Text and tokenizer."""
    base: BaseRecipe = field(default_factory=BaseRecipe)
    """The base model."""
    saes: SaeRecipe = field(default_factory=SaeRecipe)
    """The SAEs."""
    tune: TuneRecipe = field(default_factory=TuneRecipe)
    """The tuned model."""


def short_recipe() -> Recipe:
    """What two cores train in two or three hours: the same models and SAEs on fewer steps."""
    return Recipe(
        base=BaseRecipe(
            batch=16, induction_every=2, steps=3000, second_steps=1500, weight_decay=0.01
        ),
        saes=SaeRecipe(
            tokens=1_000_000,
            steps=800,
            wide_steps=(1000, 1500, 1000),
            tuning_saes=3,
        ),
        tune=TuneRecipe(steps=1200, batch=64),
    )


def tiny_recipe() -> Recipe:
    """A recipe that runs through every stage in about a minute; for tests, not for looking at."""
    return Recipe(
        CorpusRecipe(
            packages=("networkx",),
            held_out_packages=("numba",),
            vocab_size=600,
            max_docstrings=300,
            held_out_fraction=0.1,
        ),
        BaseRecipe(
            d_model=32, n_layers=3, n_heads=4, context=64, batch=8, steps=12, second_steps=4
        ),
        SaeRecipe(
            family_layer=1,
            family_multiples=(1, 2),
            residual_multiple=2,
            attention_multiple=1,
            k=4,
            attention_k=4,
            tokens=8000,
            steps=6,
            read_steps=5,
            tuning_steps=6,
            read_ks=(4,),
            wide_steps=(6,),
            wide_revival_shares=(0.75,),
            batch=256,
            tuning_layers=(1,),
            tuning_saes=1,
        ),
        TuneRecipe(steps=6, batch=8, layers=(1,), sample_tokens=8000),
    )
