//! An edit of a file of any form does what was asked for, or nothing.

use proptest::prelude::*;

use super::*;

fn entry(name: &str) -> NewEntry {
    NewEntry(vec![
        ("name", EntryValue::Text(name.to_owned())),
        ("model_path", EntryValue::Text("org/new: model".to_owned())),
        ("jit_enabled", EntryValue::Flag(true)),
        ("auto_unload_minutes", EntryValue::Number(30)),
    ])
}

/// The text with the entry; then without it, which must be the text as it was.
#[track_caller]
fn there_and_back(text: &str) -> String {
    let edit = add(text, &entry("new")).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert!(edit.range.is_empty(), "it takes something away");
    let added = edit.apply(text);
    let back = remove(&added, "new").unwrap_or_else(|error| panic!("{error}\n{added}"));
    assert_eq!(back.text, "", "it writes something");
    assert_eq!(back.apply(&added), text, "after\n{added}");
    added
}

#[test]
fn an_entry_comes_after_the_last_one_in_the_style_of_the_list() {
    let told = [
        "models:\n  - name: a\n    model_path: b\n",
        "models:\n- name: a\n  model_path: b\nport: 1\n",
        "models:\n\n  # one\n  - name: a\n    model_path: b   # its path\n    # jit: true\n\n  - {name: b, model_path: c}\n\n# groups\ngroups: []\n",
        "models: [{name: a, model_path: b}]  # all\nport: 1\n",
        "models: [\n  {name: a, model_path: b},\n  {name: c, model_path: d},\n]\n",
        "models:\n  -\n    name: a\n    model_path: b\n...\n",
        "models:\n  - name: a\n    env:\n      A: |\n        text\n",
    ]
    .map(there_and_back);
    insta::assert_snapshot!(told.join("=====\n"));
}

#[test]
fn odd_forms_are_edited_too() {
    for text in [
        "models:\r\n  - name: a\r\n    model_path: b\r\nport: 1\r\n",
        "models:\n  - name: a\n    model_path: b",
        "models:\r\n  - name: a\r\n\r\n  - name: b",
        "\u{feff}models:\n  - name: a\n",
        "models:\t# tab\n  - name:\ta\n    model_path:\tb\n",
        "models:\n  - &a\n    name: a\n  - <<: *a\n    name: b\n",
        "models:\n  # first\n  -  name: ä\n     model_path: 'ö\n\n       ü'\n",
        "---\nmodels:\n    - name: a\n---\n",
        "models: [ {name: a}, {name: b} , ]\n",
        "models: &all [{name: a}]\nother: *all\n",
        "\"models\":\n  - name: a\n    policy: {deep: [1, {x: ]}]}\n",
        "? models\n: - name: a\n",
        "models: !!seq\n  - name: a\n",
        "{models: [{name: a}], port: 1}\n",
        "models:\n  - name: a\n    args: >-\n      folded\n\n      text\n\n\nport: 1\n",
        "models:\n  - name: a\n    args: |+\n      kept\n\n\nport: 1\n",
        "models:\n  - name: a\n    args: |\n      # no comment\n    # a comment\n",
        "models:\n  - # of a\n    # more\n    name: a\nport: 1\n",
    ] {
        match add(text, &entry("new")) {
            Err(EditError::Invalid) => assert!(root(text).is_err(), "{text}"),
            Err(EditError::Unsafe(_)) => {}
            Err(error) => panic!("{error}\n{text}"),
            Ok(_) => {
                there_and_back(text);
            }
        }
    }
}

#[test]
fn a_file_without_models_gets_them() {
    let told = [
        "",
        "port: 1",
        "# mine\n",
        "port: 1\n...\n",
        "models:\n",
        "models:   # mine\nport: 1\n",
        "models: []\n",
    ]
    .map(there_and_back);
    insta::assert_snapshot!(told.join("=====\n"));
}

#[test]
fn an_only_entry_goes_and_its_key_where_that_came_with_it() {
    for (text, left) in [
        ("models:\n  - name: a\n", "models:\n"),
        ("models: [{name: a}]\n", "models: []\n"),
        ("port: 1\nmodels:\n- name: a\n", "port: 1\n"),
        ("models:\n- name: a\nport: 1\n", "models:\nport: 1\n"),
        ("models: # mine\n- name: a\n", "models: # mine\n"),
        ("models:\n# mine\n- name: a\n", "models:\n# mine\n"),
        ("models:\n- name: a\n# end\n", "models:\n# end\n"),
    ] {
        assert_eq!(remove(text, "a").unwrap().apply(text), left, "{text}");
        assert!(lacks_models(left), "{left}");
        assert!(!lacks_models(text), "{text}");
    }
    assert!(lacks_models("") && lacks_models("# mine\n"));
    assert!(!lacks_models("models: text\n") && !lacks_models("- a\n") && !lacks_models("a: [\n"));
}

