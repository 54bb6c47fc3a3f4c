"""What a user does with the official `openai` client, against a hub with two models.

usage: openai_client.py BASE_URL NAME PATH NAME PATH

Lists the models, then gets a completion and a stream from each, by its name and by its path.
"""

import sys

from openai import BadRequestError, NotFoundError, OpenAI

base_url, *rest = sys.argv[1:]
models = list(zip(rest[::2], rest[1::2]))
client = OpenAI(base_url=base_url, api_key="none", timeout=120, max_retries=0)
messages = [{"role": "user", "content": "hello"}]

listed = [model.id for model in client.models.list()]
assert listed == [name for name, _ in models], listed

for name, path in models:
    for model in (name, path):
        answer = client.chat.completions.create(model=model, messages=messages, max_tokens=5)
        assert answer.choices[0].message.role == "assistant", answer
        # Random weights may end their answer at any token.
        assert 1 <= answer.usage.completion_tokens <= 5, answer

        stream = client.chat.completions.create(
            model=model, messages=messages, max_tokens=5, stream=True
        )
        chunks = list(stream)
        assert len(chunks) >= 2, chunks
        assert chunks[0].choices[0].delta.role == "assistant", chunks
        assert chunks[-1].choices[0].finish_reason, chunks
        print(f"{model}: ok")

try:
    client.chat.completions.create(model="no-such-model", messages=messages)
except NotFoundError as error:
    assert error.code == "model_not_found", error
else:
    raise AssertionError("a model that does not exist answered")

try:
    client.chat.completions.create(model="", messages=messages)
except BadRequestError as error:
    assert "/v1/models" in error.message, error
else:
    raise AssertionError("an empty model answered")
