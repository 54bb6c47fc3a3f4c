// What a user does with the official `openai` client for Node, against a hub with the models `quick`,
// `slow` (which loads for some seconds) and `broken` (whose load fails).
//
// usage: node openai_client.mjs BASE_URL FOLDER_OF_THE_CLIENT

import assert from "node:assert/strict";
import { createRequire } from "node:module";

const [baseURL, folder] = process.argv.slice(2);
const { OpenAI } = createRequire(`${folder}/`)("openai");
const client = new OpenAI({ baseURL, apiKey: "none", timeout: 60_000, maxRetries: 0 });
const messages = [{ role: "user", content: "hello" }];

const listed = [];
for await (const model of client.models.list()) listed.push(model.id);
assert.deepEqual(listed, ["quick", "slow", "broken", "chats", "best", "claude-*", "claude-*haiku*"]);
assert.equal((await client.models.retrieve("quick")).id, "quick");

async function streamed(model) {
  const stream = await client.chat.completions.create({ model, messages, stream: true });
  let text = "";
  let reason = null;
  for await (const chunk of stream) {
    assert.equal(chunk.model, model);
    text += chunk.choices[0].delta.content ?? "";
    reason = chunk.choices[0].finish_reason ?? reason;
  }
  assert.equal(reason, "stop");
  return text;
}

for (const model of ["quick", "org/quick"]) {
  const plain = await client.chat.completions.create({ model, messages });
  assert.equal(plain.model, model);
  assert.equal(plain.usage.completion_tokens, 7);
  assert.equal(await streamed(model), plain.choices[0].message.content);
}

// Comments come before the first chunk.
assert.match(await streamed("slow"), /hello/);

const response = await client.responses.create({ model: "quick", input: "hello" });
assert.match(response.output_text, /hello/);
assert.equal(response.model, "quick");

const embeddings = await client.embeddings.create({ model: "quick", input: ["a", "b"] });
assert.equal(embeddings.data.length, 2);

const file = await OpenAI.toFile?.(Buffer.from("RIFF"), "a.wav") ?? new File(["RIFF"], "a.wav");
const heard = await client.audio.transcriptions.create({ model: "quick", file });
assert.equal(typeof heard.text, "string");

await assert.rejects(
  client.chat.completions.create({ model: "nosuch", messages }),
  (error) => error.status === 404 && error.code === "model_not_found",
);
// A load that fails once the stream has begun.
await assert.rejects(streamed("broken"), (error) => {
  assert.ok(error instanceof OpenAI.APIError, String(error));
  assert.match(error.message, /broken/);
  return true;
});
// A client that leaves in the middle.
const left = await client.chat.completions.create({ model: "quick", messages, stream: true });
for await (const _ of left) break;

console.log("all served");
