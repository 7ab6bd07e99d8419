//! Paths of Unix sockets: text that fits an address. Opens nothing.

use std::path::Path;

/// `sun_path` of unix(7) has 108 bytes; the last ends the text.
const LONGEST: usize = 107;

/// A path that a socket can have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SocketPath(String);

impl SocketPath {
    /// Takes a path; or says what is wrong with it.
    pub(super) fn new(path: &str) -> Result<Self, String> {
        if path.len() > LONGEST {
            let len = path.len();
            return Err(format!(
                "socket path is {len} bytes; limit {LONGEST}: '{path}'; use a shorter folder, such \
                 as one in /tmp"
            ));
        }
        if path.contains('\0') {
            return Err("socket path has a zero byte in it".into());
        }
        Ok(Self(path.to_owned()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_107_bytes_at_most() {
        assert!(SocketPath::new(&"x".repeat(107)).is_ok());
        let error = SocketPath::new(&"x".repeat(131)).unwrap_err();
        assert!(error.starts_with("socket path is 131 bytes; limit 107"), "{error}");
    }
}
