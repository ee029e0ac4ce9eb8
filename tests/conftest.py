"""What holds for every test."""

from __future__ import annotations

import resource

from hypothesis import HealthCheck, settings

# How long an example takes says something of the machine, not of the code: no test is judged by a clock.
settings.register_profile("no-clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no-clock")

# Both ends of 2,000 connections are in one process here, and many systems begin with 1,024 descriptors.
_DESCRIPTORS = 8192
_soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
if _soft != resource.RLIM_INFINITY and _soft < _DESCRIPTORS:
    _most = _DESCRIPTORS if _hard == resource.RLIM_INFINITY else min(_hard, _DESCRIPTORS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (_most, _hard))
