//! The scan of JSON bodies, whatever the chunks.

use proptest::prelude::*;
use serde_json::Value;

use crate::hub::gateway::fuzz::scan_chunks;
use crate::hub::gateway::request::scan::json::Peek;
use crate::hub::gateway::request::scan::{ScanStep, chunks_at};

fn peek(chunks: &[&[u8]]) -> ScanStep {
    let scan = |knows_the_last: bool| {
        let mut peek = Peek::new();
        let mut left = chunks.len();
        scan_chunks(chunks, |chunk| {
            left -= 1;
            match knows_the_last && left == 0 {
                true => peek.feed_last(chunk),
                false => peek.feed(chunk),
            }
        })
    };
    let step = scan(false);
    assert_eq!(scan(true), step, "a glance at the last chunk");
    step
}

/// Every way to cut `text` into two chunks gives the same answer.
fn peek_cut_anywhere(text: &str) -> ScanStep {
    let whole = peek(&[text.as_bytes()]);
    for cut in 0..=text.len() {
        let (one, two) = text.as_bytes().split_at(cut);
        assert_eq!(peek(&[one, two]), whole, "{text:?} cut at {cut}");
    }
    whole
}

fn found(text: &str) -> (String, &str) {
    match peek_cut_anywhere(text) {
        ScanStep::Found(found) => (found.value, &text[found.range]),
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn finds_the_value_and_its_place() {
    assert_eq!(
        found(r#"{"model":"alpha"}"#),
        ("alpha".into(), r#""alpha""#)
    );
    assert_eq!(
        found("\n{ \"stream\" : true ,\t\"model\" :  \"a b\" , \"x\":1}").1,
        "\"a b\""
    );
    assert_eq!(found(r#"{"n":-1.5e3,"model":"a"}"#).0, "a");
}

#[test]
fn reads_escapes_in_key_and_value() {
    assert_eq!(found(r#"{"\u006dodel":"a\"\\\u00e9\/"}"#).0, "a\"\\é/");
    assert_eq!(
        found(r#"{"\u006d\u006f\u0064\u0065\u006c":"a"}"#).1,
        r#""a""#
    );
    assert_eq!(found(r#"{"mode\\":"no","mode":1,"model":"a"}"#).0, "a");
}

#[test]
fn steps_over_nested_models_and_quotes() {
    let text = r#"{"messages":[{"model":"no","content":"}]\"model\":\"no\"\\"}],"model":"yes"}"#;
    assert_eq!(found(text), ("yes".into(), r#""yes""#));
}

#[test]
fn a_second_model_is_noticed_wherever_it_stands_and_however_it_is_written() {
    for text in [
        r#"{"model":"a","model":"b"}"#,
        r#"{"model":"a","model":null}"#,
        r#"{"model":"a","messages":[{"model":"no"},"}"],"n":1.5,"\u006dodel" : "a"}"#,
        r#"{"mod\u0065l":"a","model"#.to_owned().as_str(),
    ] {
        let step = peek_cut_anywhere(&format!("{text}\""));
        assert_eq!(step, ScanStep::Twice, "{text}");
    }
    for text in [
        r#"{"model":"a","x":{"model":"b"},"y":[{"model":"c"}],"z":"\"model\":"}"#,
        r#"{"model":"a"},"model":"b"}"#,
        // The worker refuses it.
        r#"{"model":"a",,"model":"b"}"#,
    ] {
        assert_eq!(found(text).0, "a");
    }
}

#[test]
fn the_mark_of_utf_8_is_passed_over_at_the_beginning() {
    assert_eq!(found("\u{feff} {\"model\":\"a\"}"), ("a".into(), "\"a\""));
    assert_eq!(peek_cut_anywhere(" \u{feff}{}"), ScanStep::Malformed);
    assert_eq!(peek_cut_anywhere("\u{feff}\u{feff}{}"), ScanStep::Malformed);
}

#[test]
fn says_why_there_is_none() {
    assert_eq!(peek_cut_anywhere("{}"), ScanStep::Absent);
    assert_eq!(peek_cut_anywhere(r#"{"a":[1,{}]} "#), ScanStep::Absent);
    assert_eq!(peek_cut_anywhere(r#"{"model":null}"#), ScanStep::NotAString);
    assert_eq!(
        peek_cut_anywhere(r#"{"model":{"name":"a"}}"#),
        ScanStep::NotAString
    );
    for malformed in [
        "[]",
        "model=a",
        "{model",
        r#"{"a" 1"#,
        r#"{"a":1,}"#,
        r#"{"a":,"#,
        r#"{"a":1"b"#,
        r#"{"model":"\x"}"#,
        r#"{"a":"b" "c""#,
    ] {
        assert_eq!(
            peek_cut_anywhere(malformed),
            ScanStep::Malformed,
            "{malformed}"
        );
    }
    assert_eq!(peek_cut_anywhere(r#"{"model":"unfinish"#), ScanStep::More);
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        let key = prop_oneof!["model", "[\"\\\\a-e]{0,6}", ".{0,3}"];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn agrees_with_serde_json_however_it_is_cut(
        before in prop::collection::vec((".{0,6}", json()), 0..4),
        model in json(),
        after in prop::collection::vec((".{0,6}", json()), 0..3),
        pretty: bool,
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut object = serde_json::Map::new();
        object.extend(before);
        object.insert("model".to_owned(), model);
        object.extend(after);
        let value = Value::Object(object);
        let text = if pretty {
            serde_json::to_string_pretty(&value)
        } else {
            serde_json::to_string(&value)
        }.unwrap();
        let step = peek(&chunks_at(text.as_bytes(), &cuts));
        match value["model"].as_str() {
            Some(model) => {
                let ScanStep::Found(found) = step else { panic!("{step:?}") };
                prop_assert_eq!(&found.value, model);
                let written: String = serde_json::from_str(&text[found.range]).unwrap();
                prop_assert_eq!(written, model);
            }
            None => prop_assert_eq!(step, ScanStep::NotAString),
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_cuts_change_nothing(
        bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..80),
            "[\\[\\]{}\",:\\\\modelu0 1]{0,60}".prop_map(String::into_bytes),
        ],
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        prop_assert_eq!(peek(&chunks_at(&bytes, &cuts)), peek(&[&bytes]));
    }
}
