// A chat with a model, to try it.

import { byId, duration, element, fetched, json, setChoices, setText } from "./page.js";
import { isWanted } from "./models.js";

const box = byId("chat");
let messages = [];
let answering = null;
let types = new Map();

export function showChat(snapshot) {
  const talkers = snapshot.models.filter(({ metadata }) => ["lm", "multimodal"].includes(metadata.model_type));
  types = new Map(talkers.map((model) => [model.id, model.metadata.model_type]));
  setChoices(byId("chat-model"), [...types.keys()], 0);
  byId("chat-send").disabled = types.size === 0;
  offerImage();
}

const offerImage = () => (byId("chat-image-label").hidden = types.get(byId("chat-model").value) !== "multimodal");

function say(role, text) {
  const node = element("div", text, "message");
  node.dataset.role = role;
  box.append(node);
  box.scrollTop = box.scrollHeight;
  return node;
}

const asDataUrl = (file) =>
  new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });

/** The events of a stream, and its comments as `{ comment }`. */
async function* eventsOf(response) {
  let text = "";
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const lines = text.split("\n");
    text = lines.pop();
    for (const line of lines) {
      if (line.startsWith(":")) yield { comment: line.slice(1).trim() };
      else if (line.startsWith("data: ") && line !== "data: [DONE]") yield JSON.parse(line.slice("data: ".length));
    }
  }
}

async function send(model, text, image, signal) {
  // A new chat has other messages: what still comes for these is for nobody.
  const mine = messages;
  const tell = (words) => mine === messages && setText(byId("chat-figures"), words);
  const content = image ? [{ type: "text", text }, { type: "image_url", image_url: { url: await asDataUrl(image) } }] : text;
  if (mine !== messages) return;
  mine.push({ role: "user", content });
  say("user", image ? `${text}\n[${image.name}]` : text);
  const node = say("assistant", "");
  const begun = performance.now();
  const passed = () => (performance.now() - begun) / 1000;
  let [first, usage, answer, thought] = [null, null, "", ""];
  try {
    const request = { model, messages: mine, stream: true, stream_options: { include_usage: true } };
    const response = await fetched("/v1/chat/completions", { ...json(request), signal });
    for await (const event of eventsOf(response)) {
      if (event.comment) tell(event.comment);
      if (event.error) throw new Error(event.error.message ?? "The model failed.");
      usage = event.usage ?? usage;
      const delta = event.choices?.[0]?.delta ?? {};
      if (!delta.content && !delta.reasoning_content) continue;
      first ??= passed();
      thought += delta.reasoning_content ?? "";
      answer += delta.content ?? "";
      setText(node, answer || thought);
      node.dataset.thinking = String(!answer);
      box.scrollTop = box.scrollHeight;
      tell(`first token after ${duration(first)}`);
    }
    mine.push({ role: "assistant", content: answer });
    const span = passed() - first;
    const parts = [first === null ? "no text came" : `first token after ${duration(first)}`, `all after ${duration(passed())}`];
    const tokens = usage?.completion_tokens;
    if (tokens) parts.push(`${tokens} tokens`);
    if (tokens > 1 && span > 0.05) parts.push(`${((tokens - 1) / span).toFixed(1)} tokens/s`);
    tell(parts.join(" • "));
  } catch (error) {
    const isStopped = error.name === "AbortError";
    if (answer) mine.push({ role: "assistant", content: answer });
    else mine.pop();
    tell(isStopped ? "stopped" : "");
    if (!isStopped && mine === messages) say("error", error.message);
    if (!answer) node.remove();
  }
}

function showAnswering(mine) {
  answering = mine;
  byId("chat-send").hidden = mine !== null;
  byId("chat-stop").hidden = mine === null;
}

byId("chat-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const [text, image] = [byId("chat-text"), byId("chat-image")];
  if (answering || !text.value.trim()) return;
  const [model, words] = [byId("chat-model").value, text.value.trim()];
  const mine = new AbortController();
  showAnswering(mine);
  try {
    // A message loads its model, which may take another out of memory: the page asks as its buttons do.
    if (!(await isWanted("load", model)) || mine.signal.aborted) return;
    const sent = send(model, words, byId("chat-image-label").hidden ? null : image.files[0], mine.signal);
    [text.value, image.value] = ["", ""];
    await sent;
  } catch (error) {
    say("error", error.message);
  } finally {
    if (answering === mine) showAnswering(null);
  }
});

byId("chat-model").addEventListener("change", offerImage);

byId("chat-text").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  byId("chat-form").requestSubmit();
});

byId("chat-stop").addEventListener("click", () => answering?.abort());

byId("chat-clear").addEventListener("click", () => {
  answering?.abort();
  showAnswering(null);
  messages = [];
  box.replaceChildren();
  setText(byId("chat-figures"), "");
  byId("chat-text").focus();
});
