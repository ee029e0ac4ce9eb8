"""Draws an explanation for the terminal: one bar per stage and per attempt, on one time axis.

Invariant: no line is wider than asked for, and nothing in it moves the cursor: the explanation came over the
network, and its names were chosen by others.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from open_autoglm.telemetry.columns import bar, cells, fit, padded, plain, plain_values
from open_autoglm.telemetry.redact import clean

WIDTH_MIN = 40


def draw(record_json: Mapping[str, Any], width: int, *, ascii_only: bool = False) -> str:
    """Return the picture of one explanation (`explain.explain`), lines without a trailing line feed.

    Args:
        record_json: as `GET /admin/v1/requests/{id}/explain` answers; fields that are missing are left out.
        width: columns of the terminal; below `WIDTH_MIN` that is taken instead.
        ascii_only: whether only letters of ASCII are used; others are written as `\\u6a21`.
    """
    width = max(width, WIDTH_MIN)
    record_json = plain_values(dict(record_json)) if ascii_only else record_json
    total_ms = max(_number(record_json.get("total_ms")), 0.001)
    rows = [_stage_row(stage) for stage in _dicts(record_json.get("stages"))]
    attempts = _dicts(record_json.get("attempts"))
    name_cells = min(max([cells(row[0]) for row in rows] + [cells(_attempt_name(a)) for a in attempts] + [5]), 24)
    bar_cells = width - name_cells - 14
    lines = _head(record_json)
    lines += [_bar_line(row, name_cells, bar_cells, total_ms) for row in rows]
    for attempt in attempts:
        row = (_attempt_name(attempt), _number(attempt.get("at_ms")), _number(attempt.get("ms")))
        lines.append(_bar_line(row, name_cells, bar_cells, total_ms))
        lines.append("    " + _attempt_words(attempt))
    left = [_text(c.get("endpoint")) for c in _dicts(record_json.get("candidates")) if c.get("tried") is False]
    if left:
        lines.append("not tried: " + ", ".join(left))
    return "\n".join(plain(fit(line, width)) if ascii_only else fit(line, width) for line in lines)


def _head(record_json: Mapping[str, Any]) -> list[str]:
    model, served_by = _text(record_json.get("model")), _text(record_json.get("served_by"))
    arrow = f" -> {served_by}" if served_by and served_by != model else ""
    outcome = " ".join(part for part in (_text(record_json.get("status")), _text(record_json.get("code"))) if part)
    lines = [
        f"{_text(record_json.get('request_id'))}  {_text(record_json.get('received_at'))}",
        f"{_text(record_json.get('route'))}  {model or '(no model)'}{arrow}  {outcome}"
        f"  {_number(record_json.get('total_ms')):.1f} ms",
    ]
    if version := _text(record_json.get("version")):
        lines.append(f"computed by version {version}")
    if message := _text(record_json.get("message")):
        lines.append(message)
    if rejected := _text(record_json.get("rejected")):
        lines.append(f"turned away: {rejected}")
    queue = record_json.get("queue")
    if isinstance(queue, Mapping):
        lines.append(
            f"stood in line for {_number(queue.get('ms')):.1f} ms, from place {_text(queue.get('position'))} on"
        )
    return lines


def _stage_row(stage: Mapping[str, Any]) -> tuple[str, float, float]:
    return _text(stage.get("name")), _number(stage.get("at_ms")), _number(stage.get("ms"))


def _attempt_name(attempt: Mapping[str, Any]) -> str:
    return f"#{_text(attempt.get('number'))} {_text(attempt.get('endpoint'))}"


def _attempt_words(attempt: Mapping[str, Any]) -> str:
    words = [_text(attempt.get("outcome")) or "running", _text(attempt.get("reason")), _text(attempt.get("detail"))]
    if attempt.get("status"):
        words.insert(1, f"status {_text(attempt.get('status'))}")
    for name, label in (("head_ms", "head"), ("first_ms", "first content")):
        if attempt.get(name) is not None:
            words.append(f"{label} after {_number(attempt.get(name)):.1f} ms")
    return ", ".join(word for word in words if word)


def _bar_line(row: tuple[str, float, float], name_cells: int, bar_cells: int, total_ms: float) -> str:
    name, at_ms, ms = row
    return f"{padded(name, name_cells)}{ms:>9.1f} ms {bar(at_ms / total_ms, ms / total_ms, bar_cells)}"


def _text(value: object) -> str:
    return "" if value is None else clean(str(value))


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0


def _dicts(value: object) -> Sequence[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []
