"""One profile for all property tests: no stopwatch (the machine may be busy), and the same examples each time in CI."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "calloff", deadline=None, derandomize="CI" in os.environ, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("calloff")
