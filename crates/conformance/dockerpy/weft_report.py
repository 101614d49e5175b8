"""A pytest plugin that writes one JSON line for each finished test: {"id", "outcome", "seconds", "why"}.

A line is written as soon as the test ends, so that a crashed or timed-out run still tells what it saw.
"""
import json
import os

# Read at once: some tests empty the environment.
_REPORT = os.environ["WEFT_REPORT"]
_seen = {}


def pytest_runtest_logreport(report):
    test = _seen.setdefault(report.nodeid, {"id": report.nodeid, "outcome": "passed", "seconds": 0.0, "why": ""})
    test["seconds"] += report.duration
    if report.failed:
        test["outcome"] = "failed"
        crash = getattr(report.longrepr, "reprcrash", None)
        test["why"] = (crash.message if crash else str(report.longrepr))[:400]
    elif report.skipped and test["outcome"] == "passed":
        test["outcome"] = "skipped"
        test["why"] = str(report.longrepr)[-300:]
    if report.when == "teardown":
        with open(_REPORT, "a", encoding="utf-8") as out:
            out.write(json.dumps(_seen.pop(report.nodeid)) + "\n")
