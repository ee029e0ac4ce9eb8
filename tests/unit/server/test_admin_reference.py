"""The page of the admin API: up to date and complete."""

from open_autoglm.server.admin_openapi import SCHEMAS
from open_autoglm.server.admin_reference import PAGE, page
from open_autoglm.server.admin_routes import ROUTES


def test_the_committed_page_is_up_to_date() -> None:
    advice = "out of date; run `python -m open_autoglm.server.admin_reference`"
    assert PAGE.read_text(encoding="utf-8") == page(), f"{PAGE.name} is {advice}"


def test_routes_parameters_and_fields_are_on_the_page() -> None:
    text = page()
    for route in ROUTES:
        shown = f"`{route.path}`" if 501 in route.statuses else f"| `{route.method} {route.path}` | {route.summary} |"
        assert shown in text
        assert not route.schema or f"\n| {route.schema} |" in text
        for parameter in route.query:
            assert f"| `{parameter.name}` | {parameter.kind} | {parameter.help} |" in text
    for name, schema in SCHEMAS.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
        assert all(f"`{field}`" in row for field in schema.get("properties", {}))
