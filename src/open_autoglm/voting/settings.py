"""Settings of cooperation: every tunable of every strategy in one flat struct; a strategy reads those that it needs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from open_autoglm.quantities import Delay, Ratio

AnswerForm = Literal["auto", "number", "choice", "json", "text"]
"""What is compared of an answer, see `voting.canonical`."""

EarlyExit = Literal["none", "certain", "probable"]
"""When a vote ends before all have answered: never, when nothing outstanding can change it, when it is likely."""

Labels = Literal["given", "pseudo"]
"""What reliability is learned from: labels from outside only, or sure decisions of the vote itself as well."""

Weighting = Literal["learned", "equal"]

Scorer = Literal["confidence", "judge"]

Chance = Annotated[float, Meta(gt=0, lt=1)]
"""A probability that is neither 0 nor 1."""


class TeamSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """How several models make one answer.

    Attributes:
        answer_form: what is compared of an answer; `auto` looks at the choices, the schema and the text.
        choices: the answers that are possible, where they are known; else none.
        answer_schema: JSON Schema of the answer; one that does not fit is no vote.
        answer_chars_max: an answer longer than this is no vote: who rambles is wrong more often.
        task_class: reliability is learned apart for each class of tasks; empty is a class as well.

        samples: answers that a strategy of fixed size asks for.
        temperature: for strategies that ask one member several times; the client's own where it is left out.
        adaptive: self-consistency asks on until it is sure, `votes_max` at most, instead of `samples` times.
        wave: questions asked at once, before their answers are looked at.
        votes_max: answers that a strategy of open size asks for at most.
        stop_confidence: chance of being right from which on no more is asked or awaited.

        weighting: whether members' votes weigh by what is known of them, or all the same.
        early_exit: when dynamic voting does not wait for all.
        quorum: members of so many failure domains must have voted, else dynamic voting decides nothing.
        confidence_weighting: a vote weighs by its own confidence, where it has one, instead of its member's record. The
            votes of members with a curve do so anyway.
        curves: by member, points of its calibration: the confidence told and the chance of being right, both rising;
            `autoglm evaluate --tune` finds them. A confidence is what it says where its member has none.
        pessimistic: weigh by a low quantile of what a member's accuracy may be, instead of by its mean.
        pessimistic_quantile: which one.
        reliability_clip: no accuracy is taken to be nearer to 0 or 1 than this.
        prior_accuracy: of a member of which nothing is known.
        prior_strength: of that, in labelled answers.
        forgetting: what the evidence so far is worth after one more label; 0.99 remembers about 100 labels.
        change_detection: whether a member's record loses its weight when its hits change suddenly.
        change_tolerance: drop of accuracy that is no change.
        change_threshold: labelled misses beyond what was expected that are a change.
        change_keep: share of the evidence that is kept then.
        labels: what reliability is learned from.
        pseudo_confidence: what the others decide without a member judges it from this chance of being right on.
        pseudo_weight: of such a label, where a true one has 1.
        correlation_guard: whether members that err together share their weight.
        correlation_limit: correlation of errors from which on members are one cluster.
        correlation_domain: correlation of errors of members of one failure domain, as long as none is measured.
        shadow_margin: mean loss by which the weights must be worse than a plain majority to be put aside.

        lead: votes that the first must be ahead of the second; 0: computed from the three that follow.
        lead_accuracy: of one vote, expected.
        lead_target: chance that all steps are right, wanted.
        lead_steps: votes of this kind in a row that must all be right.
        lead_weighted: a vote counts by its weight, and the first must be ahead by the odds of `stop_confidence`.

        threshold: confidence from which on a cascade takes an answer.
        thresholds: the same for each step in turn; `threshold` for those that have none.
        cascade_steps: members that are asked together, step by step; several vote, together with the steps before.
            Empty: one member after the other, the cheapest first, tools last.
        cascade_samples: answers of each step but the last, whose agreement tells its confidence; 1: none.
        cascade_error_max: share of wrong answers that thresholds are chosen for.
        cascade_error_confidence: certainty that it is kept.
        cascade_abstain: nothing is answered when the last member is not sure either.
        tool_confidence: chance that what a tool computes is right; the tool's record where it is left out.

        scorer: what best-of-n chooses by: the candidates' confidence, as a verifier gives it, or a judge.
        judge: member that scores, compares or chooses; the first one where it is left out.
        judge_own: a judge answers as well, and judges its own answers; else only where it is the only member.
        both_orders: a judge is shown each pair in both orders, for it prefers what stands first.
        frequency_min: share of the answers that an answer must have to be scored.
        aggregator: member that writes the final answer; the one with the best record where it is left out.
        layers: of a mixture; the aggregator comes after them.
        self_mixture: a mixture asks its best member several times instead of all members.
        rounds: of a debate after the first answers.
        peers: others' answers that a member of a debate sees.
        shown_chars_max: characters of others' answers in one prompt.
        hedge_delay_s: a hedged question goes to the next member after this time.
    """

    answer_form: AnswerForm = "auto"
    choices: Annotated[list[str], Meta(max_length=1000)] = []
    answer_schema: dict[str, Any] | None = None
    answer_chars_max: Annotated[int, Meta(ge=1, le=10_000_000)] = 100_000
    task_class: Annotated[str, Meta(max_length=128)] = ""

    samples: Annotated[int, Meta(ge=1, le=64)] = 5
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = 0.7
    adaptive: bool = True
    wave: Annotated[int, Meta(ge=1, le=64)] = 3
    votes_max: Annotated[int, Meta(ge=1, le=1000)] = 40
    stop_confidence: Annotated[float, Meta(gt=0.5, lt=1)] = 0.95

    weighting: Weighting = "learned"
    early_exit: EarlyExit = "certain"
    quorum: Annotated[int, Meta(ge=1, le=64)] = 1
    confidence_weighting: bool = False
    curves: dict[str, Annotated[list[list[Ratio]], Meta(max_length=300)]] = {}
    pessimistic: bool = False
    pessimistic_quantile: Chance = 0.25
    reliability_clip: Annotated[float, Meta(ge=0.001, le=0.25)] = 0.02
    prior_accuracy: Annotated[float, Meta(ge=0.05, le=0.95)] = 2 / 3
    prior_strength: Annotated[float, Meta(ge=0.5, le=1000)] = 3.0
    forgetting: Annotated[float, Meta(ge=0.5, le=1)] = 0.99
    change_detection: bool = True
    change_tolerance: Annotated[float, Meta(ge=0, le=0.5)] = 0.05
    change_threshold: Annotated[float, Meta(ge=1, le=1000)] = 10.0
    change_keep: Ratio = 0.2
    labels: Labels = "given"
    pseudo_confidence: Annotated[float, Meta(ge=0.5, lt=1)] = 0.9
    pseudo_weight: Ratio = 0.3
    correlation_guard: bool = True
    correlation_limit: Ratio = 0.3
    correlation_domain: Ratio = 0.5
    shadow_margin: Ratio = 0.02

    lead: Annotated[int, Meta(ge=0, le=100)] = 3
    lead_accuracy: Annotated[float, Meta(gt=0.5, lt=1)] = 0.8
    lead_target: Chance = 0.95
    lead_steps: Annotated[int, Meta(ge=1, le=10**12)] = 1
    lead_weighted: bool = False

    threshold: Ratio = 0.8
    thresholds: Annotated[list[Ratio], Meta(max_length=64)] = []
    cascade_steps: Annotated[list[list[str]], Meta(max_length=64)] = []
    cascade_samples: Annotated[int, Meta(ge=1, le=16)] = 3
    cascade_error_max: Chance = 0.05
    cascade_error_confidence: Chance = 0.95
    cascade_abstain: bool = False
    tool_confidence: Ratio | None = None

    scorer: Scorer = "confidence"
    judge: str = ""
    judge_own: bool = False
    both_orders: bool = True
    frequency_min: Ratio = 0.2
    aggregator: str = ""
    layers: Annotated[int, Meta(ge=1, le=4)] = 2
    self_mixture: bool = True
    rounds: Annotated[int, Meta(ge=0, le=4)] = 2
    peers: Annotated[int, Meta(ge=1, le=16)] = 2
    shown_chars_max: Annotated[int, Meta(ge=100, le=10_000_000)] = 24_000
    hedge_delay_s: Delay = field(default=1.0, name="hedge_delay")
