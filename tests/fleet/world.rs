//! The hubs and the gateway, each a machine of a network in this one.

use std::path::{Path, PathBuf};

use crate::door::Door;
use crate::member::Member;
use crate::support::home::Home;
use crate::support::network::{Line, Network, Tools};

/// The gateway's program.
pub(crate) fn smg() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/smg/bin/smg")
}

/// The machines.
pub(crate) struct World {
    pub(crate) network: Network,
}

impl World {
    /// Without a machine yet; `None` where what makes them or the gateway that tests/run installs is missing, and with
    /// CI=true that is a failure.
    #[expect(clippy::print_stdout, reason = "what the test run did not check")]
    pub(crate) fn met() -> Option<Self> {
        let found = Tools::find().and_then(|tools| match smg() {
            smg if smg.exists() => Ok(Self {
                network: Network::new(tools),
            }),
            smg => Err(format!("the gateway is not at {}", smg.display())),
        });
        if let Err(missing) = &found {
            println!("not run: fleet: {missing}");
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "no fleet");
        }
        found.ok()
    }

    /// A gateway, which is not started.
    pub(crate) fn door(&mut self) -> Door {
        Door::at(self.network.place(Line::Short))
    }

    /// A gateway that runs.
    pub(crate) fn open_door(&mut self) -> Door {
        let mut door = self.door();
        door.open(&[]);
        door
    }

    /// A hub with these models, which is started.
    pub(crate) fn hub(&mut self, name: &str, door: &Door, models: &[&str]) -> Member {
        self.hub_on(Line::Short, name, door, models)
    }

    /// The same on a line of that kind.
    pub(crate) fn hub_on(
        &mut self,
        line: Line,
        name: &str,
        door: &Door,
        models: &[&str],
    ) -> Member {
        let member = self.idle_hub(line, name, Some(door));
        member.configure(models);
        member.start();
        member
    }

    /// The same that registers nowhere.
    pub(crate) fn lone_hub(&mut self, name: &str, models: &[&str]) -> Member {
        let member = self.idle_hub(Line::Short, name, None);
        member.configure(models);
        member.start();
        member
    }

    /// A hub that is neither configured nor started.
    pub(crate) fn idle_hub(&mut self, line: Line, name: &str, door: Option<&Door>) -> Member {
        Member {
            place: self.network.place(line),
            home: Home::with_stub(""),
            name: name.to_owned(),
            door: door.map(Door::url),
            variables: Vec::new(),
        }
    }
}
