"""The page of metrics: up to date, complete, and its queries name metrics that exist."""

import re

from open_autoglm.telemetry.metric_families import FAMILIES
from open_autoglm.telemetry.metric_reference import PAGE, PLANNED, page


def test_the_committed_page_is_up_to_date() -> None:
    advice = "out of date; run `python -m open_autoglm.telemetry.metric_reference`"
    assert PAGE.read_text(encoding="utf-8") == page(), f"{PAGE.name} is {advice}"


def test_each_metric_has_one_row_or_is_named_as_planned() -> None:
    text = page()
    rows = re.findall(r"^\| `([a-z_]+)` \| (?:counter|gauge|histogram) \|", text, re.MULTILINE)
    assert sorted(rows) == sorted(set(FAMILIES) - set(PLANNED))
    assert set(PLANNED) < set(FAMILIES)
    assert all(f"`{name}` ({part})" in text for name, part in PLANNED.items())


def test_queries_use_metrics_and_labels_that_exist() -> None:
    queries = page().partition("## Questions")[2]
    named = set(re.findall(r"\bmcp_[a-z_]+", queries))
    assert len(named) >= 6
    for name in named:
        family = name if name in FAMILIES else name.rsplit("_", 1)[0]
        assert family in FAMILIES, name
        assert name == family or FAMILIES[family].kind == "histogram", name
    known = {label for family in FAMILIES.values() for label in family.labels} | {"le"}
    grouped = {label for group in re.findall(r"by \(([a-z, ]+)\)", queries) for label in group.split(", ")}
    selected = set(re.findall(r"[{,]([a-z]+)[=!]", queries))
    assert grouped | selected <= known
