# What a user does with the `anthropic`, `ollama` and `openai` (Responses) clients for Python, against a hub with the
# models `quick` and `slow` (which loads for some seconds).
#
# usage: python other_clients.py BASE_URL

import sys

import anthropic
import ollama
import openai

base = sys.argv[1].removesuffix("/v1")
hello = [{"role": "user", "content": "hello"}]
call = 'call add {"a": 1}'
schema = {"type": "object", "properties": {"a": {"type": "integer"}}}

client = anthropic.Anthropic(base_url=base, api_key="none", max_retries=0, timeout=60)
said = client.messages.create(model="quick", max_tokens=100, messages=hello)
assert "hello" in said.content[0].text and said.model == "quick", said
assert said.usage.output_tokens == 7 and said.stop_reason == "end_turn", said
# Pings come before the first event.
with client.messages.stream(model="slow", max_tokens=100, messages=hello) as stream:
    text = "".join(stream.text_stream)
    assert text and stream.get_final_message().stop_reason == "end_turn"
tools = [{"name": "add", "input_schema": schema}]
asked = [{"role": "user", "content": call}]
with client.messages.stream(model="quick", max_tokens=100, messages=asked, tools=tools) as stream:
    said = stream.get_final_message()
assert said.stop_reason == "tool_use" and said.content[0].input == {"a": 1}, said
result = {"type": "tool_result", "tool_use_id": said.content[0].id, "content": "done"}
turns = [*asked, {"role": "assistant", "content": said.content}, {"role": "user", "content": [result]}]
said = client.messages.create(model="quick", max_tokens=100, messages=turns, tools=tools)
assert "done" in said.content[0].text, said
assert client.messages.count_tokens(model="quick", messages=hello).input_tokens > 0
# In pages of two.
listed = list(client.models.list(limit=2))
assert [model.id for model in listed] == ["quick", "slow", "broken", "chats", "best", "claude-*", "claude-*haiku*"], listed
assert listed[4].display_name == "alias of quick" and listed[0].max_input_tokens == 32768, listed
assert client.models.retrieve("best").id == "best"
try:
    client.models.retrieve("nosuch")
    raise AssertionError("an unknown model")
except anthropic.NotFoundError as error:
    assert error.body["error"]["type"] == "not_found_error", error.body
try:
    client.messages.create(model="nosuch", max_tokens=1, messages=hello)
    raise AssertionError("an unknown model")
except anthropic.NotFoundError as error:
    assert error.body["error"]["type"] == "not_found_error", error.body

client = ollama.Client(host=base)
assert [model.model for model in client.list().models] == ["quick", "slow", "broken", "chats", "best", "claude-*", "claude-*haiku*"]
assert "tools" in client.show("quick:latest").capabilities
said = client.chat(model="quick:latest", messages=hello)
assert "hello" in said.message.content and said.eval_count == 7, said
streamed = [part for part in client.chat(model="quick", messages=hello, stream=True)]
assert "".join(part.message.content for part in streamed) == said.message.content and streamed[-1].done
tools = [{"type": "function", "function": {"name": "add", "parameters": schema}}]
said = client.chat(model="quick", messages=asked, tools=tools)
assert said.message.tool_calls[0].function.arguments == {"a": 1}, said
assert "hello" in client.generate(model="quick", prompt="hello").response
assert len(client.embed(model="quick", input=["a", "b"]).embeddings) == 2
assert "quick" in [model.model for model in client.ps().models]
try:
    client.pull("quick")
    raise AssertionError("a pull")
except ollama.ResponseError as error:
    assert error.status_code == 501 and "hub.yaml" in error.error, error

client = openai.OpenAI(base_url=sys.argv[1], api_key="none", max_retries=0, timeout=60)
said = client.responses.create(model="quick", input="hello")
assert "hello" in said.output_text and said.model == "quick", said
tools = [{"type": "function", "name": "add", "parameters": schema, "strict": False}]
with client.responses.stream(model="quick", input=call, tools=tools) as stream:
    said = stream.get_final_response()
assert said.output[0].arguments == '{"a":1}', said

print("all served")
