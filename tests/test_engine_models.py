"""The engine on real tiny models: threads get their own results, and nothing is left behind."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from core.engine import Engine
from core.engine.guard import size_in_bytes
from core.models import Model, cache_sites, hooks_at
from core.saes import decode, encode
from tests.builders import write_tiny_gpt2
from tests.sae_folders import put_sae, user_catalog

RESID, HOOK_Z = "blocks.1.hook_resid_pre", "blocks.1.attn.hook_z"
SAES = [("mine", "resid"), ("mine", "z")]
N_THREADS, N_RUNS, N_INPUTS = 8, 504, 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: a model and two SAEs of it."""
    folder = tmp_path_factory.mktemp("user") / "mine"
    write_tiny_gpt2(folder / "tiny-gpt2")
    put_sae(folder / "resid", RESID, d_in=32, d_sae=64, model_name="tiny-gpt2")
    put_sae(folder / "z", HOOK_Z, d_in=32, d_sae=64, model_name="tiny-gpt2")
    put_sae(folder / "narrow", RESID, d_in=16, model_name="tiny-gpt2")
    return folder


@pytest.fixture
def engine(folder: Path) -> Engine:
    return Engine(user_catalog(folder), device="cpu")


@pytest.fixture
def name(folder: Path) -> str:
    return str(folder / "tiny-gpt2")


def tokens(index: int) -> torch.Tensor:
    """`[2, 8]`, different for each index."""
    return torch.randint(4, 290, (2, 8), generator=torch.Generator().manual_seed(index))


def cached_run(model: Model, saes: list[Any], index: int) -> torch.Tensor:
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens(index), names_filter=[RESID, HOOK_Z])
    return cache[RESID]


def hooked_run(model: Model, saes: list[Any], index: int) -> torch.Tensor:
    def shift(activations: torch.Tensor, hook: Any) -> torch.Tensor:
        return activations + 1 + index

    with torch.no_grad(), hooks_at(model, [(RESID, shift)]):
        return model(tokens(index), return_type="logits")


def gradient(model: Model, saes: list[Any], index: int) -> torch.Tensor:
    leaf: list[torch.Tensor] = []

    def take(activations: torch.Tensor, hook: Any) -> torch.Tensor:
        leaf.append(activations.detach().clone().requires_grad_())
        return leaf[0]

    with torch.enable_grad(), hooks_at(model, [(RESID, take)]):
        logits = model(tokens(index), return_type="logits")
        logits[:, -1, index].sum().backward()
    assert leaf[0].grad is not None
    return leaf[0].grad


def generation(model: Model, saes: list[Any], index: int) -> torch.Tensor:
    with torch.no_grad():
        return model.generate(
            tokens(index)[:1],
            max_new_tokens=3,
            do_sample=False,
            stop_at_eos=False,
            verbose=False,
            return_type="tokens",
        )


def through_saes(model: Model, saes: list[Any], index: int) -> torch.Tensor:
    with torch.no_grad():
        sites = cache_sites(model, tokens(index), [RESID, HOOK_Z])
        resid = encode(saes[0], sites[RESID])
        heads = decode(saes[1], encode(saes[1], sites[HOOK_Z]), like=sites[HOOK_Z])
    return torch.cat([resid.flatten(), heads.flatten()])


KINDS: tuple[Callable[[Model, list[Any], int], torch.Tensor], ...] = (
    *(cached_run, hooked_run, gradient, generation, through_saes),
    *(cached_run, hooked_run, gradient, through_saes),
)


@pytest.mark.slow
def test_threads_get_what_a_single_thread_gets(engine: Engine, name: str) -> None:
    expected = {}
    for kind in set(KINDS):
        for index in range(N_INPUTS):
            with engine.use(name, SAES) as (model, saes):
                expected[kind, index] = kind(model, saes, index)
            for earlier in range(index):
                assert not torch.equal(expected[kind, earlier], expected[kind, index])
    start, wrong = threading.Barrier(N_THREADS), []

    def work(thread: int) -> None:
        start.wait()
        for run in range(N_RUNS // N_THREADS):
            kind, index = KINDS[(run + thread) % len(KINDS)], run % N_INPUTS
            with engine.use(name, SAES) as (model, saes):
                result = kind(model, saes, index)
            if not torch.equal(result, expected[kind, index]):
                wrong.append((kind.__name__, index))

    with ThreadPoolExecutor(N_THREADS) as pool:
        list(pool.map(work, range(N_THREADS)))
    assert wrong == []


def hook_counts(model: Any) -> int:
    tables = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(module, table)) for module in model.modules() for table in tables)


class Crash(Exception):
    pass


def crash(leave: Callable[[Any], Any], argument: Any) -> None:
    leave(argument)
    raise Crash


def shift(activations: torch.Tensor, hook: Any) -> torch.Tensor:
    return activations + 5


def leave_hook(model: Any) -> None:
    model.add_hook(RESID, shift)


def leave_permanent_hook(model: Any) -> None:
    model.add_perma_hook(RESID, shift)


def leave_hook_on_point(model: Any) -> None:
    model.hook_dict[HOOK_Z].add_hook(shift, is_permanent=True)


def leave_torch_hook(model: Any) -> None:
    next(iter(model.hook_dict.values())).register_forward_hook(lambda *_: None)


def leave_backward_hook(model: Any) -> None:
    model.add_hook(RESID, lambda gradient, hook: None, "bwd")


def crash_in_run(model: Any) -> None:
    def crash(activations: torch.Tensor, hook: Any) -> None:
        raise Crash

    model.run_with_hooks(tokens(0), fwd_hooks=[(RESID, crash), (HOOK_Z, shift)])


