//! `hub.options`: the checked settings of a policy, with defaults for missing ones.
//!
//! Settings of a policy called `swap` stand under `policy: {swap: …}` of hub.yaml, or of a model.

use mlua::{Lua, MultiValue, Table, Value};

use crate::api::shown;
use crate::sandbox::wording::{did_you_mean, kind, shown_text};

/// `hub.options(name, defaults, settings?)`; `hub_settings` are those of the hub.
pub(crate) fn options(
    lua: &Lua,
    arguments: MultiValue,
    hub_settings: impl FnOnce() -> mlua::Result<Value>,
) -> mlua::Result<Table> {
    let mut arguments = arguments.into_iter();
    let (name, defaults) = match (arguments.next(), arguments.next()) {
        (Some(Value::String(name)), Some(Value::Table(defaults))) => (name, defaults),
        _ => {
            return Err(mlua::Error::runtime(
                "hub.options: takes the name of the settings and a table of defaults",
            ));
        }
    };
    let settings = match arguments.next() {
        None => hub_settings()?,
        Some(settings) => settings,
    };
    let settings = match &settings {
        Value::Table(settings) => settings.raw_get::<Value>(&name)?,
        _ => {
            return Err(mlua::Error::runtime(
                "hub.options: the third argument is a table of settings, like model.settings",
            ));
        }
    };
    read(lua, &name.to_string_lossy(), &defaults, &settings)
}

fn read(lua: &Lua, name: &str, defaults: &Table, settings: &Value) -> mlua::Result<Table> {
    let given = match settings {
        Value::Nil => lua.create_table()?,
        Value::Table(given) => given.clone(),
        other => return Err(wrong(name, "a mapping", other)),
    };
    let known: Vec<String> = defaults
        .pairs::<String, Value>()
        .map(|pair| Ok(pair?.0))
        .collect::<mlua::Result<_>>()?;
    let options = lua.create_table()?;
    for pair in defaults.pairs::<String, Value>() {
        let (key, value) = pair?;
        options.raw_set(key, value)?;
    }
    for pair in given.pairs::<Value, Value>() {
        let (key, value) = pair?;
        let key = key.to_string()?;
        let default = defaults.raw_get::<Value>(key.as_str())?;
        let path = format!("{name}.{key}");
        let expected = match &default {
            Value::Nil => {
                let hint = did_you_mean(&key, known.iter().map(String::as_str));
                let (name, key) = (shown(name), shown(&key));
                let message = format!("`policy: {name}`: unknown setting `{key}`{hint}");
                return Err(mlua::Error::runtime(message));
            }
            Value::Boolean(_) => "true or false",
            Value::Integer(_) | Value::Number(_) => "a number, 0 or more",
            Value::String(_) => "a text",
            _ => "a list or a mapping",
        };
        if !fits(&default, &value) {
            return Err(wrong(&shown(&path), expected, &value));
        }
        options.raw_set(key, value)?;
    }
    Ok(options)
}

/// True if a value has the type of its default.
fn fits(default: &Value, value: &Value) -> bool {
    match (default, value) {
        (Value::Integer(_) | Value::Number(_), Value::Integer(number)) => *number >= 0,
        (Value::Integer(_) | Value::Number(_), Value::Number(number)) => *number >= 0.0,
        (default, value) => default.type_name() == value.type_name(),
    }
}

fn wrong(place: &str, expected: &str, value: &Value) -> mlua::Error {
    let shown = match value {
        Value::String(text) => format!("\"{}\"", shown_text(text)),
        Value::Integer(_) | Value::Number(_) | Value::Boolean(_) => {
            value.to_string().unwrap_or_default()
        }
        other => kind(other).to_owned(),
    };
    mlua::Error::runtime(format!(
        "`policy: {place}` must be {expected}, it is {shown}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::errors::describe;

    fn read_yaml(defaults: &str, settings: &str) -> Result<String, String> {
        let lua = Lua::new();
        let globals = lua.globals();
        let of = |text: &str| lua.load(text).eval::<Value>().unwrap();
        let arguments = [of("'swap'"), of(defaults), of(settings)];
        let options = options(&lua, arguments.into_iter().collect(), || Ok(Value::Nil));
        let options = options.map_err(|error| error.to_string())?;
        globals.set("options", options).unwrap();
        let shown = lua.load(
            "local all = {}
            for key, value in pairs(options) do table.insert(all, key .. '=' .. tostring(value)) end
            table.sort(all)
            return table.concat(all, ' ')",
        );
        Ok(shown.eval().unwrap())
    }

    #[test]
    fn what_is_left_out_is_the_default() {
        let defaults = "{ seconds = 5, client_header = '', strict = false }";
        for (settings, options) in [
            ("{}", "client_header= seconds=5 strict=false"),
            ("{ other = 1 }", "client_header= seconds=5 strict=false"),
            (
                "{ swap = { seconds = 0.5 } }",
                "client_header= seconds=0.5 strict=false",
            ),
            (
                "{ swap = { strict = true } }",
                "client_header= seconds=5 strict=true",
            ),
        ] {
            assert_eq!(
                read_yaml(defaults, settings).unwrap(),
                options,
                "{settings}"
            );
        }
    }

    #[test]
    fn a_wrong_setting_says_what_would_be_right() {
        let defaults = "{ seconds = 5, names = {} }";
        for (settings, message) in [
            (
                "{ swap = true }",
                "`policy: swap` must be a mapping, it is true",
            ),
            (
                "{ swap = { second = 1 } }",
                "`policy: swap`: unknown setting `second`, did you mean `seconds`?",
            ),
            (
                "{ swap = { seconds = '5' } }",
                "`policy: swap.seconds` must be a number, 0 or more, it is \"5\"",
            ),
            (
                "{ swap = { seconds = -1 } }",
                "`policy: swap.seconds` must be a number, 0 or more, it is -1",
            ),
            (
                "{ swap = { names = 'a' } }",
                "`policy: swap.names` must be a list or a mapping, it is \"a\"",
            ),
        ] {
            let error = read_yaml(defaults, settings).unwrap_err();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn what_it_is_not_called_with_is_told() {
        let lua = Lua::new();
        lua.globals()
            .set(
                "options",
                lua.create_function(|lua, arguments| options(lua, arguments, || Ok(Value::Nil)))
                    .unwrap(),
            )
            .unwrap();
        let told = ["options()", "options('a', 1)", "options('a', {}, 1)"].map(|call| {
            let error = lua.load(call).exec().unwrap_err();
            format!("{call}: {}", describe(&error, ""))
        });
        insta::assert_snapshot!(told.join("\n"), @"
        options(): hub.options: takes the name of the settings and a table of defaults
        options('a', 1): hub.options: takes the name of the settings and a table of defaults
        options('a', {}, 1): hub.options: the third argument is a table of settings, like model.settings
        ");
    }
}
