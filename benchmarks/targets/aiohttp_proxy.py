"""The proxy one writes in an afternoon: aiohttp's server in front of aiohttp's client, on uvloop.

It checks one key, sends to the endpoint with fewer requests in flight, and relays the answer as it comes. No limits,
breaker, retries, metrics or logs. Usage: `aiohttp_proxy.py PORT KEY ENDPOINT...`, where an endpoint is `http://host:port`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import aiohttp
import uvloop
from aiohttp import web

HOP_HEADERS = {"connection", "keep-alive", "transfer-encoding", "content-length", "host", "authorization"}


class Proxy:
    """Relays each request to one of the endpoints."""

    def __init__(self, key: str, endpoints: list[str]) -> None:
        self.authorization = f"Bearer {key}"
        self.in_flight = dict.fromkeys(endpoints, 0)
        self.session: aiohttp.ClientSession | None = None

    async def run_client(self, _app: web.Application) -> AsyncIterator[None]:
        """Holds the client session open while the server runs."""
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=600)
        timeout = aiohttp.ClientTimeout(total=600)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as self.session:
            yield

    async def relay(self, request: web.Request) -> web.StreamResponse:
        """One request: 401 without the key, else the endpoint's answer, piece by piece when it is a stream."""
        if request.headers.get("Authorization") != self.authorization:
            return web.json_response({"error": {"message": "wrong key", "code": "invalid_api_key"}}, status=401)
        assert self.session is not None
        endpoint = min(self.in_flight, key=self.in_flight.__getitem__)
        self.in_flight[endpoint] += 1
        try:
            body = await request.read()
            headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_HEADERS}
            async with self.session.post(endpoint + request.path_qs, data=body, headers=headers) as answer:
                kept = {name: value for name, value in answer.headers.items() if name.lower() not in HOP_HEADERS}
                if answer.content_length is not None:
                    return web.Response(body=await answer.read(), status=answer.status, headers=kept)
                return await self.relay_stream(request, answer, kept)
        finally:
            self.in_flight[endpoint] -= 1

    async def relay_stream(
        self, request: web.Request, answer: aiohttp.ClientResponse, headers: dict[str, str]
    ) -> web.StreamResponse:
        """Writes each piece on as soon as it is there."""
        out = web.StreamResponse(status=answer.status, headers=headers)
        await out.prepare(request)
        async for piece in answer.content.iter_any():
            await out.write(piece)
        await out.write_eof()
        return out


async def main() -> None:
    """Serves until it is stopped."""
    port, key, *endpoints = sys.argv[1:]
    proxy = Proxy(key, endpoints)
    app = web.Application(client_max_size=32 << 20)
    app.cleanup_ctx.append(proxy.run_client)
    app.router.add_post("/{path:.*}", proxy.relay)
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=600)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(port), backlog=4096).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
