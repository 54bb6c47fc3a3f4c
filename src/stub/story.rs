//! What a simulated model says: a small story that names the model and the prompt, endless, token
//! by token.

use serde_json::Value;

const STORY: &str = "Once upon a time there was a port on which many models listened. Some were \
awake and some asleep, and nobody at the door could tell, for each of them answered when it was \
called by its name. One slept until the first knock, yawned, put its weights on and spoke as if it \
had been up all day. Another, left alone for a while, laid its weights down again so that there was \
room for the next. And a little script in the corner decided who might stay up.";

/// The tokens of an answer; there is always one more.
pub(super) fn tokens(model: &str, prompt: &str) -> impl Iterator<Item = String> + use<> {
    let opening = match prompt.trim() {
        "" => format!("I am {model}, and this is my story."),
        prompt => format!("You said “{prompt}”. I am {model}, and this is what comes to mind."),
    };
    let story = STORY.split(' ').cycle();
    let mut first = true;
    let words: Vec<String> = opening.split(' ').map(str::to_owned).collect();
    words
        .into_iter()
        .chain(story.map(str::to_owned))
        .map(move |word| {
            if std::mem::take(&mut first) {
                word
            } else {
                format!(" {word}")
            }
        })
}

/// The text of the last thing that was said: `messages`, `input` or `prompt`, as a string or as a
/// list of parts.
pub(super) fn prompt(body: &Value) -> String {
    if let Some(last) = body["messages"].as_array().and_then(|all| all.last()) {
        return text(&last["content"]);
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
            .map(text)
            .unwrap_or_default(),
        _ => String::new(),
    }
}

/// How many tokens a text counts for.
pub(super) fn count(text: &str) -> usize {
    text.split_whitespace().count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_story_names_the_model_and_the_prompt() {
        let text: String = tokens("alpha", "hello there").take(12).collect();
        assert_eq!(
            text,
            "You said “hello there”. I am alpha, and this is what comes"
        );
    }

    #[test]
    fn the_prompt_is_found_in_every_form() {
        for body in [
            json!({"messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "hi"}]}),
            json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}),
            json!({"input": "hi"}),
            json!({"input": [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}]}),
            json!({"prompt": "hi"}),
        ] {
            assert_eq!(prompt(&body), "hi", "{body}");
        }
    }
}
