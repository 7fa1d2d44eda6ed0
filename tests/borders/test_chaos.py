"""A little chaos with SQLAlchemy's sessions on PostgreSQL: what the server goes on doing is compared with each verdict."""

import re
import subprocess
import sys
from pathlib import Path

CHAOS = Path(__file__).parents[1] / "system" / "chaos.py"


def test_no_query_and_no_transaction_outlives_its_verdict(postgres):
    argv = [sys.executable, str(CHAOS), "--operations", "90", "--owner-kills", "0", "--database", "--details"]
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout
    assert "survivors 0, hung 0, false verdicts 0" in done.stdout
    assert re.search(r"^task: database ", done.stdout, re.M), done.stdout
