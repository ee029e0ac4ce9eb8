"""The server in its own protocol: frames on one connection, on the port that speaks HTTP too.

MCP_SERVER_URL=http://127.0.0.1:8080 MCP_API_KEY=… python examples/ask_mcp.py
"""

import asyncio
import os

from open_autoglm.client import AsyncClient, AutoGLMError, Client

ADDRESS = os.environ.get("MCP_SERVER_URL", "mcp://127.0.0.1:8080")
MODEL = os.environ.get("MODEL", "glm-nano")


def ask() -> None:
    """One question, one answer; then the same in pieces. The key is MCP_API_KEY."""
    with Client(ADDRESS) as client:
        answer = client.infer(MODEL, "What is 274 + 658?", temperature=0)
        print("answer:", answer.text, f"({answer.usage.total_tokens} tokens)")

        print("stream: ", end="")
        stream = client.stream(MODEL, messages=[{"role": "user", "content": "What is 274 + 658?"}], temperature=0)
        for text in stream:
            print(text, end="", flush=True)
        print(f" ({stream.answer.finish_reason})")


async def ask_side_by_side() -> None:
    """Three questions at once, over two connections."""
    questions = ["What is 12 + 30?", "What is 9 - 4?", "What is 6 * 7?"]
    async with AsyncClient(ADDRESS, connections=2) as client:
        answers = await asyncio.gather(*(client.infer(MODEL, question, timeout_s=30) for question in questions))
    for question, answer in zip(questions, answers, strict=True):
        print(question, answer.text)


def fail() -> None:
    """Errors say what they are, and whether to try again."""
    with Client(ADDRESS) as client:
        try:
            client.infer("no-such-model", "Hello")
        except AutoGLMError as error:
            print("error:", error.code, error.http_status, "| again:", error.retryable)


if __name__ == "__main__":
    ask()
    asyncio.run(ask_side_by_side())
    fail()
