//! The services that run the hub: how many there are, and whether they find the worker programs and models.

use std::path::Path;

use super::finding::Finding;
use crate::cli::service::{Installed, VARIABLES};
use crate::config::{Config, ModelConfig};
use crate::worker::command;

/// The PATH that launchd and systemd give to a service that sets none.
const BARE_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";

/// Looks at the services of a hub.yaml; `here` reads the environment of the terminal.
pub(super) fn check(
    services: &[Installed],
    models: &[ModelConfig],
    here: &dyn Fn(&str) -> Option<String>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    if services.len() > 1 {
        let files = services
            .iter()
            .map(|service| service.file.display().to_string());
        findings.push(
            Finding::warning(format!(
                "{} services run the hub of this hub.yaml, and have one port: {}",
                services.len(),
                files.collect::<Vec<_>>().join(", ")
            ))
            .with_hint(
                "keep one: `service uninstall` removes what `service install` has written, and what has installed \
                 another removes that",
            ),
        );
    }
    for service in services {
        let before = findings.len();
        findings.extend(program(service));
        findings.extend(workers(service, models));
        findings.extend(caches(service, here));
        if !service.is_known {
            let what = format!(
                "The service `{}` is installed, and its manager does not know it",
                service.file.display()
            );
            findings.push(Finding::warning(what).with_hint("`service install` has it loaded"));
        }
        if findings.len() == before {
            findings.push(Finding::ok(format!("Service: {}", service.file.display())));
        }
    }
    findings
}

/// macOS keeps what launchd starts out of the local network until the user allows it, and does not ask.
///
/// <https://developer.apple.com/documentation/technotes/tn3179-understanding-local-network-privacy>
pub(super) fn local_network(services: &[Installed], config: &Config) -> Option<Finding> {
    let has_hosts = config.models.iter().any(|model| !model.hosts().is_empty());
    let goal = match (config.fleet.is_some(), has_hosts) {
        (true, true) => "`fleet` and models with `hosts` need",
        (true, false) => "`fleet` needs",
        (false, true) => "models with `hosts` need",
        (false, false) => return None,
    };
    (!services.is_empty()).then(|| {
        Finding::note(format!(
            "{goal} the local network, out of which macOS keeps a service until you allow it"
        ))
        .with_hint(
            "allow the hub in System Settings > Privacy & Security > Local Network, then run `restart`",
        )
    })
}

/// Advises how to mend the file of a service.
fn mend(service: &Installed) -> &'static str {
    match service.is_ours {
        true => "`service install` writes it anew",
        false => "correct it there, or have `service install` write another",
    }
}

fn program(service: &Installed) -> Option<Finding> {
    let program = service.told.command.first()?;
    let is_missing = program.contains('/') && !Path::new(program).exists();
    is_missing.then(|| {
        let what = format!(
            "The service `{}` runs `{program}`, which is not there",
            service.file.display()
        );
        Finding::broken(what).with_hint(mend(service))
    })
}

/// Worker programs that the service does not find, once each.
fn workers(service: &Installed, models: &[ModelConfig]) -> Vec<Finding> {
    let path = service.told.environment.get("PATH");
    let path = path.map_or(BARE_PATH, |path| path);
    let mut findings: Vec<Finding> = Vec::new();
    for model in models {
        let mut env = model.env.clone();
        env.entry("PATH".to_owned())
            .or_insert_with(|| path.to_owned());
        let is_missing = command::find(&model.worker_command, &env).is_err();
        // One that is not found here either is told as such.
        if !is_missing || command::find(&model.worker_command, &model.env).is_err() {
            continue;
        }
        let program = &model.worker_command[0];
        let what = format!(
            "The service `{}` does not find the worker program `{program}`: its PATH is {path}",
            service.file.display()
        );
        let finding = Finding::broken(what).with_hint(mend(service));
        if !findings.contains(&finding) {
            findings.push(finding);
        }
    }
    findings
}

