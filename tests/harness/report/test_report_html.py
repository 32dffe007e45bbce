"""report.html: whole, silent towards the network, and deaf to what is smuggled into it."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

from harness.report import html

VOID = {"meta", "link", "br"}


class Tags(HTMLParser):
    """Every tag and attribute of a page, and whether each tag that was opened was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        self.attributes.extend(attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.names.append(tag)
        self.attributes.extend(attrs)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parsed(page: str) -> Tags:
    tags = Tags()
    tags.feed(page)
    tags.close()
    return tags


def test_the_page_is_well_formed_and_every_link_leads_somewhere(report, histories):
    """Each tag is closed; a link goes to a place on the page or to a file of the report."""
    tags = parsed(html.page(report, histories))
    assert tags.open == []
    places = {value for name, value in tags.attributes if name == "id"}
    files = {"report.json", "data:,"} | {scenario.history for scenario in report.scenarios}
    links = [value for name, value in tags.attributes if name == "href"]
    assert {"#stormy", "#calm", "report.json", "history/stormy.jsonl.gz"} <= set(links)
    assert all(link in files or link.removeprefix("#") in places for link in links)


def test_the_page_asks_nothing_of_the_network(report, histories):
    """No address, no script, no image, no import; and a policy that forbids what would slip through."""
    page = html.page(report, histories)
    tags = parsed(page)
    assert not re.search(r"https?:|//[a-z]|url\(|@import", page)
    assert not {"script", "img", "iframe", "object", "embed"} & set(tags.names)
    assert not [name for name, _ in tags.attributes if name == "src" or name.startswith("on")]
    assert "default-src 'none'" in page


def test_what_comes_from_outside_stays_text(report, histories, tmp_path):
    """A test's name, an error text or a server's name with markup in it is shown and does nothing."""
    page = html.write(report, tmp_path, histories).read_text(encoding="utf-8")
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 8
    assert "\x00" not in page
    assert "\x1b" not in page


def test_each_verdict_is_told_by_a_sign_and_a_word(report):
    """Colour is never the only sign."""
    page = html.page(report)
    for sign, word in (("✓", "held"), ("✗", "broken"), ("?", "unknown")):
        assert f'<span class="verdict {word}"><b aria-hidden="true">{sign}</b> {word}</span>' in page


def test_a_reader_finds_the_figures_the_reasons_and_the_way_back(report, histories):
    """What was measured and why, when the fault acted, which calls to look at, how to run it again."""
    page = html.page(report, histories)
    for text in (
        "Fast(p99=0.050)",
        "worst: call 3",
        "5.003 s to 15.011 s",
        "replay 8",
        "call 3, due at 8.000 s, never ended, unknown (DEADLINE_EXCEEDED); tried on a (DEADLINE_EXCEEDED)",
        "2026-01-31 12:00:00 UTC",
    ):
        assert text in page


def test_an_empty_report_is_a_page_too(empty):
    """It says that nothing ran, and that this is unknown."""
    page = html.page(empty)
    assert "no scenario ran" in page
    assert parsed(page).open == []


def test_a_large_fleet_shows_its_busiest_and_its_idlest(report):
    """Ten thousand bars would be no picture."""
    shares = {f"server-{n}": n for n in range(10_000)}
    told = replace(report, scenarios=(replace(report.scenarios[0], shares=shares),))
    page = html.page(told)
    assert page.count("<i style=") == 16 + 1
    assert "server-9999" in page
    assert "server-0<" in page
    assert "9,984 between them are left out" in page
