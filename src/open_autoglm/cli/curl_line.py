"""A `curl` line that does what it says when it is pasted into a shell."""

from __future__ import annotations

import json
import shlex

from open_autoglm.secret import Secret


def curl_line(url: str, key: Secret, model: str, question: str) -> str:
    """Return one line, quoted for POSIX shells, that asks a question, for the likeliest answer.

    It shows the key: only for one that was made to be shown.

    Args:
        url: address of the data listener, without the route.
        key: of the server.
        model: who is asked.
        question: any text.
    """
    body = {"model": model, "messages": [{"role": "user", "content": question}], "temperature": 0}
    words = [
        "curl",
        "-sS",
        "-w",
        r"\n",
        f"{url}/v1/chat/completions",
        "-H",
        f"authorization: Bearer {key.reveal()}",
        "-H",
        "content-type: application/json",
        "-d",
        json.dumps(body, ensure_ascii=False),
    ]
    return shlex.join(words)