#[test]
fn any_entry_is_removed_and_no_other_line() {
    let text = "models:\n  # first\n  - name: a\n    model_path: x\n\n  # second\n  - name: b\n    # more\n\n  - {name: c}  # third\nport: 1\n";
    let told = ["a", "b", "c"].map(|name| remove(text, name).unwrap().apply(text));
    insta::assert_snapshot!(told.join("=====\n"));
    let flow = "models: [{name: a}, {name: b},\n  {name: c}, ]\n";
    let told = ["a", "b", "c"].map(|name| remove(flow, name).unwrap().apply(flow));
    insta::assert_snapshot!(told.join(""), @"
    models: [{name: b},
      {name: c}, ]
    models: [{name: a},
      {name: c}, ]
    models: [{name: a}, {name: b}, ]
    ");
    // A text without a line end at its end gets one only where its last value needs it.
    for left in [
        "models:\n- name: a",
        "models:\n- name: a\n  text: |\n    lines\n",
    ] {
        let text = format!("{}\n- name: b", left.trim_end());
        assert_eq!(remove(&text, "b").unwrap().apply(&text), left);
    }
}

#[test]
fn what_cannot_be_edited_safely_is_refused() {
    let new = entry("new");
    for text in [
        "all: &all [{name: a}]\nmodels: *all\n",
        "base: &base\n  models: [{name: a}]\n<<: *base\n",
        "models: ~\n",
        "models: text\n",
        "models: {name: a}\n",
        "models: [{name: a}]\nmodels: [{name: b}]\n",
        "- models\n",
        "models: [\n",
    ] {
        assert!(add(text, &new).is_err(), "{text}");
    }
    let anchored = "models:\n  - &a\n    name: a\n  - <<: *a\n    name: b\n";
    assert!(matches!(remove(anchored, "a"), Err(EditError::Unsafe(_))));
    assert_eq!(
        remove(anchored, "c"),
        Err(EditError::Unknown("c".to_owned()))
    );
    assert!(remove("models: *x\n", "a").is_err());
}

#[test]
fn texts_are_quoted_where_they_would_mean_something_else() {
    for text in [
        "a",
        "org/Name-1.5_x",
        "~/models/a b",
        "/x",
        "12",
        "1.5",
        "true",
        "null",
        "~",
        "",
        " a",
        "a ",
        "a: b",
        "a #b",
        "[a]",
        "a, b",
        "{a}",
        "*a",
        "&a",
        "!a",
        "-",
        "- a",
        "?",
        "'",
        "\"",
        "\\",
        "é",
        "a\tb",
        "0x1f",
        "1e3",
        ".inf",
        "yes",
        "%a",
        "@a",
        "`a",
        "|",
        ">",
        "=",
    ] {
        let written = EntryValue::Text(text.to_owned()).to_string();
        for form in [
            format!("a: {written}\n"),
            format!("{{a: {written}, b: 1}}\n"),
        ] {
            let Ok(Node::Map(map)) = root(&form) else {
                panic!("{form}");
            };
            assert_eq!(map.entries["a"], Node::Text(text.to_owned()), "{form}");
        }
    }
}

/// Parts of files that are legal, and some that are not in their place.
fn part() -> impl Strategy<Value = String> {
    let name = "[a-c]{1,2}";
    prop_oneof![
        name.prop_map(|name| format!("  - name: {name}\n    model_path: x\n")),
        name.prop_map(|name| format!("  - {{name: {name}, model_path: 'x # y'}}\n")),
        name.prop_map(|name| format!("  -   name: {name}  # named\n      env: {{A: b}}\n")),
        name.prop_map(|name| format!("  - name: {name}\n    args: [a,\n      b]\n")),
        name.prop_map(|name| format!("  - name: {name}\n    text: |\n      more\n\n      lines\n")),
        Just("\n".to_owned()),
        Just("  # comment\n".to_owned()),
        Just("    # deeper\n".to_owned()),
        Just("# outer\n".to_owned()),
        Just("   \n".to_owned()),
    ]
}

/// `models` with its entries: lines, brackets, nothing, or not there.
fn list() -> impl Strategy<Value = String> {
    let lines = proptest::collection::vec(part(), 0..6)
        .prop_map(|parts| format!("models:\n{}", parts.concat()));
    let item = "[a-c]{1,2}".prop_map(|name| format!("{{name: {name}, model_path: 'x, ] y'}}"));
    let between = prop_oneof![Just(", "), Just(","), Just(",\n  "), Just(" , ")];
    let end = prop_oneof![Just(""), Just(" "), Just(","), Just("\n"), Just(",\n")];
    let begin = prop_oneof![Just("["), Just("[ "), Just("[\n  ")];
    let brackets = (proptest::collection::vec(item, 0..4), begin, between, end).prop_map(
        |(items, begin, between, end)| {
            let end = if items.is_empty() { "" } else { end };
            format!("models: {begin}{}{end}]  # all\n", items.join(between))
        },
    );
    prop_oneof![
        4 => lines,
        3 => brackets,
        1 => Just("models:\n".to_owned()),
        1 => Just("models:   # mine\n".to_owned()),
        2 => Just(String::new()),
    ]
}

fn file() -> impl Strategy<Value = String> {
    let head = prop_oneof![
        Just(""),
        Just("port: 1\n"),
        Just("# head\n\nport: 1\n"),
        Just("---\n")
    ];
    let tail = prop_oneof![
        Just(""),
        Just("groups:\n  - name: g\n"),
        Just("# tail\n"),
        Just("\n\nhost: x\n...\n")
    ];
    (head, list(), tail, any::<bool>(), any::<bool>()).prop_map(
        |(head, list, tail, is_cut, has_cr)| {
            let text = format!("{head}{list}{tail}");
            let text = match is_cut {
                true => text.trim_end().to_owned(),
                false => text,
            };
            match has_cr {
                true => text.replace('\n', "\r\n"),
                false => text,
            }
        },
    )
}

/// The lines of a text without their ends: a last line without one is a line all the same.
fn lines(text: &str) -> Vec<&str> {
    text.lines().collect()
}

/// The tree of a text with that list of entries, or as it is; without the key where it has none, which means the
/// same.
fn tree(text: &str, change: impl FnOnce(&mut Vec<Node>)) -> Node {
    let Ok(Node::Map(mut map)) = root(text) else {
        panic!("no mapping:\n{text}");
    };
    let mut models = match map.entries.get(MODELS) {
        None | Some(Node::Null) => Vec::new(),
        Some(Node::List(items)) => items.clone(),
        Some(other) => panic!("no list: {other:?}"),
    };
    change(&mut models);
    match models.is_empty() {
        true => map.entries.shift_remove(MODELS),
        false => map.entries.insert(MODELS.to_owned(), Node::List(models)),
    };
    Node::Map(map)
}

fn name_of(entry: &Node) -> Option<&Node> {
    match entry {
        Node::Map(map) => map.entries.get("name"),
        _ => None,
    }
}

/// `entry("new")` as a user's file would have it.
fn new_entry() -> Node {
    let text =
        "[{name: new, model_path: 'org/new: model', jit_enabled: true, auto_unload_minutes: 30}]";
    match yaml::parse(&format!("models: {text}\n")).unwrap() {
        Node::Map(map) => match &map.entries[MODELS] {
            Node::List(items) => items[0].clone(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn add_means_what_was_asked_and_remove_takes_it_back(text in file()) {
        let edit = match add(&text, &entry("new")) {
            // A block of lines at the very end has no last line end, and would get one.
            Err(EditError::Unsafe(_)) if text.ends_with("lines") => return Ok(()),
            edit => edit.unwrap(),
        };
        prop_assert!(edit.range.is_empty());
        let added = edit.apply(&text);
        prop_assert_eq!(tree(&added, |_| ()), tree(&text, |models| models.push(new_entry())));
        let back = remove(&added, "new").unwrap().apply(&added);
        prop_assert_eq!(back, text);
    }

    #[test]
    fn remove_takes_one_entry_and_nothing_of_the_others(text in file(), name in "[a-c]{1,2}") {
        let is_its = |entry: &Node| name_of(entry) == Some(&Node::Text(name.clone()));
        let mut there = None;
        let left = tree(&text, |models| {
            there = models.iter().position(is_its);
            if let Some(index) = there {
                models.remove(index);
            }
        });
        let edit = match (there, remove(&text, &name)) {
            (None, removed) => {
                prop_assert_eq!(removed, Err(EditError::Unknown(name)));
                return Ok(());
            }
            (Some(_), removed) => removed.unwrap(),
        };
        prop_assert!(edit.text.is_empty());
        let after = edit.apply(&text);
        prop_assert_eq!(tree(&after, |_| ()), left);
        // Comments around the entry stay.
        let comments = ["  # all", "# head", "# tail", "# outer"];
        for comment in comments {
            prop_assert_eq!(after.matches(comment).count(), text.matches(comment).count(), "{}", comment);
        }
        if !text.contains("models: [") {
            let (before, after) = (lines(&text), lines(&after));
            let head = before.iter().zip(&after).take_while(|(one, other)| one == other).count();
            let gone = before.len() - after.len();
            prop_assert_eq!(&before[head + gone..], &after[head..]);
        }
    }
}
