// The same as streams.py with the clients for Node, of which each has a folder.
//
// usage: node streams.mjs BASE_URL CLIENT COUNT FOLDER

import assert from "node:assert/strict";
import { createRequire } from "node:module";

const [base, client, count, folder] = process.argv.slice(2);
const from = createRequire(`${folder}/`);
const url = base.replace(/\/v1$/, "");

const clients = {
  messages() {
    const { Anthropic } = from("@anthropic-ai/sdk");
    const anthropic = new Anthropic({ baseURL: url, apiKey: "none", maxRetries: 0, timeout: 60_000 });
    return async (heard, content) => {
      const stream = anthropic.messages.stream({ model: "m", max_tokens: 100, messages: [{ role: "user", content }] });
      for await (const event of stream) {
        if (event.type === "content_block_start" && event.content_block.type === "tool_use") {
          heard.calls.push([event.content_block.name, ""]);
        }
        if (event.type !== "content_block_delta") continue;
        heard.text += event.delta.text ?? "";
        heard.thinking += event.delta.thinking ?? "";
        if (event.delta.type === "input_json_delta") heard.calls.at(-1)[1] += event.delta.partial_json;
      }
      const said = await stream.finalMessage();
      assert.equal(said.stop_reason, heard.calls.length ? "tool_use" : "end_turn");
      const texts = (kind) => said.content.filter((block) => block.type === kind).map((block) => block[kind]);
      assert.equal(texts("text").join(""), heard.text);
      assert.equal(texts("thinking").join(""), heard.thinking);
      const calls = said.content.filter((block) => block.type === "tool_use").map((block) => [block.name, block.input]);
      assert.deepEqual(calls, heard.calls.map(([name, text]) => [name, JSON.parse(text)]));
      heard.usage = [said.usage.input_tokens + said.usage.cache_read_input_tokens, said.usage.output_tokens];
    };
  },

  responses() {
    const { OpenAI } = from("openai");
    const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0, timeout: 60_000 });
    return async (heard, input) => {
      const stream = openai.responses.stream({ model: "m", input });
      for await (const event of stream) {
        if (event.type === "response.output_item.added" && event.item.type === "function_call") {
          heard.calls.push([event.item.name, ""]);
        } else if (event.type === "response.output_text.delta") {
          heard.text += event.delta;
        } else if (/^response\.reasoning_(summary_)?text\.delta$/.test(event.type)) {
          heard.thinking += event.delta;
        } else if (event.type === "response.function_call_arguments.delta") {
          heard.calls.at(-1)[1] += event.delta;
        } else if (event.type === "response.failed") {
          throw new Error(event.response.error.message);
        }
      }
      const said = await stream.finalResponse();
      assert.equal(said.status, "completed");
      assert.equal(said.output_text, heard.text);
      const calls = said.output.filter((item) => item.type === "function_call").map((item) => [item.name, item.arguments]);
      assert.deepEqual(calls, heard.calls);
      heard.usage = [said.usage.input_tokens, said.usage.output_tokens];
    };
  },

  chat() {
    const { Ollama } = from("ollama");
    const ollama = new Ollama({ host: url });
    return async (heard, content) => {
      let last;
      for await (const part of await ollama.chat({ model: "m", messages: [{ role: "user", content }], stream: true })) {
        heard.text += part.message.content;
        heard.thinking += part.message.thinking ?? "";
        for (const call of part.message.tool_calls ?? []) {
          heard.calls.push([call.function.name, JSON.stringify(call.function.arguments)]);
        }
        last = part;
      }
      assert.ok(last.done);
      heard.usage = [last.prompt_eval_count, last.eval_count];
    };
  },
};

const read = clients[client]();
for (let number = 0; number < Number(count); number += 1) {
  const heard = { text: "", thinking: "", calls: [], usage: null, error: null };
  try {
    await read(heard, String(number));
  } catch (error) {
    // What a client is asked in vain is no error of the worker.
    if (error instanceof assert.AssertionError || error instanceof TypeError) throw error;
    heard.error = String(error);
  }
  console.log(JSON.stringify(heard));
}
console.log("all served");
