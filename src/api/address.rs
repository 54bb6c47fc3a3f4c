//! The address at which a browser on this machine reaches a hub, for the dashboard and `start`.

/// True if a hub bound to `host` listens on every address of the machine.
pub fn is_all_addresses(host: &str) -> bool {
    matches!(host, "0.0.0.0" | "::" | "[::]")
}

/// Host and port of a URL for a hub bound to `host`: all addresses are shown as localhost, IPv6 stands
/// in brackets.
pub fn local_authority(host: &str, port: u16) -> String {
    if is_all_addresses(host) {
        return format!("localhost:{port}");
    }
    if host.contains(':') && !host.starts_with('[') {
        return format!("[{host}]:{port}");
    }
    format!("{host}:{port}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authority_is_one_that_a_browser_can_open() {
        for (host, authority) in [
            ("0.0.0.0", "localhost:8000"),
            ("::", "localhost:8000"),
            ("[::]", "localhost:8000"),
            ("127.0.0.1", "127.0.0.1:8000"),
            ("::1", "[::1]:8000"),
            ("[fe80::1]", "[fe80::1]:8000"),
            ("studio.local", "studio.local:8000"),
        ] {
            assert_eq!(local_authority(host, 8000), authority, "{host}");
        }
    }
}
