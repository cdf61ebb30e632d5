"""Explanations and addresses of Neuronpedia, against a bucket on loopback with its faults."""

import gzip
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import requests

from core.descriptions.sources import fetch_published
from core.jobs.progress import JobCancelled, Progress
from core.neuronpedia import (
    NeuronpediaError,
    NoExplanations,
    Patience,
    dashboard_url,
    fetch_embeddings,
    fetch_explanations,
)
from core.neuronpedia.addresses import Source
from core.neuronpedia.listing import list_files
from core.store import Store
from tests.loopback_neuronpedia import (
    EXPORT,
    LISTING,
    Fault,
    LoopbackNeuronpedia,
    loopback_neuronpedia,
)

pytestmark = pytest.mark.slow

SAE = "gpt2-small/8-res_fs768-jb"
QUICK = Patience(connect_seconds=1, read_seconds=0.3, answer_seconds=1.0, backoff_seconds=0.01)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackNeuronpedia]:
    with loopback_neuronpedia() as server:
        monkeypatch.setenv("NEURONPEDIA_URL", server.url)
        monkeypatch.setenv("NEURONPEDIA_DATASETS_URL", server.url + "/")
        yield server


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "store")
    yield opened
    opened.close()


def row(index: object, description: object, **more: object) -> dict[str, object]:
    return {
        "id": "x",
        "modelId": "gpt2-small",
        "layer": "8-res_fs768-jb",
        "index": index,
        "description": description,
        "typeName": "oai_token-act-pair",
        "explanationModelName": "gpt-4o-mini",
        **more,
    }


def fetch(store: Store | None = None, **options: object):
    return fetch_explanations(SAE, store=store, patience=QUICK, **options)  # type: ignore[arg-type]


def file_requests(site: LoopbackNeuronpedia) -> list[str]:
    return [path for path in site.take_requests() if path.startswith("/v1/")]


def fill(site: LoopbackNeuronpedia, n_batches: int, *, per_batch: int = 4) -> list[str]:
    return [
        site.put_batch(
            SAE,
            number,
            [row(str(number * per_batch + i), f" latent {number}.{i}") for i in range(per_batch)],
        )
        for number in range(n_batches)
    ]


# What is read


def test_rows_are_unique_sorted_and_stripped(site: LoopbackNeuronpedia) -> None:
    site.put_batch(SAE, 0, [row("1", " one"), row("10", "ten "), row("2", " two\n lines")])
    site.put_batch(SAE, 2, [row("2", "a second explanation of 2")])
    site.put_batch(SAE, 10, [row("1", "a second explanation of 1"), row(11, "eleven")])

    frame = fetch()

    assert frame["index"].tolist() == [1, 2, 10, 11]
    assert frame["index"].dtype == np.int64
    assert frame["description"].tolist() == ["one", "two lines", "ten", "eleven"]
    assert set(frame["explanation_model"]) == {"gpt-4o-mini"}
    assert set(frame["type"]) == {"oai_token-act-pair"}
    assert frame.attrs["notes"] == [
        "2 further descriptions of latents that have one were left out."
    ]


def test_batches_are_read_in_the_order_of_their_numbers(site: LoopbackNeuronpedia) -> None:
    # As text, batch-10 sorts before batch-2; "the first" is the one in batch 2.
    site.put_batch(SAE, 10, [row("5", "later")])
    site.put_batch(SAE, 2, [row("5", "earlier")])
    assert fetch()["description"].tolist() == ["earlier"]


def test_every_page_of_the_listing_is_asked_for(site: LoopbackNeuronpedia) -> None:
    site.page_size = 7
    fill(site, 40, per_batch=1)
    assert fetch()["index"].tolist() == list(range(40))
    assert site.take_requests().count(LISTING) == 6


def test_more_than_a_thousand_keys(site: LoopbackNeuronpedia) -> None:
    site.objects = {f"v1/{SAE}/explanations/batch-{n}.jsonl.gz": b"{}" for n in range(2300)}
    files = list_files(
        Source.parse(SAE),
        base=site.url,
        session=requests.Session(),
        patience=QUICK,
        check=lambda: None,
    )
    assert [file.number for file in files] == list(range(2300))
    assert site.take_requests() == [LISTING] * 3


