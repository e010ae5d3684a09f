"""Every link inside the documentation leads somewhere; what matters at night is two clicks away."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import reference
from doc_blocks import ROOT, bare, pages
from markdown.extensions.toc import slugify

FRONT = ROOT / "docs" / "index.md"
#: A target in brackets behind a text, of a link or a picture; none between backticks.
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+?)\s*$", re.MULTILINE)


def links(text: str) -> Iterator[str]:
    """The targets inside the documentation, with their anchors."""
    for found in LINK.finditer(re.sub(r"`[^`\n]*`", "", bare(text))):
        if "://" not in found[1] and not found[1].startswith("mailto:"):
            yield found[1]


@cache
def anchors(page: Path) -> frozenset[str]:
    """The anchors of a page, with what is made of the code."""
    text = reference.rendered(bare(page.read_text("utf-8")))
    return frozenset(slugify(plain(found[1]), "-") for found in HEADING.finditer(text))


def plain(heading: str) -> str:
    """A heading without its marks."""
    return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "")


def broken(page: Path, text: str) -> Iterator[str]:
    """The links of a page that lead nowhere."""
    for link in links(text):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    assert list(broken(page, page.read_text("utf-8"))) == []


@pytest.mark.parametrize(
    "link",
    ["nowhere.md", "index.md#no-such-heading", "#no-such-heading", "../README.md#sixty-second"],
)
def test_a_link_that_leads_nowhere_is_found(link: str) -> None:
    assert list(broken(FRONT, f"[there]({link})")) == [link]


def test_links_elsewhere_and_examples_of_links_are_left_alone() -> None:
    text = (
        "[out](https://example.org/x.md) and `[so](nowhere.md)`\n\n```text\n[so](nowhere.md)\n```\n"
    )
    assert list(broken(FRONT, text)) == []


def within(clicks: int) -> set[Path]:
    """The pages that a reader of the front page can reach, by links in the text alone."""
    reached = {FRONT}
    for _ in range(clicks):
        reached |= {
            (page.parent / link.partition("#")[0]).resolve()
            for page in reached
            if page.suffix == ".md"
            for link in links(page.read_text("utf-8"))
            if link.partition("#")[0]
        }
    return reached


@pytest.mark.parametrize(
    ("question", "page"),
    [
        ("how to roll back now", "phase5/runbooks/rollback-procedure.md"),
        ("why a gate holds", "phase5/explanation/why-a-gate-holds.md"),
        ("how to add a criterion", "phase5/how-to/own-criteria.md"),
    ],
)
def test_the_front_page_is_two_clicks_from_the_answer(question: str, page: str) -> None:
    assert ROOT / "docs" / page in within(2), question


def test_the_page_about_rolling_back_begins_with_the_command() -> None:
    text = (ROOT / "docs" / "phase5" / "runbooks" / "rollback-procedure.md").read_text("utf-8")
    assert text.startswith("# Rolling back\n\n```bash\nphase5 rollback ")


def test_every_page_can_be_reached_by_links_alone() -> None:
    """However far: nobody should have to know the name of a page."""
    docs = {page for page in pages() if page.is_relative_to(ROOT / "docs")}
    unreached = docs - within(8)
    decisions = {page for page in docs if page.parent.name == "adr"}  # listed in the navigation
    assert unreached - decisions == set()
