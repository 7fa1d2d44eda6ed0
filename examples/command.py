"""Programs with limits: their output, their end, and that nothing of them is left.

    python examples/command.py
    calloff run --timeout 1 -- sleep 60     (exit status 124)

A stop sends SIGTERM to the process group of the program. After the grace every process that descends from it is killed,
those that left its group and session, too.
"""

import calloff

STUBBORN = """
trap 'echo "not now" >&2' TERM
setsid sleep 60 &
while true; do sleep 1; done
"""


async def main():
    done = await calloff.call(calloff.command("echo", "hello"), timeout=10)
    print("echo said:", done.text.strip())

    try:
        await calloff.call(calloff.command("ls", "/no/such/folder", env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"}))
    except calloff.CommandFailed as error:
        print("it failed:", error)

    op = calloff.start(calloff.command("sleep", "60"), timeout=0.5)
    print("sleep:", (await op.outcome()).report.rung)

    work = calloff.command(STUBBORN, shell=True, stderr="pipe")
    op = calloff.start(work, name="stubborn", timeout=0.5, grace=1)
    async for line in work.stderr:
        print("stubborn says:", line.decode().strip())
    print("stubborn:", (await op.outcome()).report.rung)


if __name__ == "__main__":
    calloff.run(main())
