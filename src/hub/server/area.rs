//! The area of the port that a path belongs to. The door and the dispatcher share it, so that no request is
//! guarded as one area and answered in another.

/// An area of the hub's one port, by the base of its paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Area {
    /// `/v1`, `/upstream`, `/api` (Ollama's and LM Studio's): requests for workers. The gateway answers.
    Workers,
    /// `/hub`: requests that control the hub. The control API and the dashboard answer.
    Hub,
    /// The rest, which changes nothing: `/health`, `/metrics`, and unknown paths.
    Public,
}

impl Area {
    /// The area of a path, taken as written: nothing behind decodes it first.
    pub(super) fn of(path: &str) -> Self {
        if is_under(path, "/v1") || is_under(path, "/upstream") || is_under(path, "/api") {
            Self::Workers
        } else if is_under(path, "/hub") {
            Self::Hub
        } else {
            Self::Public
        }
    }
}

/// True for a path below which the hub itself answers what there is, and asks no worker.
pub(super) fn is_list(path: &str) -> bool {
    const LISTS: [&str; 5] = [
        "/v1/models",
        "/api/tags",
        "/api/ps",
        "/api/version",
        "/api/v0/models",
    ];
    LISTS.into_iter().any(|list| is_under(path, list))
}

/// True if `path` is `root` or lies below it.
fn is_under(path: &str, root: &str) -> bool {
    path.strip_prefix(root)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_area_is_its_root_and_what_lies_below_it() {
        for (path, area) in [
            ("/v1", Area::Workers),
            ("/v1/", Area::Workers),
            ("/v1/models", Area::Workers),
            ("/upstream/alpha/x", Area::Workers),
            ("/upstream", Area::Workers),
            ("/api/chat", Area::Workers),
            ("/api/v0/models", Area::Workers),
            ("/apis", Area::Public),
            ("/hub", Area::Hub),
            ("/hub/v1", Area::Hub),
            ("/upstreams", Area::Public),
            ("/v11", Area::Public),
            ("/hubris", Area::Public),
            ("/V1/models", Area::Public),
            ("//v1/models", Area::Public),
            ("/%76%31/models", Area::Public),
            ("/", Area::Public),
            ("", Area::Public),
            ("*", Area::Public),
        ] {
            assert_eq!(Area::of(path), area, "{path}");
        }
    }
}
