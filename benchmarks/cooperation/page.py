"""Writes `docs/cooperation.md` from the figures; every figure of the page is from them, and so is every verdict."""

from __future__ import annotations

from typing import Any, Final

from benchmarks.cooperation.table import NETWORK_MS, PARAMETERS_M

_GAINS: Final = {
    "votes": "several answers to every question",
    "escalation": "other answers only where the first is unsure",
    "tools": "exact computation only where the first is unsure, or always",
}


def page(result: dict[str, Any]) -> str:
    """The whole page."""
    parts = [_HEAD.format(prices=_prices(), networks=_networks(), share="20 %")]
    parts.append(_short(result))
    parts += [_section(found) for found in result["sets"]]
    parts += [_served(result), _recomputed(result), _planning(result), _scores(result["scores"]), _TAIL]
    return "\n".join(parts)


_HEAD: Final = """# Cooperation, measured

<!-- Written by `python -m benchmarks.cooperation.run`; do not edit. -->

What several models are worth together, by the models that ship: they are small, they really err, and thousands of
questions with known answers take minutes. The figures are of these models and these questions. They show that the
machinery does what it says and what it costs; they do not promise the same gain for other models, and less of it is to
be expected where models err alike. Two large models that are both wrong say the same in most cases; these seldom do.

## How to repeat it

```sh
export PYTHONPATH=src OMP_NUM_THREADS=1
python -m benchmarks.cooperation.answers          # asks the models; answers and confidences come out the same again
python -m benchmarks.cooperation.answers --check  # asks a part of it and compares
python -m benchmarks.cooperation.scores           # asks the calibration splits, for the last table
python -m benchmarks.cooperation.run              # plays every strategy on the answers, and writes this page
```

The section on what was served also needs a server that runs, and its answers:

```sh
python -m mcp_server serve --config benchmarks/cooperation/server.json --port 18431
T=majority-3,majority-3-sure,sure-3,majority-5,sure-5,cascade
python -m mcp_server evaluate training/heldout/arithmetic-3.jsonl --server http://127.0.0.1:18431 --concurrency 1 \\
  --models "glm-nano,glm-calc-m,glm-calc-s,glm-calc-c,glm-calc-d,$T" --teams "$T" --price glm-nano=0/0.467 \\
  --price glm-calc-m=0/0.366 --price glm-calc-s=0/0.188 --price glm-calc-c=0/0.188 --price glm-calc-d=0/0.188 \\
  --json > benchmarks/results/cooperation/served.json
python -m benchmarks.cooperation.tasks "subtractions and new names" > 1620.jsonl
python -m benchmarks.cooperation.tasks "subtractions, products and new names" > 2077.jsonl
for n in 2077 1620; do
  python -m mcp_server evaluate $n.jsonl --server http://127.0.0.1:18431 --concurrency 1 --models glm-nano,recomputed \\
    --teams recomputed --price glm-nano=0/0.467 --log answers.jsonl \\
    --json > benchmarks/results/cooperation/served-recomputed-$n.json
done
python -m benchmarks.cooperation.plans > plans.jsonl
python -m mcp_server evaluate plans.jsonl --server http://127.0.0.1:18431 --concurrency 1 --models glm-nano,planned \\
  --teams planned --json > benchmarks/results/cooperation/served-plans.json
```

Your own models and questions: [`autoglm evaluate`](cli.md#autoglm-evaluate).

- **Questions** are the frozen held-out sets in `training/heldout`; no model was trained on their operands, names or,
  where it is said, wordings. Each task set below is a rule that looks at no item; which rules there are was decided
  with the single models' accuracy by operation at hand, so that there is something to gain.
- **Calibration** is apart: curves from token probability to chance, members' records, errors in common and every
  threshold come from `arithmetic-3-calibration`, `intent`, `tool` and `plan`, of which no item is counted. A threshold
  is the quantile at {share} of the confidence on that split, for every team; it was not tuned.
- **Strategies** are those of the server, the same code, played on the answers that the models gave. An answer of the
  calculator is right or wrong like any other: the model writes the expression, the tool computes it.
- **Right** is the exact answer: the number, the label, the JSON. In brackets the 95 % interval (Wilson).
- **Recomputed**: the calculator computes the operation and the operands that a model has written down in its thinking.
  The model is asked nothing more. It is [a tool as a member](how-to/virtual-models.md#a-tool-as-a-step) of a cascade,
  but one that [knows how these models write](../benchmarks/cooperation/recompute.py): for other models another one has
  to be written, and it is worth something only where a model shows what it computes with.
- **Cost** is money for a thousand questions. The calculator is free, an expression that a model writes for it is not.
  Price list, for a million tokens written, by the models' size: {prices}.
- **Calls** are questions to members, for each question of the client; what was cancelled counts.
- **Utilisation** of a member is the time that its calls took (`here`; of a cancelled one until then), divided by the
  time that the questions took one after the other, times its slots: the calls of it that were under way at once at
  most. What recomputes takes microseconds, which count as none.
- **Latency** is virtual time, every member on a core of its own. `here`: with the times that the answers took on the
  machine that made the table, alone on one core, server and HTTP not included. `network`: behind an imagined network,
  log-normal (sigma 0.35), five times as long once in a hundred, with these medians: {networks}.
- **Way** is how much of the distance from the best member to the *ceiling* (someone is right) a team covers.
- **Latencies** were taken once, on a virtual machine with two cores and nothing else beside it, as were those that were
  served; `answers --again greedy` takes them anew.
"""


