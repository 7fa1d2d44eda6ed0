"""aioftp 0.28.3: after a command that was called off, each command gets the reply to the one before it.

Seen on 22 November 2026 with Python 3.13.0.

calloff sweep examples/sweep/found/aioftp_reply.py:where --setup client --check in_step --teardown close

Run by itself, it shows the damage without a sweep.
"""

import asyncio

import aioftp


async def client() -> aioftp.Client:
    server = aioftp.Server()
    await server.start("127.0.0.1", 0)
    client = aioftp.Client()
    client._server = server
    await client.connect("127.0.0.1", server.server.sockets[0].getsockname()[1])
    await client.login()
    return client


async def where(client: aioftp.Client) -> None:
    await client.get_current_directory()


async def in_step(client: aioftp.Client) -> None:
    await client.command("TYPE I", "200")


async def close(client: aioftp.Client) -> None:
    client.close()
    await client._server.close()


async def main() -> None:
    session = await client()
    task = asyncio.create_task(where(session))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    print("PWD was cancelled:", task.cancelled())
    for command, expected in (("TYPE I", "200"), ("PWD", "257")):
        try:
            print(command, "->", *await session.command(command, expected))
        except aioftp.StatusCodeError as error:
            print(command, "->", error)
    await close(session)


if __name__ == "__main__":
    asyncio.run(main())