def test_neighbouring_folders_and_other_files_are_left_alone(site: LoopbackNeuronpedia) -> None:
    site.put_batch(SAE, 0, [row("0", "right")])
    site.put_batch(SAE, 0, [row("1", "wrong")], folder="explanations-gpt-4o-mini")
    site.put_batch(SAE, 0, [row("2", "wrong")], folder="explanations/old")
    site.put_batch(SAE + "0", 0, [row("3", "wrong")])
    site.objects[f"v1/{SAE}/explanations/index.html"] = b"<html>"
    assert fetch()["description"].tolist() == ["right"]
    assert len(file_requests(site)) == 1


def test_malformed_rows_are_counted_and_left_out(site: LoopbackNeuronpedia) -> None:
    rows: list[object] = [
        row("0", "good"),
        b'{"index": "1", "descr',
        b"[1, 2]",
        b"\xff\xfe",
        b"[" * 100_000,
        row("-1", "negative"),
        row("1e3", "not a number"),
        row("9" * 5000, "too large"),
        row(True, "a truth value"),
        row("3", 5),
        row("4", "  "),
        row("5", None),
        row("6", "half a \ud800 pair"),
    ]
    site.put_batch(SAE, 0, rows)
    frame = fetch()
    assert frame["index"].tolist() == [0, 6]
    assert frame["description"].tolist() == ["good", "half a ? pair"]
    assert frame.attrs["notes"] == [
        "9 malformed rows were left out.",
        "2 rows without a description were left out.",
    ]


def test_batches_that_are_not_compressed_are_read_too(site: LoopbackNeuronpedia) -> None:
    line = json.dumps(row("3", "plain")).encode()
    site.objects[f"v1/{SAE}/explanations/batch-0.jsonl.gz"] = line
    assert fetch()["description"].tolist() == ["plain"]


def test_both_forms_of_embeddings(site: LoopbackNeuronpedia, store: Store) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((5, 256)).astype(np.float32)
    site.put_batch(
        SAE,
        0,
        [
            row("3", "a list", embedding=vectors[0].tolist()),
            row("1", "a text", embedding=json.dumps(vectors[1].tolist())),
            row("2", "none", embedding=None),
            row("4", "short", embedding=[1.0, 2.0]),
            row("5", "no numbers", embedding=["a"] * 256),
            row("6", "infinite", embedding="[Infinity" + ", 0" * 255 + "]"),
            row("7", "nonsense", embedding="[["),
            row("3", "a second of 3", embedding=vectors[2].tolist()),
        ],
    )
    embeddings = fetch_embeddings(SAE, store=store, patience=QUICK)
    assert embeddings.index.tolist() == [1, 3]
    assert embeddings.vectors.dtype == np.float16
    np.testing.assert_allclose(embeddings.vectors, vectors[[1, 0]], atol=2e-3)
    # The descriptions came with them: no file is fetched twice.
    site.take_requests()
    assert len(fetch(store)) == 7
    assert file_requests(site) == []


def test_no_embeddings_at_all(site: LoopbackNeuronpedia) -> None:
    fill(site, 1)
    embeddings = fetch_embeddings(SAE, patience=QUICK)
    assert embeddings.index.tolist() == []
    assert embeddings.vectors.shape[0] == 0


# What is kept


def test_a_fresh_result_needs_no_request(site: LoopbackNeuronpedia, store: Store) -> None:
    fill(site, 3)
    now = [1e9]
    first = fetch(store, clock=lambda: now[0])
    site.take_requests()
    now[0] += 23 * 3600
    second = fetch(store, clock=lambda: now[0])
    assert site.take_requests() == []
    assert second.equals(first)
    assert second.attrs["notes"] == []


def test_after_a_day_only_what_changed_is_fetched(site: LoopbackNeuronpedia, store: Store) -> None:
    paths = fill(site, 3)
    now = [1e9]
    fetch(store, clock=lambda: now[0])
    site.take_requests()
    now[0] += 25 * 3600
    fetch(store, clock=lambda: now[0])
    assert site.take_requests() == [LISTING]
    now[0] += 25 * 3600
    site.put_batch(SAE, 1, [row("4", "a new description")])
    frame = fetch(store, clock=lambda: now[0])
    assert site.take_requests() == [LISTING, paths[1]]
    assert frame.set_index("index")["description"][4] == "a new description"


