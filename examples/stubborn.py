"""A call that swallows every cancel, for ever. calloff gets control back all the same, and says where it was.

    python examples/stubborn.py
    calloff run --timeout 2 --grace 1 examples/stubborn.py:main     (exit status 137)

An `except` like this one hides in many retry loops. After the limit the call is asked to stop, asked again with longer
and longer pauses, and when the grace is over it is ended by force; its `finally` still runs.
"""

import asyncio

import calloff


async def main():
    print("Working, and not to be disturbed.")
    try:
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                print("Asked to stop, going on.")
    finally:
        print("Its finally block ran.")


async def call_it_off():
    op = calloff.start(main(), timeout=2, grace=1)
    try:
        await op
    except calloff.TimedOut as error:
        print(error)
        print(f"Ended by {op.report.rung} after {op.report.refusals} refusals.")


if __name__ == "__main__":
    calloff.run(call_it_off())
