"""One clear sentence, with the remedy, for what goes wrong between here and the hub."""

import errno
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from core.weight_files import checksum_problem, safetensors_problem

if TYPE_CHECKING:
    from core.hub.plan import DownloadPlan

_REFETCH = "download it again with force (`download(plan, force=True)`)"


def explain_hub_error(error: BaseException, *, plan: "DownloadPlan | None" = None) -> str:
    """What went wrong while downloading or loading, and what to do about it.

    Args:
        error: what was raised by `core.hub`, `core.saes` or `core.models`.
        plan: the plan of what was loaded; its cached files are then checked, so that a damaged
            one can be named.
    """
    sentence = hub_explanation(error, plan=plan)
    if sentence is not None:
        return sentence
    if isinstance(error, ValueError):
        # Those of the explorer say themselves what to do.
        return str(error)
    return f"{type(error).__name__}: {str(error).strip() or 'no details were given'}"


def hub_explanation(error: BaseException, *, plan: "DownloadPlan | None" = None) -> str | None:
    """As `explain_hub_error`, but None for an error that is not the hub's doing."""
    chain = list(_chain(error))
    for explain in (_explain_refusal, _explain_connection, _explain_file):
        for link in chain:
            sentence = explain(link, plan)
            if sentence is not None:
                return sentence
    return None


class HubErrorsInWords:
    """A `with` block in which errors of the hub become ValueErrors that say what to do."""

    def __enter__(self) -> "HubErrorsInWords":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not isinstance(error, Exception) or isinstance(error, ValueError):
            return
        sentence = hub_explanation(error)
        if sentence is not None:
            raise ValueError(sentence) from error


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """`error` and what caused it, outermost first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _explain_refusal(error: BaseException, _: "DownloadPlan | None") -> str | None:
    """Answers of the hub."""
    from huggingface_hub import constants, errors

    home = constants.ENDPOINT
    if isinstance(error, errors.GatedRepoError):
        page = f"{home}/{error.repo_id}" if error.repo_id else "its page on the hub"
        if error.response.status_code == 403:
            return (
                f"{error.repo_id} is gated and your account has no access yet: accept its "
                f"licence at {page} with the account that HF_TOKEN belongs to, and make sure "
                "that the token may read gated repositories."
            )
        return (
            f"{error.repo_id} is gated: sign in at {page}, accept its licence, create a token at "
            f"{home}/settings/tokens, set HF_TOKEN to it and start the explorer again."
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        name = error.repo_id or "The repository"
        return (
            f"{name} does not exist on {home}, or is private; check the name, or set HF_TOKEN "
            "to a token of an account that may read it."
        )
    if isinstance(error, errors.RemoteEntryNotFoundError | errors.RevisionNotFoundError):
        return (
            f"The hub has no file {error.response.url.path}: the publisher has moved or removed "
            "it since this version of sae_lens was released; choose another SAE or update."
        )
    if isinstance(error, errors.HfHubHTTPError):
        return _explain_status(error.response.status_code, home)
    return None


def _explain_status(status: int, home: str) -> str:
    if status in (401, 403):
        return (
            f"{home} refused the token ({status}); set HF_TOKEN to a valid one from "
            f"{home}/settings/tokens, or unset it for public repositories."
        )
    if status == 404:
        return f"{home} does not have what was asked for (404); check the name."
    if status == 429:
        return f"{home} limits how often you may ask (429); wait a few minutes, or set HF_TOKEN."
    return f"{home} answered with an error ({status}); try again later."


def _explain_connection(error: BaseException, _: "DownloadPlan | None") -> str | None:
    """No answer, or half of one."""
    from huggingface_hub import constants, errors

    home = constants.ENDPOINT
    offline = isinstance(error, errors.OfflineModeIsEnabled) or (
        isinstance(error, errors.LocalEntryNotFoundError) and constants.is_offline_mode()
    )
    if offline:
        return (
            f"This is not in the cache ({constants.HF_HUB_CACHE}) and HF_HUB_OFFLINE forbids "
            "downloading; unset HF_HUB_OFFLINE, or choose something that is already here."
        )
    if "Consistency check failed" in str(error) or type(error).__name__ in (
        "RemoteProtocolError",
        "ReadError",
    ):
        return (
            f"The connection to {home} was cut in the middle of a file; "
            "start the download again (files that are complete are kept)."
        )
    if type(error).__name__ in ("ConnectError", "ConnectTimeout", "ReadTimeout", "ProxyError"):
        return (
            f"{home} cannot be reached; check the network, proxies and HF_ENDPOINT, or choose "
            "something that is already in the cache."
        )
    if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ is None:
        return f"{home} cannot be reached and this is not in the cache; check the network."
    return None


def _explain_file(error: BaseException, plan: "DownloadPlan | None") -> str | None:
    """Files that arrived, or could not be written."""
    from huggingface_hub import constants

    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"The disk of {constants.HF_HUB_CACHE} is full; make room, or set HF_HOME to a "
            "folder on a larger disk."
        )
    text = str(error)
    if type(error).__name__ == "UnpicklingError" or "allow_pickle=False" in text:
        return (
            f"{_weight_file(plan)} was refused, and nothing in it was run: it is a pickle that "
            "asks for more than tensors, which could execute any code. Do not load it; choose an "
            "SAE in safetensors format, or ask its publisher for one."
        )
    corrupted = (
        type(error).__name__ in ("SafetensorError", "BadZipFile") or "PytorchStreamReader" in text
    )
    if not corrupted:
        return None
    problem = _damaged_file(plan)
    return f"{problem or f'A weight file is corrupted ({text}).'} To repair it, {_REFETCH}."


def _weight_file(plan: "DownloadPlan | None") -> str:
    names = [file.filename for file in plan.files] if plan else []
    pickles = [name for name in names if name.endswith((".pt", ".pth", ".bin", ".npz"))]
    return pickles[0] if pickles else "A weight file"


def _damaged_file(plan: "DownloadPlan | None") -> str | None:
    """What is wrong with the first damaged file of `plan` in the cache."""
    from core.hub.plan import cached_file

    for file in plan.files if plan else ():
        # The plan may have been made before its files were downloaded.
        path = file.path or cached_file(file.repo_id, file.filename)
        if not isinstance(path, Path) or not path.exists():
            continue
        is_safetensors = path.suffix == ".safetensors"
        problem = safetensors_problem(path) if is_safetensors else None
        problem = problem or checksum_problem(path)
        if problem is not None:
            return problem
    return None
