// What a user does with the `@anthropic-ai/sdk` and `ollama` clients for Node, against a hub with the models
// `quick`, `slow` (which loads for some seconds) and `broken` (whose load fails).
//
// usage: node other_clients.mjs BASE_URL FOLDER_OF_THE_CLIENTS

import assert from "node:assert/strict";
import { createRequire } from "node:module";

const [base, folder] = process.argv.slice(2);
const from = createRequire(`${folder}/`);
const { Anthropic } = from("@anthropic-ai/sdk");
const { Ollama } = from("ollama");

const url = base.replace(/\/v1$/, "");
const hello = [{ role: "user", content: "hello" }];
const call = [{ role: "user", content: 'call add {"a": 1}' }];
const schema = { type: "object", properties: { a: { type: "integer" } } };

const anthropic = new Anthropic({ baseURL: url, apiKey: "none", maxRetries: 0, timeout: 60_000 });
const said = await anthropic.messages.create({ model: "quick", max_tokens: 100, messages: hello });
assert.match(said.content[0].text, /hello/);
assert.equal(said.model, "quick");
assert.equal(said.usage.output_tokens, 7);
assert.equal(said.stop_reason, "end_turn");

// Pings come before the first event.
let text = "";
const stream = anthropic.messages.stream({ model: "slow", max_tokens: 100, messages: hello });
stream.on("text", (delta) => (text += delta));
const last = await stream.finalMessage();
assert.equal(last.content[0].text, text);
assert.match(text, /hello/);

const tools = [{ name: "add", input_schema: schema }];
const asks = await anthropic.messages
  .stream({ model: "quick", max_tokens: 100, messages: call, tools })
  .finalMessage();
assert.equal(asks.stop_reason, "tool_use");
assert.deepEqual(asks.content[0].input, { a: 1 });
const result = { type: "tool_result", tool_use_id: asks.content[0].id, content: "done" };
const turns = [...call, { role: "assistant", content: asks.content }, { role: "user", content: [result] }];
const answered = await anthropic.messages.create({ model: "quick", max_tokens: 100, messages: turns, tools });
assert.match(answered.content[0].text, /done/);

const counted = await anthropic.messages.countTokens({ model: "quick", messages: hello });
assert.ok(counted.input_tokens > 0);
await assert.rejects(
  anthropic.messages.create({ model: "nosuch", max_tokens: 1, messages: hello }),
  (error) => error instanceof Anthropic.NotFoundError && error.error.error.type === "not_found_error",
);
// A load that fails once the stream has begun.
await assert.rejects(
  anthropic.messages.stream({ model: "broken", max_tokens: 1, messages: hello }).finalMessage(),
  /broken/,
);
// A client that leaves in the middle.
const left = await anthropic.messages.create({ model: "quick", max_tokens: 100, messages: hello, stream: true });
for await (const _ of left) break;

const ollama = new Ollama({ host: url });
const listed = (await ollama.list()).models.map((model) => model.model);
assert.ok(listed.includes("quick") && listed.includes("slow"), String(listed));
assert.ok((await ollama.show({ model: "quick:latest" })).capabilities.includes("tools"));
const chat = await ollama.chat({ model: "quick", messages: hello });
assert.match(chat.message.content, /hello/);
assert.equal(chat.eval_count, 7);
let streamed = "";
let done = false;
for await (const part of await ollama.chat({ model: "quick", messages: hello, stream: true })) {
  streamed += part.message.content;
  done = part.done;
}
assert.equal(streamed, chat.message.content);
assert.ok(done);
const functions = [{ type: "function", function: { name: "add", parameters: schema } }];
const calls = await ollama.chat({ model: "quick", messages: call, tools: functions });
assert.deepEqual(calls.message.tool_calls[0].function.arguments, { a: 1 });
assert.match((await ollama.generate({ model: "quick", prompt: "hello" })).response, /hello/);
assert.equal((await ollama.embed({ model: "quick", input: ["a", "b"] })).embeddings.length, 2);
assert.ok((await ollama.ps()).models.some((model) => model.model === "quick"));
await assert.rejects(ollama.pull({ model: "quick" }), /hub\.yaml/);

console.log("all served");
