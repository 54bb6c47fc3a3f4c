//! The variables of the environment that say whether, where and how traces are sent, as far as the exporter does
//! not read them itself.

use std::time::Duration;

/// The exporter's own default.
const TIMEOUT: Duration = Duration::from_secs(10);

const SAMPLERS: [&str; 6] = [
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
];

/// How traces are sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TraceSettings {
    /// Longest time of one attempt.
    pub(super) timeout: Duration,
    /// True if the environment names the service.
    pub(super) names_service: bool,
}

/// Reads them; `None` where no traces are wanted.
///
/// # Errors
/// One sentence: when a variable has a value that the hub cannot follow.
pub(super) fn read(
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<TraceSettings>, String> {
    let set = |name: &str| {
        let value = variable(name)?.trim().to_owned();
        (!value.is_empty()).then_some(value)
    };
    // The signal's own variable comes before that of all signals.
    let either = |rest: &str| {
        [
            format!("OTEL_EXPORTER_OTLP_TRACES_{rest}"),
            format!("OTEL_EXPORTER_OTLP_{rest}"),
        ]
        .into_iter()
        .find_map(|name| set(&name).map(|value| (name, value)))
    };
    let is =
        |name: &str, word: &str| set(name).is_some_and(|value| value.eq_ignore_ascii_case(word));
    let Some((endpoint_name, endpoint)) = either("ENDPOINT") else {
        return Ok(None);
    };
    if is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none") {
        return Ok(None);
    }
    let is_http = (endpoint.parse::<http::Uri>().ok()).is_some_and(|uri| {
        uri.host().is_some() && matches!(uri.scheme_str(), Some("http" | "https"))
    });
    if !is_http {
        return Err(format!(
            "`{endpoint_name}` is no URL such as `http://localhost:4318`"
        ));
    }
    if let Some((name, protocol)) = either("PROTOCOL")
        && protocol != "http/protobuf"
    {
        return Err(format!(
            "`{name}` is `{protocol}`; the hub sends `http/protobuf` alone, which collectors take on port 4318"
        ));
    }
    if let Some(sampler) = set("OTEL_TRACES_SAMPLER")
        && !SAMPLERS.contains(&&*sampler)
    {
        return Err(format!(
            "`OTEL_TRACES_SAMPLER` is `{sampler}`; the hub has {}",
            SAMPLERS.map(|sampler| format!("`{sampler}`")).join(", ")
        ));
    }
    let timeout = match either("TIMEOUT") {
        None => TIMEOUT,
        Some((name, value)) => match value.parse() {
            Ok(milliseconds) => Duration::from_millis(milliseconds),
            Err(_) => {
                return Err(format!(
                    "`{name}` is `{value}`, which is no number of milliseconds"
                ));
            }
        },
    };
    let of_resource = set("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
    let mut attributes = of_resource
        .split(',')
        .filter_map(|entry| entry.split_once('='));
    Ok(Some(TraceSettings {
        timeout,
        names_service: set("OTEL_SERVICE_NAME").is_some()
            || attributes.any(|(key, _)| key.trim() == "service.name"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Option<TraceSettings>, String> {
        read(&|name| {
            let mut found = variables.iter().filter(|(other, _)| *other == name);
            found.next().map(|(_, value)| (*value).to_owned())
        })
    }

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318");

    #[test]
    fn traces_are_sent_if_a_collector_is_named_and_nothing_forbids_it() {
        for variables in [
            &[][..],
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")],
            &[("OTEL_SERVICE_NAME", "hub")],
            &[ENDPOINT, ("OTEL_SDK_DISABLED", "TRUE")],
            &[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none")],
        ] {
            assert_eq!(of(variables), Ok(None), "{variables:?}");
        }
        let plain = TraceSettings {
            timeout: TIMEOUT,
            names_service: false,
        };
        assert_eq!(of(&[ENDPOINT]), Ok(Some(plain)));
        let traces = "https://collector:4318/v1/traces";
        let settings = of(&[
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", traces),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "1"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "2500"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_RESOURCE_ATTRIBUTES", "a=b, service.name=mine"),
        ]);
        let expected = TraceSettings {
            timeout: Duration::from_millis(2500),
            names_service: true,
        };
        assert_eq!(settings, Ok(Some(expected)));
    }

    #[test]
    fn a_variable_that_cannot_be_followed_is_named_with_what_would_be_right() {
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "localhost:4318"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_TRACES_SAMPLER", "sometimes"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "10s"),
        ] {
            let error = of(&[(name, value), ENDPOINT]).unwrap_err();
            assert!(error.contains(name), "{error}");
        }
        let error = of(&[ENDPOINT, ("OTEL_TRACES_SAMPLER", "sometimes")]).unwrap_err();
        insta::assert_snapshot!(error, @"`OTEL_TRACES_SAMPLER` is `sometimes`; the hub has `always_on`, `always_off`, `traceidratio`, `parentbased_always_on`, `parentbased_always_off`, `parentbased_traceidratio`");
    }
}
