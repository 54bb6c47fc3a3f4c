"""What a user does with the official `openai` client for Python, against a hub with the models `quick`,
`slow` (which loads for some seconds) and `broken` (whose load fails).

usage: openai_client_loading.py BASE_URL
"""

import sys

from openai import APIError, APIStatusError, OpenAI

client = OpenAI(base_url=sys.argv[1], api_key="none", timeout=60, max_retries=0)
messages = [{"role": "user", "content": "hello"}]

assert [model.id for model in client.models.list()] == ["quick", "slow", "broken", "chats", "best", "claude-*", "claude-*haiku*"]
assert client.models.retrieve("quick").id == "quick"


def streamed(model):
    text, reason = "", None
    for chunk in client.chat.completions.create(model=model, messages=messages, stream=True):
        assert chunk.model == model, chunk
        text += chunk.choices[0].delta.content or ""
        reason = chunk.choices[0].finish_reason or reason
    assert reason == "stop", reason
    return text


for model in ("quick", "org/quick"):
    plain = client.chat.completions.create(model=model, messages=messages)
    assert plain.model == model, plain
    assert plain.usage.completion_tokens == 7, plain
    assert streamed(model) == plain.choices[0].message.content

# One that does not want to wait is told when to come back.
try:
    client.chat.completions.create(
        model="slow", messages=messages, extra_headers={"Prefer": "wait=0"}
    )
except APIStatusError as error:
    assert error.status_code == 503 and error.code == "model_loading", error
    assert int(error.response.headers["retry-after"]) >= 1
else:
    raise AssertionError("nobody waited, and it was there")

# Comments come before the first chunk.
assert "hello" in streamed("slow")

response = client.responses.create(model="quick", input="hello")
assert "hello" in response.output_text, response
assert response.model == "quick"

embeddings = client.embeddings.create(model="quick", input=["a", "b"])
assert len(embeddings.data) == 2

heard = client.audio.transcriptions.create(model="quick", file=("a.wav", b"RIFF"))
assert heard.text

try:
    client.chat.completions.create(model="nosuch", messages=messages)
except APIStatusError as error:
    assert (error.status_code, error.code) == (404, "model_not_found"), error
else:
    raise AssertionError("a model that does not exist answered")

# A load that fails once the stream has begun.
try:
    streamed("broken")
except APIError as error:
    assert "broken" in error.message, error
else:
    raise AssertionError("a load that failed was not told")

print("all served")
