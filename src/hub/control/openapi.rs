//! `GET /openapi.json`: the description of the control API, written by hand in
//! `openapi.yaml`. Tests hold it to the route table and to the shape of the status.

use std::sync::LazyLock;

use axum::Json;
use serde_json::Value;

static DESCRIPTION: LazyLock<Value> = LazyLock::new(|| {
    serde_yaml::from_str(include_str!("openapi.yaml")).expect("the tests read this very text")
});

/// The description.
pub(super) fn description() -> &'static Value {
    &DESCRIPTION
}

pub(super) async fn openapi() -> Json<&'static Value> {
    Json(description())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::description;

    #[test]
    fn every_reference_in_the_description_leads_somewhere() {
        fn check(value: &Value, references: &mut usize) {
            match value {
                Value::Object(map) => {
                    if let Some(reference) = map.get("$ref") {
                        let pointer = reference.as_str().unwrap().strip_prefix('#').unwrap();
                        assert!(description().pointer(pointer).is_some(), "{reference}");
                        *references += 1;
                    }
                    map.values().for_each(|value| check(value, references));
                }
                Value::Array(values) => values.iter().for_each(|value| check(value, references)),
                _ => {}
            }
        }
        let mut references = 0;
        check(description(), &mut references);
        assert!(references > 50, "{references}");
    }
}
