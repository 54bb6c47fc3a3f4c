# Reads the streams `0`, `1`, … of the model `m` with the stream parser of a client for Python, and prints what it has
# heard of each: a line of JSON.
#
# usage: python streams.py BASE_URL CLIENT COUNT

import json
import sys

import anthropic
import ollama
import openai

base, client, count = sys.argv[1].removesuffix("/v1"), sys.argv[2], int(sys.argv[3])


class Heard:
    def __init__(self):
        self.text, self.thinking, self.calls, self.usage, self.error = "", "", [], None, None


def messages(heard, prompt):
    said = {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": prompt}]}
    with claude.messages.stream(**said) as stream:
        for event in stream:
            if event.type == "content_block_start" and event.content_block.type == "tool_use":
                heard.calls.append([event.content_block.name, ""])
            elif event.type == "content_block_delta":
                delta = event.delta
                if delta.type == "text_delta":
                    heard.text += delta.text
                elif delta.type == "thinking_delta":
                    heard.thinking += delta.thinking
                elif delta.type == "input_json_delta":
                    heard.calls[-1][1] += delta.partial_json
        said = stream.get_final_message()
    assert said.stop_reason == ("tool_use" if heard.calls else "end_turn"), said
    assert "".join(block.text for block in said.content if block.type == "text") == heard.text, said
    assert "".join(block.thinking for block in said.content if block.type == "thinking") == heard.thinking, said
    calls = [block for block in said.content if block.type == "tool_use"]
    assert [[call.name, call.input] for call in calls] == [[name, json.loads(text)] for name, text in heard.calls], said
    heard.usage = [said.usage.input_tokens + said.usage.cache_read_input_tokens, said.usage.output_tokens]


def responses(heard, prompt):
    with openai_client.responses.stream(model="m", input=prompt) as stream:
        for event in stream:
            if event.type == "response.output_item.added" and event.item.type == "function_call":
                heard.calls.append([event.item.name, ""])
            elif event.type == "response.output_text.delta":
                heard.text += event.delta
            elif event.type in ("response.reasoning_text.delta", "response.reasoning_summary_text.delta"):
                heard.thinking += event.delta
            elif event.type == "response.function_call_arguments.delta":
                heard.calls[-1][1] += event.delta
            elif event.type == "response.failed":
                raise openai.OpenAIError(event.response.error.message)
        said = stream.get_final_response()
    assert said.status == "completed" and said.output_text == heard.text, said
    calls = [item for item in said.output if item.type == "function_call"]
    assert [[call.name, call.arguments] for call in calls] == heard.calls, said
    heard.usage = [said.usage.input_tokens, said.usage.output_tokens]


def chat(heard, prompt):
    for part in ollama_client.chat(model="m", messages=[{"role": "user", "content": prompt}], stream=True):
        heard.text += part.message.content or ""
        heard.thinking += part.message.thinking or ""
        for call in part.message.tool_calls or []:
            heard.calls.append([call.function.name, json.dumps(call.function.arguments)])
    assert part.done, part
    heard.usage = [part.prompt_eval_count, part.eval_count]


def generate(heard, prompt):
    for part in ollama_client.generate(model="m", prompt=prompt, stream=True):
        heard.text += part.response
        heard.thinking += part.thinking or ""
    assert part.done, part
    heard.usage = [part.prompt_eval_count, part.eval_count]


claude = anthropic.Anthropic(base_url=base, api_key="none", max_retries=0, timeout=60)
openai_client = openai.OpenAI(base_url=f"{base}/v1", api_key="none", max_retries=0, timeout=60)
ollama_client = ollama.Client(host=base)
read = {"messages": messages, "responses": responses, "chat": chat, "generate": generate}[client]
for number in range(count):
    heard = Heard()
    try:
        read(heard, str(number))
    except (anthropic.AnthropicError, openai.OpenAIError, ollama.ResponseError) as error:
        heard.error = str(error)
    print(json.dumps(vars(heard)))
print("all served")
