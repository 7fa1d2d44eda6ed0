"""``python -m benchmarks``: every benchmark, one table."""

import argparse
import sys
from importlib import import_module
from pathlib import Path
from time import perf_counter

from benchmarks._facts import as_text, facts
from benchmarks._rows import Row, as_json, as_table

#: in this order; each is a module with a function `run`
NAMES = (
    "scope",
    "starting",
    "cancelling",
    "crowding",
    "refusing",
    "lateness",
    "walking",
    "memory",
    "importing",
    "processes",
    "mapping",
    "fanning",
    "bad_items",
    "killing",
    "commands",
    "clusters",
    "control",
    "serving",
    "clients",
    "sweeping",
    "finding",
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures, with every sample, here as well")
    parser.add_argument("--only", nargs="+", choices=NAMES, metavar="NAME", default=NAMES, help=", ".join(NAMES))
    parser.add_argument("--quick", action="store_true", help="fewer rounds and smaller counts, for a first impression")
    options = parser.parse_args()
    known = facts()
    rows: list[Row] = []
    for name in NAMES:
        if name in options.only:
            print(f"{name} ...", end=" ", file=sys.stderr, flush=True)
            began = perf_counter()
            rows += import_module(f"benchmarks.{name}").run(options.quick)
            print(f"{perf_counter() - began:.0f} s", file=sys.stderr)
    print(as_text(known), as_table(rows), sep="\n\n")
    missed = sum(row.verdict == "missed" for row in rows)
    print(f"\n{sum(row.verdict == 'met' for row in rows)} goals met, {missed} missed")
    if options.json is not None:
        options.json.write_text(as_json(rows, known) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
