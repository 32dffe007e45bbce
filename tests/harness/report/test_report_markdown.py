"""report.md as a reviewer on GitHub sees it."""

from __future__ import annotations

from dataclasses import replace

from harness.report import markdown


def test_a_page_holds_all_in_a_table_and_the_bad_ones_in_full(report):
    """The broken one first; the one that held has a row and no more."""
    told = replace(report, scenarios=report.scenarios[:2])
    assert markdown.page(told) == PAGE


def test_what_comes_from_outside_cannot_break_out(report, tmp_path):
    """Names stand on one line with pipes escaped, texts in a fence longer than any in them."""
    page = markdown.write(report, tmp_path).read_text()
    table = [line for line in page.splitlines() if line.startswith("| ")]
    assert [line.replace("\\|", "").count("|") for line in table] == [9] * 5
    assert "```` <script>alert(1)</script> a\\|b ``` @all \ufffd\ufffd & 'x' \"y\" ````" in page
    fenced = page[page.index("\n````\n") :]
    assert fenced.index("\n    second line\n````\n") > fenced.index("``` @all")


def test_an_empty_report_says_so(empty):
    """Nothing ran: unknown, and no table."""
    page = markdown.page(empty)
    assert page.startswith("## ? stormproof: unknown\n\nScenarios: none ran. Fleet `sim`, ")
    assert "|" not in page


def test_a_page_fits_a_comment_however_much_went_wrong(report):
    """A thousand broken scenarios with long reasons: both parts are cut, and the page says so."""
    broken = report.scenarios[1]
    bad = replace(broken.guarantees[1], why=tuple("x" * 100 for _ in range(50)))
    told = replace(report, scenarios=(replace(broken, guarantees=(bad,)),) * 1000)
    page = markdown.page(told)
    assert len(page) < 65_536
    assert "And 900 more: 900 broken." in page
    assert "    and 38 more lines, in report.html" in page
    assert page.rstrip().endswith("more did not fit here; report.html tells all of them.")


PAGE = """\
## ✗ stormproof: broken

Scenarios: 1 broken, 1 held. Fleet `local`, proxy `toxiproxy 2.12.0`, seed 8123, \
2026-01-31 12:00:00 UTC, 31.5 s.

| verdict | scenario | guarantees | calls | ok | attempts per call | p50 | p99 |
| --- | --- | --- | --- | --- | --- | --- | --- |
| **✗ broken** | `stormy` | 1 broken, 1 held | 4 | 50 % | 1.750 | 500 ms | never |
| ✓ held | `calm` | 1 held | 10 | 100 % | 1.000 | 5 ms | 10 ms |

### ✗ `stormy`: broken

```
Fast(p99=0.050)  broken: never (bound: 0.050 s)
    worst: call 3
```

Again:

```sh
replay 8
```
"""