@pytest.mark.parametrize("backend", ["bridge", "hooked"])
@pytest.mark.parametrize(
    "leave",
    [
        leave_hook,
        leave_permanent_hook,
        leave_hook_on_point,
        leave_torch_hook,
        leave_backward_hook,
        crash_in_run,
    ],
)
def test_a_crash_leaves_no_hook_behind(
    backend: str, leave: Callable[[Any], None], request: pytest.FixtureRequest
) -> None:
    engine, name = request.getfixturevalue(f"{backend}_engine")
    with engine.use(name) as (model, _):
        with torch.no_grad():
            expected = model(tokens(0), return_type="logits")
        # Counted after a run: the bridge installs hooks of its own during the first.
        before = hook_counts(model)
    with pytest.raises(Crash), engine.use(name) as (model, _):
        crash(leave, model)
    with engine.use(name) as (model, _), torch.no_grad():
        assert hook_counts(model) == before
        assert not any(point.has_hooks() for point in model.hook_dict.values())
        assert torch.equal(model(tokens(0), return_type="logits"), expected)


@pytest.fixture(scope="module")
def bridge_engine(folder: Path) -> tuple[Engine, str]:
    return Engine(user_catalog(folder), device="cpu"), str(folder / "tiny-gpt2")


@pytest.fixture(scope="module")
def hooked_engine(folder: Path) -> tuple[Engine, str]:
    from core.engine.loaders import Loaders
    from core.models import load_model

    def load_hooked(location: str, **options: Any) -> Model:
        return load_model(location, backend="hooked", **options)

    engine = Engine(user_catalog(folder), device="cpu", loaders=Loaders(load_model=load_hooked))
    return engine, str(folder / "tiny-gpt2")


def test_hooks_that_the_bridge_installs_for_itself_stay(folder: Path, name: str) -> None:
    """It wires some of them during the first run; without them `hook_mlp_in` stays silent."""
    engine = Engine(user_catalog(folder), device="cpu")
    site = "blocks.1.hook_mlp_in"
    for _ in range(3):
        with engine.use(name) as (model, _), torch.no_grad():
            model.set_use_hook_mlp_in(True)
            assert list(cache_sites(model, tokens(0), [site])) == [site]


def test_sae_saved_again_in_its_folder_is_loaded_again(tmp_path: Path, name: str) -> None:
    saes = tmp_path / "changing"
    put_sae(saes / "a", RESID, d_in=32, d_sae=64, model_name=name)
    engine = Engine(user_catalog(saes), device="cpu")
    with engine.use(name, [("changing", "a")]) as (_, (before,)):
        pass
    put_sae(saes / "a", RESID, d_in=32, d_sae=128, model_name=name)
    with engine.use(name, [("changing", "a")]) as (_, (after,)):
        assert (before.cfg.d_sae, after.cfg.d_sae) == (64, 128)


def test_hooks_of_an_outer_lease_survive_an_inner_one(engine: Engine, name: str) -> None:
    with engine.use(name) as (model, _), torch.no_grad():
        plain = model(tokens(0), return_type="logits")
        with hooks_at(model, [(RESID, shift)]):
            shifted = model(tokens(0), return_type="logits")
            with engine.use(name) as (same, _):
                same.add_hook(HOOK_Z, shift)
            assert torch.equal(model(tokens(0), return_type="logits"), shifted)
        assert torch.equal(model(tokens(0), return_type="logits"), plain)
        assert not torch.equal(plain, shifted)


def test_attached_saes_gradients_and_modes_are_removed(hooked_engine: tuple[Engine, str]) -> None:
    engine, name = hooked_engine
    with engine.use(name, SAES[:1]) as (model, (sae,)):
        model.add_sae(sae)
        model.train()
        model.is_caching = True
        sae.W_dec.requires_grad_(True)
        sae.W_dec.grad = torch.ones_like(sae.W_dec)
    with engine.use(name, SAES[:1]) as (model, (same,)):
        assert same is sae
        assert model.acts_to_saes == {}
        assert not model.training
        assert not model.is_caching
        assert sae.W_dec.grad is None
        assert not sae.W_dec.requires_grad


def test_grad_mode_is_put_back(engine: Engine, name: str) -> None:
    for enabled in (True, False):
        with torch.set_grad_enabled(enabled):
            with engine.use(name):
                torch.set_grad_enabled(not enabled)
            assert torch.is_grad_enabled() is enabled
    with pytest.raises(Crash), engine.use(name):
        crash(torch.set_grad_enabled, False)
    assert torch.is_grad_enabled()


def test_sae_that_does_not_fit_is_refused_with_the_reason(engine: Engine, name: str) -> None:
    lease = engine.use(name, [("mine", "narrow")])
    with pytest.raises(ValueError, match=r"reads 16 numbers .* has 32"):
        lease.__enter__()
    with engine.use(name, SAES) as (_, saes):
        assert [sae.cfg.metadata.hook_name for sae in saes] == [RESID, HOOK_Z]


def test_sizes_are_those_of_the_tensors(engine: Engine, name: str) -> None:
    with engine.use(name, SAES[:1]) as (model, _):
        pass
    sizes = {loaded.kind: loaded.n_bytes for loaded in engine.loaded()}
    assert sizes["sae"] == 4 * (2 * 32 * 64 + 64 + 32)
    assert sizes["model"] == size_in_bytes(model)
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    assert n_parameters * 4 * 0.5 < sizes["model"] < n_parameters * 4 * 4
