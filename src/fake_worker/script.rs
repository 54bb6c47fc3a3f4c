//! Abilities of a simulated model besides stories: it calls a tool when it is told to, and keeps to
//! a JSON schema.
//!
//! A line `call NAME {…}` in what the user said is a call to make, if there is such a tool. Several are
//! made one after the other, each when the one before has been answered.

use serde_json::{Map, Value, json};

/// Schemas that refer to themselves end somewhere.
const DEEPEST: usize = 16;

/// A call of a tool.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ToolCall {
    pub(super) name: String,
    /// JSON.
    pub(super) arguments: String,
}

/// The call that is next in a conversation, of chat completions or of responses.
pub(super) fn next_call(body: &Value) -> Option<ToolCall> {
    let tools = body["tools"].as_array()?;
    let is_it = |call: &ToolCall, tool: &Value| {
        tool["name"] == call.name || tool["function"]["name"] == call.name
    };
    let is_there = |call: &ToolCall| tools.iter().any(|tool| is_it(call, tool));
    if body["input"].is_string() {
        return calls(&body["input"]).into_iter().next().filter(is_there);
    }
    let turns = body["messages"].as_array().or(body["input"].as_array())?;
    let (asked, calls) = turns.iter().enumerate().rev().find_map(|(at, turn)| {
        let calls = (turn["role"] == "user").then(|| calls(&turn["content"]))?;
        (!calls.is_empty()).then_some((at, calls))
    })?;
    let made: usize = turns[asked..].iter().map(calls_made).sum();
    calls.into_iter().nth(made).filter(is_there)
}

/// The calls that a turn has made.
fn calls_made(turn: &Value) -> usize {
    if turn["type"] == "function_call" {
        return 1;
    }
    turn["tool_calls"].as_array().map_or(0, Vec::len)
}

/// The calls that a message tells of.
fn calls(content: &Value) -> Vec<ToolCall> {
    let texts: Vec<&str> = match content {
        Value::String(text) => vec![text],
        Value::Array(parts) => parts
            .iter()
            .filter_map(|part| part["text"].as_str())
            .collect(),
        _ => Vec::new(),
    };
    let lines = texts.iter().flat_map(|text| text.lines());
    lines.filter_map(call).collect()
}

fn call(line: &str) -> Option<ToolCall> {
    let (name, arguments) = line.trim().strip_prefix("call ")?.split_once(' ')?;
    let arguments: Value = serde_json::from_str(arguments).ok()?;
    arguments.is_object().then(|| ToolCall {
        name: name.to_owned(),
        arguments: arguments.to_string(),
    })
}

/// JSON of the schema that a request asks for, if it asks for one.
pub(super) fn of_schema(body: &Value) -> Option<String> {
    let formats = [&body["response_format"], &body["text"]["format"]];
    let format = formats
        .into_iter()
        .find(|format| format["type"].is_string())?;
    match format["type"].as_str()? {
        "json_object" => Some("{}".to_owned()),
        "json_schema" => {
            let nested = &format["json_schema"]["schema"];
            let schema = if nested.is_null() {
                &format["schema"]
            } else {
                nested
            };
            Some(instance(schema, schema, 0).to_string())
        }
        _ => None,
    }
}

/// The smallest value of a schema.
fn instance(schema: &Value, root: &Value, depth: usize) -> Value {
    if depth > DEEPEST {
        return Value::Null;
    }
    let of = |schema: &Value| instance(schema, root, depth + 1);
    if let Some(path) = schema["$ref"].as_str() {
        let referred = path.strip_prefix('#').and_then(|path| root.pointer(path));
        return referred.map_or(Value::Null, of);
    }
    for key in ["const", "default"] {
        if let Some(value) = schema.get(key) {
            return value.clone();
        }
    }
    let first = |key: &str| schema[key].as_array().and_then(|all| all.first());
    if let Some(value) = first("enum") {
        return value.clone();
    }
    if let Some(schema) = ["anyOf", "oneOf", "allOf"].into_iter().find_map(first) {
        return of(schema);
    }
    let kind = schema["type"].as_str().or_else(|| first("type")?.as_str());
    match kind {
        Some("string") => json!("text"),
        Some("integer" | "number") => schema.get("minimum").cloned().unwrap_or(json!(1)),
        Some("boolean") => json!(true),
        Some("array") => match schema["minItems"].as_u64() {
            Some(1..) => json!([of(&schema["items"])]),
            _ => json!([]),
        },
        Some("null") => Value::Null,
        _ => {
            let properties = schema["properties"].as_object();
            let fields: Map<String, Value> = properties
                .into_iter()
                .flatten()
                .map(|(key, schema)| (key.clone(), of(schema)))
                .collect();
            Value::Object(fields)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_made_one_after_the_other() {
        let tool = json!({"type": "function", "function": {"name": "Write"}});
        let asked = json!({"role": "user", "content": "Please:\n call Write {\"a\": 1}\ncall Write {\"a\": 2}\ncall No {}"});
        let call = |body: &Value| next_call(body).map(|call| call.arguments);
        let mut body = json!({"messages": [asked], "tools": [tool]});
        assert_eq!(call(&body).as_deref(), Some(r#"{"a":1}"#));
        for _ in 0..1 {
            let messages = body["messages"].as_array_mut().unwrap();
            messages.push(json!({"role": "assistant", "tool_calls": [{}]}));
            messages.push(json!({"role": "tool", "content": "done"}));
            messages.push(json!({"role": "user", "content": "a reminder"}));
        }
        assert_eq!(call(&body).as_deref(), Some(r#"{"a":2}"#));
        body["messages"]
            .as_array_mut()
            .unwrap()
            .push(json!({"role": "assistant", "tool_calls": [{}]}));
        assert_eq!(call(&body), None);
        body["tools"] = json!([]);
        assert_eq!(call(&body), None);

        let body = json!({"input": "call f {}", "tools": [{"type": "function", "name": "f"}]});
        assert_eq!(call(&body).as_deref(), Some("{}"));
        let input = json!([
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "call f {}"}]},
        ]);
        let mut body = json!({"input": input, "tools": [{"type": "function", "name": "f"}]});
        assert_eq!(call(&body).as_deref(), Some("{}"));
        body["input"]
            .as_array_mut()
            .unwrap()
            .push(json!({"type": "function_call"}));
        assert_eq!(call(&body), None);
    }

    #[test]
    fn an_answer_keeps_to_its_schema() {
        let schema = json!({"type": "object", "$defs": {"n": {"type": ["integer", "null"], "minimum": 3}},
            "properties": {"title": {"type": "string"}, "kind": {"enum": ["a", "b"]}, "n": {"$ref": "#/$defs/n"},
                           "list": {"type": "array", "minItems": 1, "items": {"anyOf": [{"const": 7}]}}}});
        let expected = r#"{"title":"text","kind":"a","n":3,"list":[7]}"#;
        for body in [
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}),
            json!({"text": {"format": {"type": "json_schema", "name": "x", "schema": schema}}}),
        ] {
            assert_eq!(of_schema(&body).as_deref(), Some(expected));
        }
        assert_eq!(
            of_schema(&json!({"text": {"format": {"type": "text"}}})),
            None
        );
        let endless = json!({"properties": {"a": {"$ref": "#"}}});
        let body =
            json!({"response_format": {"type": "json_schema", "json_schema": {"schema": endless}}});
        assert!(of_schema(&body).is_some());
    }
}
