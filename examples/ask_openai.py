"""The server with OpenAI's Python package, which needs to know nothing but another address and key.

pip install openai
MCP_SERVER_URL=http://127.0.0.1:8080 MCP_API_KEY=… python examples/ask_openai.py
"""

import asyncio
import os

import openai

URL = os.environ.get("MCP_SERVER_URL", "http://127.0.0.1:8080") + "/v1"
KEY = os.environ.get("MCP_API_KEY", "none")
MODEL = os.environ.get("MODEL", "glm-nano")


def ask() -> None:
    """One question, one answer; then the same in pieces."""
    client = openai.OpenAI(base_url=URL, api_key=KEY)
    print("models:", ", ".join(model.id for model in client.models.list()))

    answer = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "What is 274 + 658?"}], temperature=0
    )
    print("answer:", answer.choices[0].message.content)

    stream = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "What is 347 + 486?"}],
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    print("stream: ", end="")
    for chunk in stream:
        if chunk.choices:
            print(chunk.choices[0].delta.content or "", end="", flush=True)
        elif chunk.usage:
            print(f" ({chunk.usage.completion_tokens} tokens)")


async def ask_side_by_side() -> None:
    """Three questions at once."""
    async with openai.AsyncOpenAI(base_url=URL, api_key=KEY) as client:
        questions = ["What is 12 + 30?", "What is 9 - 4?", "What is 6 * 7?"]
        answers = await asyncio.gather(
            *(
                client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": question}])
                for question in questions
            )
        )
    for question, answer in zip(questions, answers, strict=True):
        print(question, answer.choices[0].message.content)


def fail() -> None:
    """Errors are OpenAI's own exceptions; the code and the request id are the server's."""
    client = openai.OpenAI(base_url=URL, api_key=KEY, max_retries=0)
    try:
        client.chat.completions.create(model="no-such-model", messages=[{"role": "user", "content": "Hello"}])
    except openai.NotFoundError as error:
        print("error:", error.code, "| request:", error.request_id)


if __name__ == "__main__":
    ask()
    asyncio.run(ask_side_by_side())
    fail()