def test_a_stale_result_is_used_and_said_when_nobody_answers(
    site: LoopbackNeuronpedia, store: Store
) -> None:
    fill(site, 2)
    now = [1e9]
    fetch(store, clock=lambda: now[0])
    now[0] += 50 * 3600
    site.faults[LISTING] = [Fault(status=503)] * 4
    frame = fetch(store, clock=lambda: now[0])
    assert len(frame) == 8
    (note,) = frame.attrs["notes"]
    assert "50 hours ago" in note
    assert "(503)" in note
    # The note belongs to that answer only.
    assert fetch(store, clock=lambda: now[0]).attrs["notes"] == []


def test_absence_is_remembered_for_an_hour(site: LoopbackNeuronpedia, store: Store) -> None:
    now = [1e9]
    for _ in range(2):
        with pytest.raises(NoExplanations, match="no descriptions for gpt2-small/8-res_fs768-jb"):
            fetch(store, clock=lambda: now[0])
    assert site.take_requests() == [LISTING, EXPORT]
    fill(site, 1)
    with pytest.raises(NoExplanations):
        fetch(store, clock=lambda: now[0])
    # Unless somebody wants to know it anew.
    now[0] += 1
    assert len(fetch(store, clock=lambda: now[0], fresh_seconds=0)) == 4


def test_absence_is_forgotten_after_an_hour(site: LoopbackNeuronpedia, store: Store) -> None:
    now = [1e9]
    with pytest.raises(NoExplanations):
        fetch(store, clock=lambda: now[0])
    fill(site, 1)
    now[0] += 3700
    assert len(fetch(store, clock=lambda: now[0])) == 4


def test_an_interrupted_download_goes_on_where_it_stopped(
    site: LoopbackNeuronpedia, store: Store
) -> None:
    paths = fill(site, 5)
    site.faults[paths[3]] = [Fault(cut_after=20)] * 4
    with pytest.raises(NeuronpediaError, match=r"127\.0\.0\.1:\d+ (cut|sent)"):
        fetch(store)
    site.take_requests()
    time.sleep(0.2)  # files that were on their way may still come
    assert len(fetch(store)) == 20
    again = file_requests(site)
    assert paths[3] in again
    assert len(again) < 5
    assert len(again) == len(set(again))


def test_cancelling_keeps_what_is_complete(site: LoopbackNeuronpedia, store: Store) -> None:
    paths = fill(site, 12)
    site.faults[paths[9]] = [Fault(hang=True)] * 4
    progress = Progress()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            fetch_explanations(SAE, store=store, progress=progress, patience=Patience())
        except JobCancelled as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    deadline = time.monotonic() + 10
    while "11 of 12" not in progress.view().message and time.monotonic() < deadline:
        time.sleep(0.01)
    progress.cancel()
    thread.join(30)
    assert failures
    site.faults.clear()
    site.take_requests()
    assert len(fetch(store)) == 48
    assert file_requests(site) == [paths[9]]


def test_cancelling_does_not_wait_for_a_listing_that_hangs(site: LoopbackNeuronpedia) -> None:
    site.faults[LISTING] = [Fault(hang=True)]
    progress = Progress()
    threading.Timer(0.1, progress.cancel).start()
    with pytest.raises(JobCancelled):
        fetch_explanations(SAE, progress=progress, patience=Patience(read_seconds=60))
    assert not site.hung_up


def test_progress_counts_the_bytes_of_all_files(site: LoopbackNeuronpedia, store: Store) -> None:
    fill(site, 6)
    progress = Progress()
    fetch(store, progress=progress)
    view = progress.view()
    assert view.unit == "bytes"
    assert view.done == view.total == sum(len(body) for body in site.objects.values())
    assert view.message == "Neuronpedia's descriptions: 6 of 6 files"


