"""Stop a query: the block says how it is asked, and the operation ends at once, with the database's work.

    python examples/on_stop.py

No exception reaches code that waits in C, so a thread that runs a long statement can't be stopped from outside. SQLite,
like every database, has a way to call a statement off; `on_stop` says which.
"""

import sqlite3
import time

import calloff

LONG = """
with recursive numbers(n) as (select 1 union all select n + 1 from numbers where n < 1000000000)
select count(*) from numbers
"""


def count():
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    with calloff.on_stop(connection.interrupt):
        print(connection.execute(LONG).fetchone())


async def main():
    began = time.monotonic()
    op = calloff.start(calloff.thread(count), timeout=0.5)
    outcome = await op.outcome()
    print(f"{type(outcome).__name__} after {time.monotonic() - began:.0f} s, by {outcome.report.rung}")
    print("helped by", *outcome.report.helped)


if __name__ == "__main__":
    calloff.run(main())
