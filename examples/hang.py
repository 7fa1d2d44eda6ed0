"""A plain asyncio program that hangs: a server takes its request and never answers. Nothing in it knows of calloff.

    calloff run --timeout 3 --every 1 examples/hang.py     (exit status 124)

It runs as `python examples/hang.py` would; after three seconds it is called off, and the line is told where it hung.
"""

import asyncio
import socket


async def fetch(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    try:
        return await reader.readline()
    finally:
        writer.close()
        print("The connection was closed.")


async def main():
    with socket.create_server(("127.0.0.1", 0)) as never_answers:
        print(await fetch(never_answers.getsockname()[1]))


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        print("Stopped.")