def test_many_who_ask_at_once_download_once(site: LoopbackNeuronpedia, store: Store) -> None:
    fill(site, 4)
    threads = [threading.Thread(target=fetch, args=(store,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(file_requests(site)) == 4


# What goes wrong


@pytest.mark.parametrize(
    "fault",
    [Fault(status=500), Fault(status=429, retry_after="0"), Fault(cut_after=10), Fault(hang=True)],
    ids=["500", "429", "cut", "hang"],
)
@pytest.mark.parametrize("where", ["listing", "file"])
def test_a_passing_fault_costs_a_retry(site: LoopbackNeuronpedia, fault: Fault, where: str) -> None:
    (path,) = fill(site, 1)
    site.faults[LISTING if where == "listing" else path] = [fault, fault]
    assert len(fetch()) == 4
    assert len(site.take_requests()) == 4


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (Fault(status=500), "answered with an error (500)"),
        (Fault(hang=True), "does not answer in time"),
        (Fault(trickle_seconds=0.1), "sends too slowly"),
        (Fault(cut_after=5), "sent 5 bytes of"),
        (Fault(status=403), "status 403"),
        (Fault(status=429, retry_after="3600"), "wants 3600 s of pause"),
    ],
)
@pytest.mark.parametrize("where", ["listing", "file"])
def test_a_lasting_fault_costs_one_sentence(
    site: LoopbackNeuronpedia, fault: Fault, sentence: str, where: str
) -> None:
    (path,) = fill(site, 1)
    site.faults[LISTING if where == "listing" else path] = [fault] * 2
    patience = Patience(
        connect_seconds=1, read_seconds=0.3, answer_seconds=0.3, backoff_seconds=0.01, attempts=2
    )
    with pytest.raises(NeuronpediaError) as caught:
        fetch_explanations(SAE, patience=patience)
    assert sentence in str(caught.value) or "cut the connection" in str(caught.value)
    assert not isinstance(caught.value, NoExplanations)
    assert "\n" not in str(caught.value)


def test_retry_after_is_honoured(site: LoopbackNeuronpedia) -> None:
    (path,) = fill(site, 1)
    site.faults[path] = [Fault(status=429, retry_after="1")]
    started = time.monotonic()
    fetch()
    assert time.monotonic() - started >= 1.0


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEURONPEDIA_DATASETS_URL", "http://127.0.0.1:9")
    with pytest.raises(NeuronpediaError, match="cannot be reached; check the network"):
        fetch()


ATTACKS = {
    "entities": b"""<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "aaaaaaaaaa">
        <!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><ListBucketResult>&b;</ListBucketResult>""",
    "external": b"""<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a SYSTEM "file:///etc/passwd">]>
        <ListBucketResult><Contents><Key>&a;</Key></Contents></ListBucketResult>""",
    "html": b"<html><body>Sign in to the hotel's network<br></body></html>",
    "other xml": b"<Error><Code>AccessDenied</Code></Error>",
    "cut": b"<ListBucketResult><Contents><Key>v1/",
    "nothing": b"",
    "no token": b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
    "same page for ever": b"<ListBucketResult><IsTruncated>true</IsTruncated>"
    b"<NextContinuationToken>x</NextContinuationToken></ListBucketResult>",
    "no size": b"<ListBucketResult><Contents><Key>v1/gpt2-small/8-res_fs768-jb/explanations/"
    b"batch-0.jsonl.gz</Key></Contents></ListBucketResult>",
    "odd encoding": b'<?xml version="1.0" encoding="klingon"?><ListBucketResult/>',
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_is_no_listing_is_refused(site: LoopbackNeuronpedia, attack: str) -> None:
    site.listing = ATTACKS[attack]
    with pytest.raises(NeuronpediaError, match="not the listing of a bucket"):
        fetch()


def test_keys_outside_the_folder_are_not_fetched(site: LoopbackNeuronpedia) -> None:
    site.listing = (
        b"<ListBucketResult><Contents><Key>v1/other/explanations/batch-0.jsonl.gz</Key>"
        b"<Size>10</Size></Contents></ListBucketResult>"
    )
    with pytest.raises(NoExplanations):
        fetch()
    assert file_requests(site) == []


def test_a_damaged_file_costs_only_its_own_rows(site: LoopbackNeuronpedia) -> None:
    paths = fill(site, 3)
    key = paths[1].removeprefix("/")
    site.objects[key] = site.objects[key][:-12]
    frame = fetch()
    assert frame["index"].tolist() == [0, 1, 2, 3, 8, 9, 10, 11]
    assert "1 of 3 files" in frame.attrs["notes"][0]
    assert "batch-1.jsonl.gz" in frame.attrs["notes"][0]


def test_only_damaged_files(site: LoopbackNeuronpedia) -> None:
    (path,) = fill(site, 1)
    site.objects[path.removeprefix("/")] = b"\x1f\x8b\x08garbage"
    with pytest.raises(NeuronpediaError, match="None of the 1 files"):
        fetch()


def test_a_file_that_expands_without_end_is_not_read(
    site: LoopbackNeuronpedia, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.neuronpedia.rows.MAX_EXPANDED_BYTES", 1 << 20)
    monkeypatch.setattr("core.neuronpedia.rows.MAX_LINE_BYTES", 1 << 16)
    paths = fill(site, 3)
    site.objects[paths[0].removeprefix("/")] = gzip.compress(b"\n" * (2 << 20))
    site.objects[paths[1].removeprefix("/")] = gzip.compress(b"x" * (1 << 17))
    frame = fetch()
    assert frame["index"].tolist() == [8, 9, 10, 11]
    assert "2 of 3 files" in frame.attrs["notes"][0]


# The old endpoint


def test_an_instance_with_the_old_endpoint_is_asked_when_the_bucket_has_nothing(
    site: LoopbackNeuronpedia, store: Store
) -> None:
    site.old_export = [row("4691", " LaTeX formatting elements"), row("12", "first")]
    for _ in range(2):
        frame = fetch(store)
        assert frame["index"].tolist() == [12, 4691]
        assert frame["description"].tolist() == ["first", "LaTeX formatting elements"]
    assert site.take_requests() == [LISTING, EXPORT]


def test_the_removed_endpoint_means_that_there_is_nothing(site: LoopbackNeuronpedia) -> None:
    with pytest.raises(NoExplanations):
        fetch()
    assert "modelId=gpt2-small&saeId=8-res_fs768-jb" in site.requests[-1]


def test_the_old_endpoint_answers_nonsense(site: LoopbackNeuronpedia) -> None:
    site.old_export = b"<html>"
    with pytest.raises(NeuronpediaError, match="with something else") as caught:
        fetch()
    assert not isinstance(caught.value, NoExplanations)


# Addresses


@pytest.mark.parametrize(
    "name", ["gpt2-small", "a/b/c", "../x", "a/..", "a/b?c", "", "a/b c", None]
)
def test_malformed_ids(name: str) -> None:
    with pytest.raises(NeuronpediaError, match="model/source"):
        fetch_explanations(name)
    with pytest.raises(NeuronpediaError, match="model/source"):
        dashboard_url(name, 0)


def test_dashboard_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEURONPEDIA_URL", raising=False)
    page = "https://www.neuronpedia.org/gpt2-small/7-res-jb/9"
    assert dashboard_url("gpt2-small/7-res-jb", 9) == page
    assert dashboard_url("gpt2-small/7-res-jb", 9, embed=True) == f"{page}?embed=true"
    assert dashboard_url(
        "gpt2-small/7-res-jb", 9, embed=True, plots=False, test_field=False, default_text="a & b"
    ) == (f"{page}?embed=true&embedplots=false&embedtestfield=false&defaulttesttext=a%20%26%20b")
    with pytest.raises(ValueError, match="latent -1"):
        dashboard_url("gpt2-small/7-res-jb", -1)
    monkeypatch.setenv("NEURONPEDIA_URL", "http://127.0.0.1:1/")
    assert dashboard_url("a/b", 0) == "http://127.0.0.1:1/a/b/0"
    monkeypatch.setenv("NEURONPEDIA_URL", "javascript:alert(1)//")
    with pytest.raises(NeuronpediaError, match="NEURONPEDIA_URL is 'javascript"):
        dashboard_url("a/b", 0)


def test_what_one_sae_of_a_family_lacks_does_not_keep_the_others_from_coming(
    site: LoopbackNeuronpedia, store: Store
) -> None:
    fill(site, 1)
    names = {"has": SAE, "lacks": "gpt2-small/8-res_fs1536-jb", "unknown": None}
    widths = dict.fromkeys(names, 6)
    found = fetch_published(store, names, widths, Progress())
    assert list(found) == ["has"]
    assert list(found["has"].texts[:4]) == [f"latent 0.{i}" for i in range(4)]
    with pytest.raises(NoExplanations, match="res_fs1536"):
        fetch_published(store, {"lacks": names["lacks"]}, widths, Progress())
