//! The tools of a request. Of those that Anthropic has defined a client sends the type alone. Its models know the
//! rest by heart; others are told.

use std::sync::LazyLock;

use serde_json::{Value, json};

use super::super::chat::Tool;
use super::super::fields::{Field, invalid};
use crate::api::ApiError;

/// A tool that Anthropic has defined and that the client runs.
struct Defined {
    description: &'static str,
    schema: Value,
}

static BASH: LazyLock<Defined> = LazyLock::new(|| Defined {
    description: "Runs a command in a bash session that goes on from call to call.",
    schema: schema(
        json!({
            "command": text("The command"),
            "restart": {"type": "boolean", "description": "true to begin a new session instead"},
        }),
        &[],
    ),
});

static EDITOR: LazyLock<Defined> = LazyLock::new(|| Defined {
    description: "Views, creates and edits text files.",
    schema: schema(edits(&[]), &["command", "path"]),
});

/// Its versions before those that are named `str_replace_based_edit_tool`.
static OLDER_EDITOR: LazyLock<Defined> = LazyLock::new(|| {
    let mut fields = edits(&["undo_edit"]);
    fields["new_str"] =
        text("For `str_replace`: what replaces it. For `insert`: the text to insert");
    if let Some(fields) = fields.as_object_mut() {
        fields.remove("insert_text");
    }
    Defined {
        description: EDITOR.description,
        schema: schema(fields, &["command", "path"]),
    }
});

static MEMORY: LazyLock<Defined> = LazyLock::new(|| {
    let mut fields = edits(&["delete", "rename"]);
    fields["path"] = text("The file or directory, below `/memories`");
    fields["old_path"] = text("For `rename`: the path as it is");
    fields["new_path"] = text("For `rename`: the path as it shall be");
    Defined {
        description: "Keeps notes in files below `/memories`, for later conversations.",
        schema: schema(fields, &["command"]),
    }
});

fn text(description: &str) -> Value {
    json!({"type": "string", "description": description})
}

fn schema(fields: Value, required: &[&str]) -> Value {
    json!({"type": "object", "properties": fields, "required": required})
}

/// The fields of the tools that edit files, which have these commands besides.
fn edits(more: &[&str]) -> Value {
    let commands = ["view", "create", "str_replace", "insert"];
    let commands: Vec<&str> = commands.iter().chain(more).copied().collect();
    json!({
        "command": {"type": "string", "enum": commands},
        "path": text("The file or directory"),
        "view_range": {
            "type": "array",
            "items": {"type": "integer"},
            "description": "For `view`: the first and the last line, from 1; -1 is the end",
        },
        "file_text": text("For `create`: the whole text"),
        "old_str": text("For `str_replace`: what is replaced; it has to be there once"),
        "new_str": text("For `str_replace`: what replaces it"),
        "insert_line": {
            "type": "integer",
            "description": "For `insert`: the line after which to insert, 0 for the beginning",
        },
        "insert_text": text("For `insert`: the text to insert"),
    })
}

/// The definition of a type, of any version.
fn defined(kind: &str) -> Option<&'static Defined> {
    let (name, version) = kind.rsplit_once('_')?;
    match name {
        "bash" => Some(&BASH),
        "text_editor" if matches!(version, "20241022" | "20250124") => Some(&OLDER_EDITOR),
        "text_editor" => Some(&EDITOR),
        "memory" => Some(&MEMORY),
        _ => None,
    }
}

/// A tool that the client runs; `None` for one that Anthropic's servers would run.
///
/// # Errors
/// 400 when a field is not what it has to be, or a model would have to know the tool by heart.
pub(super) fn function<'a>(tool: &Field<'_, 'a>) -> Result<Option<Tool<'a>>, ApiError> {
    let kind = tool
        .get("type")
        .map_or(Ok("custom"), |kind| kind.string())?;
    let name = tool.must("name")?.string()?;
    let description = tool.get("description");
    let description = description.map(|text| text.string()).transpose()?;
    if kind != "custom" && tool.get("input_schema").is_none() {
        if let Some(defined) = defined(kind) {
            let description = description.unwrap_or(defined.description);
            return Ok(Some(Tool::new(
                name,
                Some(description),
                Some(&defined.schema),
            )));
        }
        if kind.starts_with("computer_") {
            return Err(invalid(
                tool,
                "cannot be offered: only Anthropic's models know what it takes. Send it as a tool of your own, with an \
                 `input_schema`",
            ));
        }
        tracing::info!(
            tool = name,
            kind,
            "a tool that no worker has is left out of a request"
        );
        return Ok(None);
    }
    let schema = tool.must("input_schema")?.object()?;
    Ok(Some(Tool::new(name, description, Some(schema))))
}