def _short(result: dict[str, Any]) -> str:
    """The best of each kind, set by set."""
    lines = [
        "## In short",
        "",
        "| questions | best single | best vote | best escalation | best tool |",
        "|---|---|---|---|---|",
    ]
    for found in result["sets"]:
        cells = []
        for gain in ("single", *_GAINS):
            rows = [row for row in found["rows"] if row["gain"] == gain]
            best = max(rows, key=lambda row: row["accuracy"], default=None)
            cells.append("-" if best is None else f"{best['accuracy'] * 100:.1f} %, {best['name']}")
        lines.append(f"| {found['name']} ({found['items']:,}) | " + " | ".join(cells) + " |")
    direct, planned = (result["planning"][way]["accuracy"] * 100 for way in ("direct", "planned"))
    lines += [
        "",
        f"Planning, apart: of questions of several sums {direct:.1f} % right at once, {planned:.1f} % by plan.",
        "",
        "The gains differ in kind. Votes pay where members differ and none is much better than the rest. One model",
        "asked in several ways gains nothing that can be told from chance. What pays most is to know when one is",
        "unsure and to have something exact to turn to. Nothing here helps with intents: one model alone knows them,",
        "and asking it again changes nothing; who wants more there needs another model, or a person who looks.",
        "",
        "A plain majority is worse than its best member where that is much better than the others and they seldom",
        "agree: three different answers are a tie, which cost decides. With log probabilities (`logprobs: true`)",
        "confidence does.",
    ]
    return "\n".join(lines) + "\n"


def _section(found: dict[str, Any]) -> str:
    singles = [row for row in found["rows"] if row["gain"] == "single"]
    best = max(singles, key=lambda row: row["accuracy"])
    lines = [
        f"## {found['name'][0].upper()}{found['name'][1:]}",
        "",
        f"{found['items']:,} questions: {found['rule']}. Best single model: {best['name']}, {_share(best)}. "
        f"Some single model is right: {found['ceiling'] * 100:.1f} %. {_alone(found['calculator'])}",
        "",
        "| who | right | way | cost | calls | here p50 / p95 ms | network p50 / p95 ms | ECE | ranking |",
        "|---|---|---|---|---|---|---|---|---|",
        *(_row(row) for row in singles),
    ]
    by_name = {row["name"]: row for row in singles}
    for gain, words in _GAINS.items():
        rows = [row for row in found["rows"] if row["gain"] == gain]
        if rows:
            lines.append(f"| *{gain}: {words}* | | | | | | | | |")
            lines += [_row(row, _best_member(row, by_name)) for row in rows]
    lines += ["", *_findings(found, best, by_name), *_shares(found), *_pairs(found)]
    return "\n".join(lines) + "\n"


def _alone(told: dict[str, int]) -> str:
    read, right = told["read"] / told["sums"] * 100, told["right"] / max(1, told["read"]) * 100
    return (
        f"The calculator alone, without a model, reads {read:.1f} % of the sums and has {right:.1f} % of those right."
    )


def _row(row: dict[str, Any], best: dict[str, Any] | None = None) -> str:
    way = "-"
    if best is not None:
        covered = _covered(row, best)
        way = "-" if covered is None else f"{covered * 100:.0f} %"
    cells = (
        row["name"],
        _share(row),
        way,
        f"{row['cost'] / 1000:.4f}",
        f"{row['calls']:.2f}",
        f"{row['here_p50_ms']:.1f} / {row['here_p95_ms']:.1f}",
        f"{row['network_p50_ms']:.0f} / {row['network_p95_ms']:.0f}",
        f"{row['calibration_error']:.3f}",
        "-" if row["ranking"] is None else f"{row['ranking']:.3f}",
    )
    return "| " + " | ".join(cells) + " |"


