//! Where a path leads. The door and the dispatcher both go by it, so that nothing is guarded as one room
//! and answered in another.

/// A part of the hub's one port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// `/v1`, `/upstream`, `/api` (Ollama's and LM Studio's): what reaches workers. The gateway answers.
    Workers,
    /// `/hub`: what controls the hub. The control API and the dashboard answer.
    Hub,
    /// The rest, in which nothing can be done: `/health`, `/metrics`, and what does not exist.
    Hall,
}

impl Room {
    /// The room of a path, which is taken as it is written: nobody behind decodes it first.
    pub(super) fn of(path: &str) -> Self {
        if is_under(path, "/v1") || is_under(path, "/upstream") || is_under(path, "/api") {
            Self::Workers
        } else if is_under(path, "/hub") {
            Self::Hub
        } else {
            Self::Hall
        }
    }
}

/// Whether `path` is `root` or lies below it.
fn is_under(path: &str, root: &str) -> bool {
    path.strip_prefix(root)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_is_its_root_and_what_lies_below_it() {
        for (path, room) in [
            ("/v1", Room::Workers),
            ("/v1/", Room::Workers),
            ("/v1/models", Room::Workers),
            ("/upstream/alpha/x", Room::Workers),
            ("/upstream", Room::Workers),
            ("/api/chat", Room::Workers),
            ("/api/v0/models", Room::Workers),
            ("/apis", Room::Hall),
            ("/hub", Room::Hub),
            ("/hub/v1", Room::Hub),
            ("/upstreams", Room::Hall),
            ("/v11", Room::Hall),
            ("/hubris", Room::Hall),
            ("/V1/models", Room::Hall),
            ("//v1/models", Room::Hall),
            ("/%76%31/models", Room::Hall),
            ("/", Room::Hall),
            ("", Room::Hall),
            ("*", Room::Hall),
        ] {
            assert_eq!(Room::of(path), room, "{path}");
        }
    }
}
