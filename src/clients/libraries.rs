//! The libraries, and the lines of code that lead each of them to the hub.

use super::{Client, Kind};

const fn python(name: &'static str, title: &'static str, code: &'static str) -> Client {
    Client {
        name,
        title,
        kind: Kind::Library {
            language: "python",
            code,
        },
    }
}

pub(super) static LIBRARIES: [Client; 9] = [
    python(
        "openai",
        "openai for Python",
        r#"from openai import OpenAI

client = OpenAI(base_url="{url}/v1", api_key="{key}")
answer = client.chat.completions.create(
    model="{model}", messages=[{"role": "user", "content": "Write a haiku about ports."}]
)
print(answer.choices[0].message.content)
"#,
    ),
    Client {
        name: "openai-node",
        title: "openai for Node",
        kind: Kind::Library {
            language: "js",
            code: r#"import OpenAI from "openai";

const client = new OpenAI({ baseURL: "{url}/v1", apiKey: "{key}" });
const answer = await client.chat.completions.create({
  model: "{model}",
  messages: [{ role: "user", content: "Write a haiku about ports." }],
});
console.log(answer.choices[0].message.content);
"#,
        },
    },
    python(
        "anthropic",
        "anthropic for Python",
        r#"from anthropic import Anthropic

client = Anthropic(base_url="{url}", api_key="{key}")
answer = client.messages.create(
    model="{model}",
    max_tokens=1000,
    messages=[{"role": "user", "content": "Write a haiku about ports."}],
)
print(answer.content[0].text)
"#,
    ),
    Client {
        name: "anthropic-node",
        title: "anthropic for Node",
        kind: Kind::Library {
            language: "js",
            code: r#"import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic({ baseURL: "{url}", apiKey: "{key}" });
const answer = await client.messages.create({
  model: "{model}",
  max_tokens: 1000,
  messages: [{ role: "user", content: "Write a haiku about ports." }],
});
console.log(answer.content[0].text);
"#,
        },
    },
    python(
        "ollama",
        "ollama for Python",
        r#"from ollama import Client

client = Client(host="{url}")
answer = client.chat(
    model="{model}", messages=[{"role": "user", "content": "Write a haiku about ports."}]
)
print(answer.message.content)
"#,
    ),
    python(
        "openai-agents",
        "OpenAI Agents SDK",
        r#"from agents import Agent, Runner, set_default_openai_client, set_tracing_disabled
from openai import AsyncOpenAI

set_default_openai_client(AsyncOpenAI(base_url="{url}/v1", api_key="{key}"))
set_tracing_disabled(True)
agent = Agent(name="poet", instructions="Answer in verse.", model="{model}")
print(Runner.run_sync(agent, "Write a haiku about ports.").final_output)
"#,
    ),
    python(
        "instructor",
        "Instructor",
        r#"import instructor
from openai import OpenAI
from pydantic import BaseModel

class Port(BaseModel):
    name: str
    number: int

client = instructor.from_openai(OpenAI(base_url="{url}/v1", api_key="{key}"))
port = client.create(
    model="{model}", response_model=Port, messages=[{"role": "user", "content": "SSH's port"}]
)
print(port)
"#,
    ),
    python(
        "litellm",
        "LiteLLM",
        r#"import litellm

answer = litellm.completion(
    model="openai/{model}",
    api_base="{url}/v1",
    api_key="{key}",
    messages=[{"role": "user", "content": "Write a haiku about ports."}],
)
print(answer.choices[0].message.content)
"#,
    ),
    Client {
        name: "litellm-proxy",
        title: "LiteLLM's proxy",
        kind: Kind::Library {
            language: "text",
            code: r#"# litellm --config config.yaml
model_list:
  - model_name: "{model}"
    litellm_params:
      model: "openai/{model}"
      api_base: "{url}/v1"
      api_key: "{key}"
"#,
        },
    },
];
