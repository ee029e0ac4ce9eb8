"""The figures of the protocol, with the reason for each. Only the first few are for an administrator to choose."""

from __future__ import annotations

from msgspec import Struct


class SwimSettings(Struct, frozen=True):
    """How members watch each other.

    Attributes:
        interval_s: the heartbeat: each member asks one other for a sign of life so often.
        forget_s: a member that died or left is shown for so long.
        probe_share: of the interval, after which a question that is not answered is asked through others.
        helpers: members through whom it is asked then: three let one lost of ten datagrams break one probe of 100.
        suspicion_factor: heartbeats, times the logarithm (10) of the members, that a suspect has at least to contradict
            (4 as in HashiCorp's memberlist).
        suspicion_spread: how much longer it has while nobody else suspects it (6, as in Lifeguard).
        confirmations: others whose suspicion brings it down to the least (3, as in Lifeguard).
        retransmit_factor: times the logarithm (2) of the members, that each passes news on (SWIM's lambda).
        fanout: members that get news in each half of an interval while there are any.
        health_max: how many times as slow a member gets that finds itself unwell (8, as in Lifeguard).
        sync_s: between two exchanges of everything with one other member.
        watchers_max: servers that get load reports directly.
        members_max: that are known at once; further ones are not taken in.
    """

    interval_s: float = 0.25
    forget_s: float = 600.0
    probe_share: float = 0.4
    helpers: int = 3
    suspicion_factor: float = 4.0
    suspicion_spread: float = 6.0
    confirmations: int = 3
    retransmit_factor: float = 2.0
    fanout: int = 3
    health_max: int = 8
    sync_s: float = 15.0
    watchers_max: int = 16
    members_max: int = 1024