/// Variables that lead the service to other models than commands.
fn caches(service: &Installed, here: &dyn Fn(&str) -> Option<String>) -> Vec<Finding> {
    let differ = VARIABLES.iter().filter_map(|name| {
        let (its, ours) = (service.told.environment.get(*name), here(name));
        (its != ours.as_ref()).then(|| {
            let shown = |value: Option<&str>| value.map_or("not set".to_owned(), |value| format!("`{value}`"));
            Finding::warning(format!(
                "{name} is {} in the service `{}`, and {} here: they look for models in different places",
                shown(its.map(String::as_str)),
                service.file.display(),
                shown(ours.as_deref()),
            ))
            .with_hint(format!("set it alike; {}", mend(service)))
        })
    });
    differ.collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::finding::told;
    use super::*;
    use crate::cli::service::Told;

    fn service(file: &str, environment: &[(&str, &str)]) -> Installed {
        let environment = environment.iter();
        Installed {
            file: file.into(),
            told: Told {
                command: ["/bin/sh", "serve"].map(str::to_owned).to_vec(),
                environment: environment
                    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                    .collect(),
            },
            is_ours: true,
            is_known: true,
        }
    }

    fn models(worker: &str) -> Vec<ModelConfig> {
        let yaml = format!(
            "worker_command: [{worker}]\nmodels: [{{name: a, model_path: org/a}}, {{name: b, model_path: org/b}}]"
        );
        crate::config::from_yaml(&yaml).models
    }

    #[test]
    fn a_service_that_is_as_it_should_be_is_told_in_a_line() {
        assert_eq!(check(&[], &models("sh"), &|_| None), []);
        let well = check(&[service("/a.service", &[])], &models("sh"), &|_| None);
        assert_eq!(told(&well), "ok: Service: /a.service");
    }

    #[test]
    fn a_service_that_needs_the_local_network_is_told_who_keeps_it_out() {
        let of = |yaml: &str| {
            let models = "models: [{name: a, model_path: org/a}]\n";
            crate::config::from_yaml(&format!("{models}{yaml}"))
        };
        let fleet =
            of("fleet: {gateway: http://door.local:30000, advertise: http://studio.local:8000}");
        let hosts = crate::config::from_yaml(
            "models: [{name: a, model_path: org/a, engine: mlx_lm, hosts: [a.local, b.local]}]",
        );
        let installed = [service("/a.plist", &[])];
        assert_eq!(local_network(&installed, &of("")), None);
        assert_eq!(local_network(&[], &fleet), None);
        let notes = [&fleet, &hosts].map(|config| local_network(&installed, config).unwrap());
        insta::assert_snapshot!(told(&notes), @"
        note: `fleet` needs the local network, out of which macOS keeps a service until you allow it
          hint: allow the hub in System Settings > Privacy & Security > Local Network, then run `restart`
        note: models with `hosts` need the local network, out of which macOS keeps a service until you allow it
          hint: allow the hub in System Settings > Privacy & Security > Local Network, then run `restart`
        ");
    }

    #[test]
    fn two_services_that_run_one_hub_are_told() {
        let other = Installed {
            is_ours: false,
            ..service("/b.service", &[])
        };
        let all = check(&[service("/a.service", &[]), other], &models("sh"), &|_| {
            None
        });
        insta::assert_snapshot!(told(&all[..1]), @"
        warning: 2 services run the hub of this hub.yaml, and have one port: /a.service, /b.service
          hint: keep one: `service uninstall` removes what `service install` has written, and what has installed another removes that
        ");
    }

    #[test]
    fn a_service_that_does_not_find_a_worker_program_is_broken() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("worker-of-this-test");
        std::fs::write(&program, "").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let here = folder.path().display().to_string();
        let models = |path: Option<&str>| {
            let mut models = models("worker-of-this-test");
            let env = path.map(|path| ("PATH".to_owned(), path.to_owned()));
            models[0].env = BTreeMap::from_iter(env);
            models.truncate(1);
            models
        };
        let elsewhere = service("/a.service", &[("PATH", "/nowhere")]);
        // It has a PATH of its own in hub.yaml.
        assert_eq!(workers(&elsewhere, &models(Some(&here))), []);
        // It is not found in this terminal either.
        assert_eq!(workers(&elsewhere, &models(None)), []);
        let sh = super::tests::models("sh");
        let missing = workers(&elsewhere, &sh);
        insta::assert_snapshot!(told(&missing), @"
        broken: The service `/a.service` does not find the worker program `sh`: its PATH is /nowhere
          hint: `service install` writes it anew
        ");
    }

    #[test]
    fn a_service_whose_program_is_gone_or_that_is_not_loaded_or_has_other_caches_is_told() {
        let mut gone = service("/a.service", &[("HF_HOME", "/its")]);
        gone.told.command[0] = "/no/such/hub".to_owned();
        gone.is_known = false;
        let here = |name: &str| (name == "HF_HUB_CACHE").then(|| "/ours".to_owned());
        insta::assert_snapshot!(told(&check(&[gone], &models("sh"), &here)), @"
        broken: The service `/a.service` runs `/no/such/hub`, which is not there
          hint: `service install` writes it anew
        warning: HF_HOME is `/its` in the service `/a.service`, and not set here: they look for models in different places
          hint: set it alike; `service install` writes it anew
        warning: HF_HUB_CACHE is not set in the service `/a.service`, and `/ours` here: they look for models in different places
          hint: set it alike; `service install` writes it anew
        warning: The service `/a.service` is installed, and its manager does not know it
          hint: `service install` has it loaded
        ");
    }
}
