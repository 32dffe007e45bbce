"""report.json, literally."""

from __future__ import annotations

import json as stdlib
from dataclasses import replace

import pytest

from harness.report import json


def test_report_json_holds_every_field_in_the_documented_order(report, tmp_path):
    """One scenario written out: who reads the file relies on these names."""
    told = replace(report, stormproof="0.1.0", scenarios=report.scenarios[1:2])
    path = json.write(told, tmp_path)
    assert path == tmp_path / "report.json"
    assert path.read_text() == STORMY


@pytest.mark.parametrize("whole", ["report", "empty"])
def test_report_json_is_json(whole, request, tmp_path):
    """Also with control characters in its texts, and with nothing in it; its top level is design.md's."""
    read = stdlib.loads(json.write(request.getfixturevalue(whole), tmp_path).read_bytes())
    assert list(read) == [
        "schema", "stormproof", "fleet", "proxy", "seed", "started", "seconds", "verdict", "scenarios",
    ]  # fmt: skip
    assert read["schema"] == 1


STORMY = """\
{
  "schema": 1,
  "stormproof": "0.1.0",
  "fleet": "local",
  "proxy": "toxiproxy 2.12.0",
  "seed": 8123,
  "started": "2026-01-31T12:00:00+00:00",
  "seconds": 31.5,
  "verdict": "broken",
  "scenarios": [
    {
      "name": "stormy",
      "doc": "What it is.",
      "verdict": "broken",
      "seed": 8,
      "started": "2026-01-31T12:00:00+00:00",
      "seconds": 20.0,
      "servers": 2,
      "calls": 4,
      "attempts": 7,
      "messages": 0,
      "outcomes": {
        "ok": 2,
        "fail": 1,
        "info": 1
      },
      "codes": {
        "OK": 2,
        "DEADLINE_EXCEEDED": 1,
        "UNAVAILABLE": 1
      },
      "latency": {
        "p50": 0.5,
        "p90": null,
        "p99": null,
        "p999": null,
        "max": null
      },
      "shares": {
        "a": 5,
        "b": 2
      },
      "faults": [
        {
          "name": "Down()",
          "on": "a",
          "from": 5.003,
          "until": 15.011,
          "planned_from": 5.0,
          "planned_until": 15.0,
          "touched": 6,
          "problem": ""
        }
      ],
      "guarantees": [
        {
          "name": "Available(0.9)",
          "verdict": "held",
          "measured": "10 of 10",
          "bound": "0.9 or more",
          "why": []
        },
        {
          "name": "Fast(p99=0.050)",
          "verdict": "broken",
          "measured": "never",
          "bound": "0.050 s",
          "why": [
            "worst: call 3"
          ]
        }
      ],
      "problems": [],
      "spoiled": [],
      "again": "replay 8",
      "history": "history/stormy.jsonl.gz"
    }
  ]
}
"""
