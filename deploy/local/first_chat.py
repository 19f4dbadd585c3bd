"""The first chat through a fresh stack, and the lines to paste for the next one."""

import json
import shlex
from collections.abc import AsyncIterator

import httpx

from deploy.local.accounts import Credentials
from deploy.local.stack import StackError

_QUESTION = "Say hello to RealMultiLLM in one sentence."


async def stream_chat(client: httpx.AsyncClient, token: str, provider: str) -> AsyncIterator[str]:
    """Asks once and yields the pieces of the answer as they arrive. Raises StackError."""
    request = client.build_request(
        "POST",
        f"/api/chat/{provider}/stream",
        json={"messages": [{"role": "user", "content": _QUESTION}]},
        headers={"authorization": f"Bearer {token}"},
    )
    answer = await client.send(request, stream=True)
    try:
        if not answer.is_success:
            body = (await answer.aread()).decode(errors="replace")
            raise StackError(f"The first chat failed: {answer.status_code} {body.strip()}")
        async for line in answer.aiter_lines():
            if line.startswith("data:"):
                event = json.loads(line.removeprefix("data:"))
                if "error" in event:
                    raise StackError(f"The first chat failed: {event['error'].get('message')}")
                if event.get("content"):
                    yield event["content"]
    finally:
        await answer.aclose()


def lines_to_paste(credentials: Credentials, provider: str, *, has_key: bool) -> list[tuple[str, str]]:
    """Returns shell lines with a title each, to be used in this order in any directory.

    Unless the demo user `has_key` for the provider, one of them stores it.
    """
    login = json.dumps({"email": credentials.userEmail, "password": credentials.userPassword})
    chat = json.dumps({"messages": [{"role": "user", "content": "What is the capital of France?"}]})
    json_body = "-H 'content-type: application/json'"
    as_user = '-H "authorization: Bearer $TOKEN"'
    url = credentials.baseUrl
    extract = """sed -n 's/.*"token": *"\\([^"]*\\)".*/\\1/p'"""
    lines = [
        (
            "sign in",
            f"TOKEN=$(curl -s {url}/api/auth/signin {json_body} -d {shlex.quote(login)} | tr -d '\\n' | {extract})",
        ),
        ("chat", f"curl -s -w '\\n' {url}/api/chat/{provider} {as_user} {json_body} -d {shlex.quote(chat)}"),
        ("stream", f"curl -sN {url}/api/chat/{provider}/stream {as_user} {json_body} -d {shlex.quote(chat)}"),
    ]
    if not has_key:
        key = shlex.quote(json.dumps({"apiKey": "YOUR-KEY"}))
        lines.insert(1, ("store a key", f"curl -s {url}/api/provider-config/{provider} {as_user} {json_body} -d {key}"))
    return lines
