//! Reads a request's JSON: every error names the field, its value and the expected one.
//!
//! The adapters of all protocols read with it. It knows no protocol.

use std::fmt;

use http::StatusCode;
use serde_json::Value;

use crate::api::{ApiError, shown};

/// A value of a request, with its path.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field<'p, 'v> {
    value: &'v Value,
    parent: Option<&'p Field<'p, 'v>>,
    step: Segment<'v>,
}

#[derive(Debug, Clone, Copy)]
enum Segment<'v> {
    Key(&'v str),
    Item(usize),
}

/// The two forms of a message's content, in all APIs.
pub(super) enum TextOrList<'v, I> {
    Text(&'v str),
    List(I),
}

impl<'p, 'v> Field<'p, 'v> {
    /// The whole body.
    pub(super) fn root(value: &'v Value) -> Self {
        let step = Segment::Key("");
        Self {
            value,
            parent: None,
            step,
        }
    }

    /// The field of that name; `None` when it is absent or null.
    pub(super) fn get(&'p self, key: &'v str) -> Option<Self> {
        let value = self.value.get(key).filter(|value| !value.is_null())?;
        Some(Self {
            value,
            parent: Some(self),
            step: Segment::Key(key),
        })
    }

    /// The same, where there has to be one.
    pub(super) fn must(&'p self, key: &'v str) -> Result<Self, ApiError> {
        self.get(key).ok_or_else(|| {
            let wanted = Self {
                value: &Value::Null,
                parent: Some(self),
                step: Segment::Key(key),
            };
            invalid(&wanted, "is missing")
        })
    }

    /// The items of a list.
    pub(super) fn items(&'p self) -> Result<impl Iterator<Item = Self>, ApiError> {
        let items = self.value.as_array().ok_or_else(|| self.is_no("a list"))?;
        let items = items.iter().enumerate();
        Ok(items.map(|(at, value)| Self {
            value,
            parent: Some(self),
            step: Segment::Item(at),
        }))
    }

    /// A text, or a list of `items`.
    pub(super) fn text_or_list(
        &'p self,
        items: &str,
    ) -> Result<TextOrList<'v, impl Iterator<Item = Self>>, ApiError> {
        if let Some(text) = self.as_str() {
            return Ok(TextOrList::Text(text));
        }
        let list = self.items();
        let list = list.map_err(|_| self.is_no(&format!("a string or a list of {items}")))?;
        Ok(TextOrList::List(list))
    }

    pub(super) fn value(&self) -> &'v Value {
        self.value
    }

    pub(super) fn as_str(&self) -> Option<&'v str> {
        self.value.as_str()
    }

    pub(super) fn string(&self) -> Result<&'v str, ApiError> {
        self.value.as_str().ok_or_else(|| self.is_no("a string"))
    }

    pub(super) fn boolean(&self) -> Result<bool, ApiError> {
        let boolean = self.value.as_bool();
        boolean.ok_or_else(|| self.is_no("true or false"))
    }

    pub(super) fn number(&self) -> Result<&'v Value, ApiError> {
        match self.value {
            Value::Number(_) => Ok(self.value),
            _ => Err(self.is_no("a number")),
        }
    }

    /// A whole number from `least` on.
    pub(super) fn whole(&self, least: i64) -> Result<&'v Value, ApiError> {
        match self.value.as_i64() {
            Some(number) if number >= least => Ok(self.value),
            _ => Err(self.is_no(&format!("a whole number, {least} or more"))),
        }
    }

    pub(super) fn object(&self) -> Result<&'v Value, ApiError> {
        match self.value {
            Value::Object(_) => Ok(self.value),
            _ => Err(self.is_no("an object")),
        }
    }

    /// It should be something else.
    pub(super) fn is_no(&self, wanted: &str) -> ApiError {
        let found = match self.value {
            Value::Null => "null".into(),
            Value::Bool(value) => format!("`{value}`"),
            Value::Number(number) => format!("`{number}`"),
            Value::String(text) => format!("the string `{}`", shown(text)),
            Value::Array(_) => "a list".into(),
            Value::Object(_) => "an object".into(),
        };
        invalid(self, &format!("has to be {wanted}, and is {found}"))
    }
}

impl fmt::Display for Field<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(parent) = self.parent else {
            return Ok(());
        };
        parent.fmt(f)?;
        match self.step {
            Segment::Key(key) if parent.parent.is_none() => f.write_str(key),
            Segment::Key(key) => write!(f, ".{key}"),
            Segment::Item(at) => write!(f, "[{at}]"),
        }
    }
}

/// 400: the request's field `is` not what it should be.
pub(super) fn invalid(field: &Field<'_, '_>, is: &str) -> ApiError {
    let place = field.to_string();
    let message = match &*place {
        "" => format!("The request body {is}."),
        place => format!("`{place}` {is}."),
    };
    ApiError::new(StatusCode::BAD_REQUEST, message).with_param(place)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_complaint_says_where_and_what() {
        let body = json!({"messages": [{"content": 3}], "stop": ["\u{1b}"]});
        let body = Field::root(&body);
        let messages = body.get("messages").unwrap();
        let first = messages.items().unwrap().next().unwrap();
        let content = first.get("content").unwrap();
        let error = content.string().unwrap_err();
        assert_eq!(error.status, 400);
        assert_eq!(
            error.message,
            "`messages[0].content` has to be a string, and is `3`."
        );
        assert_eq!(error.param.as_deref(), Some("messages[0].content"));
        assert_eq!(
            first.must("role").unwrap_err().message,
            "`messages[0].role` is missing."
        );
        let stop = body.get("stop").unwrap();
        let stop = stop.items().unwrap().next().unwrap();
        assert_eq!(
            stop.whole(1).unwrap_err().message,
            "`stop[0]` has to be a whole number, 1 or more, and is the string `\\u{1b}`."
        );
        let list = json!([]);
        assert_eq!(
            Field::root(&list).object().unwrap_err().message,
            "The request body has to be an object, and is a list."
        );
    }
}
