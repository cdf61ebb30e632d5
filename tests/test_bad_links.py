"""A hundred hostile texts in every field of every page's link: a value to be used, or words."""

import importlib
import time

import pytest

from core.link import Link

VIEWS = (
    "absorption",
    "autointerp",
    "dossier",
    "latent",
    "meta_sae",
    "patch_scoping",
    "sae_quality",
    "splitting",
    "steering",
    "stitching",
)
WORDS = (
    *("a", "x" * 5000, "é" * 300, "\u202e\u2066abc", "\x00", "\n\n", "ﷺ" * 99, "🙂" * 40),
    *("\t", "\r\n", "None", "undefined", "\ufeff1", "i\u0307" * 50, "\u0000" * 100),
)
NUMBERS = (
    *("-1", "-0", "+1", "1e999", "-1e999", "nan", "inf", "1_0", "٣", "²", "0x10", "1e-400"),
    *("9" * 5000, "0" * 5000, "1." + "0" * 5000 + "1", "1/3", "1,5", "--1", "1-", "1--2", "٣-٩"),
    *("0-99999999999", "99999999999-0", "5-1", "1-2-3", "999999999999999999999", "1e3", " 1 "),
)
LISTS = (
    *("," * 5000, ";;;", "1," * 3000, "[1, 2]", "1:2:3:4", "::::", "a:b", "1.2.3", "~1", "1~2"),
    *("(", ")", "((((", "[" * 3000, "{" * 3000, "[" * 3000 + "]" * 3000, "{}", "null", "true"),
    *('{"a": 1}', '["a"', "'", '"', "\\", "\\x", "%", "%00", "%zz", "&a=1", "?", "#", "a|b", "||"),
)
CODE = (
    *("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "[a](javascript:alert(1))"),
    *("=cmd|' /C calc'!A0", "'; DROP TABLE x; --", "${7*7}", "{{7*7}}", "__import__('os')"),
    *("../../etc/passwd", "/etc/passwd", "~root", "file:///etc/passwd", "http://169.254.169.254"),
    *("hub:a/b", "hub:../..", "hub:", "text:" + "0" * 64, "text:", "docs:", "upload:../x"),
    *("(.|.)*~", "(a+)+$", "(?P<n>", "*", "+", "[a-", "a{99999}", "(" * 500 + ")" * 500),
)
HOSTILE = (*WORDS, *NUMBERS, *LISTS, *CODE)


@pytest.fixture(scope="module")
def links() -> dict[str, Link]:
    modules = [importlib.import_module(f"core.{name}.view") for name in VIEWS]
    modules.append(importlib.import_module("core.gradients.page_view"))
    found = {
        f"{module.__name__}.{name}": it
        for module in modules
        for name, it in vars(module).items()
        if isinstance(it, Link)
    }
    from core.splitting.view import _link

    return found | {"splitting": _link({"a": 64}), "any splitting": _link(None)}


def test_there_are_a_hundred_of_them_and_all_pages() -> None:
    assert len(set(HOSTILE)) >= 100


def test_every_field_of_every_link(links: dict[str, Link]) -> None:
    assert len(links) >= 12
    began, n = time.process_time(), 0
    for page, link in links.items():
        for field in link.fields:
            for text in HOSTILE:
                view, problems = link.parse({field.parameter: text})
                n += 1
                for problem in problems:
                    assert problem.startswith(f"{field.parameter} in this link cannot be used: ")
                    assert problem.endswith("."), (page, field.parameter, text[:40], problem)
                    assert len(problem) < 1000, (page, field.parameter, text[:40])
                # What was read can be written, and is a link like any other.
                again, more = link.parse(link.to_parameters(view))
                assert more == (), (page, field.parameter, text[:40])
                once_more, _ = link.parse(link.to_parameters(again))
                assert once_more == again, (page, field.parameter, text[:40])
    assert n > 5000
    assert time.process_time() - began < 60
