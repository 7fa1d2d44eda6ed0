"""``calloff map`` killed at random moments and started again at once, until it is done: nothing lost, nothing torn.

    python tests/system/map_kills.py [--kills N] [--items N] [--jobs N] [--batch N] [--seed S]

Every result has to be in the output exactly once; an item may run again only when its ending was not written yet, so at
most `jobs` items a kill (with a batch of one); and no item may run while a worker of the run before still has it. Prints
one line, exit status 1 where any of that is not so. `tests/cli/test_map.py` runs it with a few kills.
"""

import argparse
import collections
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WORK = """\
import fcntl, os, time

def effect(n):
    lock = os.open(os.path.join(os.environ["LOCKS"], str(n)), os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        note(f"{n} overlaps")
    time.sleep(0.004)
    note(str(n))
    time.sleep(0.004)
    os.close(lock)
    return {"n": n, "pad": "x" * 200}

def note(text):
    file = os.open(os.environ["EFFECTS"], os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    os.write(file, f"{text}\\n".encode())
    os.close(file)
"""


def run(folder: Path, options: argparse.Namespace) -> dict[str, object]:
    """Start it, kill it, and so on; what was found."""
    dice = random.Random(options.seed)
    (folder / "work.py").write_text(WORK)
    (folder / "in").write_text("".join(f"{n}\n" for n in range(options.items)))
    (folder / "locks").mkdir()
    out, effects = folder / "out.jsonl", folder / "effects"
    words = [sys.executable, "-m", "calloff", "map", "work.py:effect", "--input", "in", "--output", "out.jsonl"]
    words += ["--jobs", str(options.jobs), "--batch", str(options.batch), "--resume"]
    environment = {**os.environ, "EFFECTS": str(effects), "LOCKS": str(folder / "locks")}
    kills, lifetime = 0, 0.4
    while True:
        before = out.stat().st_size if out.exists() else 0
        process = subprocess.Popen(words, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
        if kills < options.kills:
            try:
                process.wait(dice.uniform(0, lifetime))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
        _, said = process.communicate()
        if process.returncode != -signal.SIGKILL:
            break
        kills += 1
        grown = (out.stat().st_size if out.exists() else 0) - before
        lifetime = max(0.2, min(lifetime * (1.3 if not grown else 0.7), 20.0))  # so that kills fall into all phases
    results: collections.Counter[int] = collections.Counter()
    torn = 0
    for line in out.read_bytes().splitlines():
        try:
            results[json.loads(line)["n"]] += 1
        except ValueError:
            torn += 1
    ran = collections.Counter(effects.read_text().splitlines())
    overlaps = sum(text.endswith("overlaps") for text in ran)
    again = sum(ran.values()) - overlaps - options.items
    return {
        "kills": kills,
        "status": process.returncode,
        "said": said.splitlines()[-1:],
        "missing": options.items - len(results),
        "twice": sum(count > 1 for count in results.values()),
        "torn": torn,
        "overlaps": overlaps,
        "reruns": again,
        "reruns allowed": options.jobs * options.batch * kills,
    }


def main() -> int:
    """The script."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name, usual in (("kills", 100), ("items", 15_000), ("jobs", 3), ("batch", 1), ("seed", int(time.time()))):
        parser.add_argument(f"--{name}", type=int, default=usual)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = run(Path(folder), options)
    print(json.dumps({"seed": options.seed, **found}))
    wrong = any(found[name] for name in ("status", "missing", "twice", "torn", "overlaps"))
    reruns, allowed = found["reruns"], found["reruns allowed"]
    assert isinstance(reruns, int)
    assert isinstance(allowed, int)
    return int(wrong or not 0 <= reruns <= allowed)


if __name__ == "__main__":
    sys.exit(main())
