//! The text of a simulated model: a small story that names the model and the prompt, token by token.

use serde_json::Value;

const STORY: &str = "Once upon a time there was a port on which many models listened. Some were \
awake and some asleep, and nobody at the door could tell, for each of them answered when it was \
called by its name. One slept until the first knock, yawned, put its weights on and spoke as if it \
had been up all day. Another, left alone for a while, laid its weights down again so that there was \
room for the next. And a little script in the corner decided who might stay up.";

/// The tokens of an answer: the story told once, or so often that there are `exactly` so many.
pub(super) fn tokens(model: &str, prompt: &str, exactly: Option<usize>) -> Vec<String> {
    let opening = match prompt.trim() {
        "" => format!("I am {model}, and this is my story. "),
        prompt => format!("You said “{prompt}”. I am {model}, and this is what comes to mind. "),
    };
    let once = opening
        .split_inclusive(' ')
        .chain(STORY.split_inclusive(' '));
    let tokens: Vec<&str> = match exactly {
        None => once.collect(),
        Some(count) => once
            .chain(STORY.split_inclusive(' ').cycle())
            .take(count)
            .collect(),
    };
    tokens.into_iter().map(str::to_owned).collect()
}

/// The text of the last thing that was said: the last of `messages` or of the items of `input`, or else `prompt`.
pub(super) fn prompt(body: &Value) -> String {
    for key in ["messages", "input"] {
        if let Some(last) = body[key].as_array().and_then(|all| all.last()) {
            return text(last);
        }
    }
    match &body["input"] {
        Value::Null => text(&body["prompt"]),
        input => text(input),
    }
}

fn text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts: Vec<String> = parts.iter().map(text).collect();
            texts.join(" ")
        }
        Value::Object(part) => part
            .get("text")
            .or_else(|| part.get("content"))
            .or_else(|| part.get("output"))
            .map(text)
            .unwrap_or_default(),
        _ => String::new(),
    }
}

/// Number of tokens of a text.
pub(super) fn count(text: &str) -> usize {
    text.split_whitespace().count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_story_names_the_model_and_the_prompt() {
        let text = tokens("alpha", "hello there", Some(7)).concat();
        assert_eq!(text, "You said “hello there”. I am alpha, ");
    }

    #[test]
    fn the_story_is_as_long_as_it_should_be() {
        for count in [0, 1, 24, 1000] {
            assert_eq!(tokens("alpha", "hi", Some(count)).len(), count);
        }
        let whole = tokens("alpha", "hi", None).concat();
        assert!(whole.ends_with("who might stay up."), "{whole}");
    }

    #[test]
    fn the_prompt_is_found_in_every_form() {
        for body in [
            json!({"messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "hi"}]}),
            json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}),
            json!({"input": "hi"}),
            json!({"input": [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}]}),
            json!({"input": [
                {"role": "developer", "content": [{"type": "input_text", "text": "be brief"}]},
                {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
            ]}),
            json!({"input": [
                {"role": "user", "content": "call it"},
                {"type": "function_call", "call_id": "c", "name": "shell", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c", "output": "hi"},
            ]}),
            json!({"prompt": "hi"}),
        ] {
            assert_eq!(prompt(&body), "hi", "{body}");
        }
    }
}
