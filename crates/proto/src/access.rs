//! Host and Origin allow-lists (`protocol.md` 4.3): the guard against DNS rebinding.

/// Which `Host` names and `Origin`s are served.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessPolicy {
    /// Host names (without port: any port; with port: that port), lower case.
    pub hosts: Vec<String>,
    /// Origins, `scheme://host[:port]`, lower case, default ports elided.
    pub origins: Vec<String>,
    /// Loopback names are allowed as hosts and `http://` loopback origins, any port.
    pub loopback: bool,
    /// Any host is allowed (the operator's front proxy checks it).
    pub any_host: bool,
}

impl AccessPolicy {
    /// Whether a `Host` (or `:authority`) value is served. A missing one is not.
    #[must_use]
    pub fn allows_host(&self, host: Option<&[u8]>) -> bool {
        let _ = host;
        unimplemented!()
    }

    /// Whether an `Origin` value is served. A missing one is.
    #[must_use]
    pub fn allows_origin(&self, origin: Option<&[u8]>) -> bool {
        let _ = origin;
        unimplemented!()
    }
}
