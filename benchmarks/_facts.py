"""What a figure means depends on: the interpreter and how it was built, the machine, the peers' versions."""

import os
import platform
import sys
import sysconfig
from importlib.metadata import PackageNotFoundError, version
from typing import Any

__all__ = ["as_text", "facts"]

_PACKAGES = ("calloff", "aiojobs", "anyio", "async-timeout", "cancellens", "detangle", "loky", "pebble", "quattro")


def facts() -> dict[str, Any]:
    """Plain data, for the JSON."""
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "optimised": "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or ""),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load": [round(load, 2) for load in os.getloadavg()],
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def as_text(known: dict[str, Any]) -> str:
    """The same in three lines."""
    built = "with" if known["optimised"] else "without"
    packages = ", ".join(f"{name} {number}" for name, number in known["packages"].items())
    return (
        f"{known['python']}, built {built} profile-guided optimisation ({sys.executable})\n"
        f"{known['system']}, {known['processor']}, {known['cores']} cores, {known['memory_gib']:g} GiB, "
        f"load {known['load'][0]:g}\n{packages}"
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "from source"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown processor"
