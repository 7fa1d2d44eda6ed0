"""The time that is left crosses to the server: it gives up when nobody waits for its answer any more.

    python examples/http_deadline.py

The clients of httpx, aiohttp, requests and gRPC do this by themselves when they are told to (see `calloff.http`); here it
is done by hand, with the standard library alone.
"""

import http.server
import threading
import urllib.request

import calloff
import calloff.http


class Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        seconds = calloff.http.incoming(self.headers)
        print("the server has", "no limit" if seconds is None else f"{round(seconds, -1):.0f} s")
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *args):
        pass


def ask(url):
    request = urllib.request.Request(url, headers=calloff.http.headers())
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read().decode()


async def main():
    server = http.server.HTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/"
    await calloff.call(calloff.thread(ask, url), timeout=30)
    async with calloff.timeout(10):
        await calloff.call(calloff.thread(ask, url))
        await calloff.start(calloff.thread(ask, url), detached=True)


if __name__ == "__main__":
    calloff.run(main())