def _share(row: dict[str, Any]) -> str:
    low, high = row["interval"]
    return f"{row['accuracy'] * 100:.1f} % ({low * 100:.1f}–{high * 100:.1f})"


def _best_member(row: dict[str, Any], singles: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    """The best single model that takes part in a team, by itself."""
    names = {name.partition("/")[0] for name in row["members"]}
    rows = [single for name, single in singles.items() if name in names]
    return max(rows, key=lambda single: single["accuracy"], default=None)


def _covered(row: dict[str, Any], best: dict[str, Any]) -> float | None:
    room = row["ceiling"] - best["accuracy"]
    return (row["accuracy"] - best["accuracy"]) / room if room > 0.0005 else None


def _findings(found: dict[str, Any], best: dict[str, Any], singles: dict[str, dict[str, Any]]) -> list[str]:
    """A sentence for each team: what it gains over its best member, or that it does not pay."""
    lines = []
    slowest = max(single["network_p50_ms"] for single in singles.values())
    for row in found["rows"]:
        member = _best_member(row, singles) if row["gain"] != "single" else None
        if member is None:
            continue
        gained = (row["accuracy"] - member["accuracy"]) * 100
        times = row["cost"] / member["cost"]
        said = f"{gained:+.1f} points over {member['name']} alone at {times:.1f} times its cost"
        if row["answered"] < 0.99:
            answered, right = row["answered"] * 100, row["right_of_answered"] * 100
            said = f"answers {answered:.1f} % of the questions, of which {right:.1f} % are right, and leaves the rest"
        elif row["accuracy"] <= member["accuracy"]:
            said = f"**does not pay**: {said}"
        elif row["interval"][0] <= member["interval"][1]:
            said += "; the intervals overlap"
        if row["network_p50_ms"] > slowest:
            said += f"; its median is slower than the slowest single model's ({slowest:.0f} ms)"
        lines.append(f"- {row['name']}: {said}.")
    return [*lines, ""]


def _shares(found: dict[str, Any]) -> list[str]:
    """Who was asked how often and was busy how long, and accuracy by part of the set."""
    lines = ["| who | share of its calls | utilisation |", "|---|---|---|"]
    for row in found["rows"]:
        if row["gain"] != "single":
            cells = (_percents(row[key]) for key in ("use", "utilisation"))
            lines.append(f"| {row['name']} | " + " | ".join(cells) + " |")
    if len(found["rows"][0]["by_set"]) > 1:
        sets = list(found["rows"][0]["by_set"])
        lines += ["", "| who | " + " | ".join(f"`{name}`" for name in sets) + " |", "|---" * (len(sets) + 1) + "|"]
        for row in found["rows"]:
            cells = " | ".join(f"{row['by_set'][name] * 100:.1f} %" for name in sets)
            lines.append(f"| {row['name']} | {cells} |")
    return [*lines, ""]


def _percents(shares: dict[str, float]) -> str:
    return ", ".join(f"{name} {share * 100:.0f} %" for name, share in shares.items())


def _pairs(found: dict[str, Any]) -> list[str]:
    if not found["pairs"]:
        return []
    lines = ["| errors of | and | correlation (phi) | both wrong: the same answer |", "|---|---|---|---|"]
    for pair in found["pairs"]:
        same = "-" if pair["same_wrong"] is None else f"{pair['same_wrong'] * 100:.0f} %"
        lines.append(f"| {pair['first']} | {pair['second']} | {pair['phi']:.2f} | {same} |")
    return [*lines, ""]


_PLAYED: Final = {
    "majority-3": "majority of c, d, m",
    "majority-3-sure": "majority of c, d, m, ties by confidence",
    "sure-3": "c, d, m by confidence",
    "majority-5": "majority of five",
    "sure-5": "five by confidence",
    "cascade": "glm-calc-s, the least sure to a vote of all",
}
"""Virtual models of `server.json`, and the teams of the table that they are."""
_RECOMPUTED: Final = "sums: the least sure recomputed"
"""The team that the virtual model `recomputed` is, in the sets of more than sums."""


def _served(result: dict[str, Any]) -> str:
    """What a server gave for the same questions, beside what was played."""
    played = {row["name"]: row for row in result["sets"][0]["rows"]}
    lines = [
        "## Served",
        "",
        "The same sums, asked over HTTP one after the other, of a server with all models in its process: the",
        "latencies are those of two shared cores for everything, so a vote of five waits for five models' work. The",
        "server had no calibration curves and no records, only the token probabilities as they are.",
        "",
        "| who | right | played | cost | calls | p50 / p95 / p99 ms | ECE | ranking |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in result["served"][0]:
        other = played[_PLAYED.get(row["model"], row["model"])]
        error, order = row["calibration_error"], row["ranking"]
        cells = (
            row["model"],
            f"{row['accuracy'] * 100:.1f} % ({row['low'] * 100:.1f}–{row['high'] * 100:.1f})",
            f"{other['accuracy'] * 100:.1f} %",
            f"{row['cost'] / row['tasks'] * 1000:.4f}",
            f"{row['calls']:.2f}",
            _times(row),
            "-" if error is None else f"{error:.3f}",
            "-" if order is None else f"{order:.3f}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _recomputed(result: dict[str, Any]) -> str:
    """What a server gave with a tool as a step of a cascade, beside what was played."""
    lines = [
        "### Recomputed by a tool",
        "",
        "Two whole task sets, asked of the same server: `recomputed` is a cascade of glm-nano and a tool. The played",
        "team knows which questions are sums, and leaves the others alone; the served one is told nothing: every",
        "answer below one threshold goes on to the tool (the same quantile of the calibration split, as a plain token",
        "probability), and the tool says nothing to what is no sum, which makes more calls. Questions with tools on",
        "offer are for one model alone, so the `fallback` answers them.",
        "",
        "| questions | who | right | played | calls | played | p50 / p95 / p99 ms | asked |",
        "|---|---|---|---|---|---|---|---|",
    ]
    sets = {found["items"]: found for found in result["sets"]}
    for rows in result["recomputed"]:
        found = sets[rows[0]["tasks"]]
        played = {row["name"]: row for row in found["rows"]}
        for row in rows:
            other = played[_RECOMPUTED if row["team"] else row["model"]]
            cells = (
                f"{found['name']} ({row['tasks']:,})",
                row["model"],
                f"{row['right']:,}, {row['accuracy'] * 100:.1f} % ({row['low'] * 100:.1f}–{row['high'] * 100:.1f})",
                f"{other['right']:,}, {other['accuracy'] * 100:.1f} %",
                f"{row['calls']:.2f}",
                f"{other['calls']:.2f}",
                _times(row),
                _percents(row["members"]) or "-",
            )
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _times(row: dict[str, Any]) -> str:
    return f"{row['p50_ms']:.0f} / {row['p95_ms']:.0f} / {row['p99_ms']:.0f}"


def _planning(result: dict[str, Any]) -> str:
    told = result["planning"]
    single, planned = result["served"][1]
    return f"""## Planning

{told["questions"]} questions of the plan sets are several sums that lead to one result. Asked as they stand, glm-nano
has {_share(told["direct"])} right: it was trained on one operation at a time. When it writes a plan and the calculator
does the parts in order, {_share(told["planned"])} are right.

Served, with `strategy: plan_execute` and the calculator as a tool: {planned["right"]} of {planned["tasks"]}, where
glm-nano alone has {single["right"]}; {planned["p50_ms"]:.0f} ms against {single["p50_ms"]:.0f} ms in the median.
"""


_SCORES: Final = ("mean", "least", "product", "answer")


def _scores(rows: list[dict[str, Any]]) -> str:
    lines = [
        "## What tells errors best",
        "",
        "Chance that a right answer scores higher than a wrong one (1: all errors are last; 0.5: no better than lots),",
        "on the calibration splits: by the mean of the token probabilities, by the least of them, by their product,",
        "thinking included, and by the product over the answer alone, without the thinking.",
        "",
        "| model | split | mean | least | product | answer alone |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = ("-" if row[score] is None else f"{row[score]:.3f}" for score in _SCORES)
        lines.append(f"| {row['model']} | `{row['split']}` | " + " | ".join(cells) + " |")
    sums = [row for row in rows if row["split"].startswith("arithmetic")]
    shown = ", ".join(f"{score} {sum(row[score] for row in sums) / len(sums):.3f}" for score in _SCORES)
    lines += [
        "",
        f"Over the sums: {shown}. Mean, least and product are as good as each other;",
        "the strategies above use the mean, as the server does. What matters is that the thinking counts: once it has",
        "thought, such a model copies the result out, right or wrong, and is sure of it.",
    ]
    return "\n".join(lines) + "\n"


_TAIL: Final = """## What it does not say

- Mixtures, debates, judges and universal self-consistency need members that read other answers. These models read one
  question and cannot; the strategies are tested with scripted members, and no gain is claimed for them.
- A vote is as good as its members are different. Here the seeds and trainings differ, the family does not.
- Samples of one model at a temperature are worse one by one than its first choice; their vote has to make up for it.
"""


def _prices() -> str:
    return ", ".join(f"{name} {value:g}" for name, value in PARAMETERS_M.items())


def _networks() -> str:
    return ", ".join(f"{value} ms for {name}" for name, value in NETWORK_MS.items())
