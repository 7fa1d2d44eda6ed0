"""Programs with limits: their output, their failure, and that nothing of them is left.

    python examples/command.py
    calloff run --timeout 1 -- sleep 60     (exit status 124)

A stop sends SIGTERM to the process group of the program. After the grace every process that descends from it is killed,
those that left its group and session, too.
"""

import os

import calloff

STUBBORN = """
trap '' TERM
setsid sleep 60 &
echo $!
wait
"""


async def main():
    done = await calloff.call(calloff.command("echo", "hello"), timeout=10)
    print("echo said:", done.text.strip())

    try:
        await calloff.call(calloff.command("echo to stderr >&2; exit 3", shell=True))
    except calloff.CommandFailed as error:
        print("CommandFailed:", error.status, error.stderr.strip())

    op = calloff.start(calloff.command("sleep", "60"), timeout=0.5)
    print("sleep:", (await op.outcome()).report.rung)

    work = calloff.command(STUBBORN, shell=True, stdout="pipe")
    op = calloff.start(work, name="stubborn", grace=0.5)
    daemon = int(await anext(work.stdout))
    op.reschedule(0.5)
    print("stubborn:", (await op.outcome()).report.rung)
    print("Its daemon is", "still there" if os.path.exists(f"/proc/{daemon}") else "gone")


if __name__ == "__main__":
    calloff.run(main())
