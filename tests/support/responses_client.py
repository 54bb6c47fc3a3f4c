# What a user does with the Responses API of the `openai` client for Python, against a hub whose model `chats` has a
# worker that knows chat completions only.
#
# usage: python responses_client.py BASE_URL

import sys

import openai

client = openai.OpenAI(base_url=sys.argv[1], api_key="none", max_retries=0, timeout=60)
schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
tools = [{"type": "function", "name": "add", "parameters": schema, "strict": False}]

# A tool's result is sent alone: the hub has kept the call.
with client.responses.stream(model="chats", input='call add {"a": 1}', tools=tools) as stream:
    asked = stream.get_final_response()
call = asked.output[0]
assert call.type == "function_call" and call.arguments == '{"a":1}', asked
result = {"type": "function_call_output", "call_id": call.call_id, "output": "two"}
said = client.responses.create(model="chats", input=[result], previous_response_id=asked.id, tools=tools)
assert "two" in said.output_text, said

# A conversation, whose turns are read, listed and deleted.
first = client.responses.create(model="chats", input="one")
assert first.store, first
with client.responses.stream(model="chats", input="two", previous_response_id=first.id) as stream:
    second = stream.get_final_response()
assert second.previous_response_id == first.id, second
read = client.responses.retrieve(second.id)
assert read.output_text == second.output_text and read.usage == second.usage, read
items = list(client.responses.input_items.list(second.id, order="asc", limit=1))
texts = [item.content[0].text for item in items]
assert texts == ["one", first.output_text, "two"], texts
client.responses.delete(first.id)
try:
    client.responses.retrieve(first.id)
    raise AssertionError("a deleted response")
except openai.NotFoundError as error:
    assert "24 hours" in error.message, error.message
try:
    client.responses.create(model="chats", input="x", previous_response_id=first.id)
    raise AssertionError("a conversation with a deleted response")
except openai.BadRequestError as error:
    assert error.code == "previous_response_not_found", error.body
said = client.responses.create(model="chats", input="x", store=False)
try:
    client.responses.retrieve(said.id)
    raise AssertionError("a response that is not kept")
except openai.NotFoundError:
    pass

print("all served")
