//! Host and Origin allow-lists (protocol notes 4.3): the guard against DNS rebinding, where a
//! foreign page makes a browser talk to a server on its user's machine.

#[cfg(test)]
mod tests;

use std::net::Ipv6Addr;

/// Which `Host` names and `Origin`s are served.
///
/// Both come from the peer, and are only ever compared; what does not parse is refused. The
/// comparison allocates nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessPolicy {
    /// Host names (without port: any port; with port: that port), lower case.
    pub hosts: Vec<String>,
    /// Origins, `scheme://host[:port]`, lower case, default ports elided. `null` is one like any other.
    pub origins: Vec<String>,
    /// Loopback names are allowed as hosts and `http://` loopback origins, any port.
    pub loopback: bool,
    /// Any host is allowed (the operator's front proxy checks it).
    pub any_host: bool,
}

impl AccessPolicy {
    /// Whether a `Host` (or `:authority`) value is served. A missing one is not.
    ///
    /// A trailing dot of the name does not matter. An entry for port 80 or 443 is also met by a
    /// value without a port.
    #[must_use]
    pub fn allows_host(&self, host: Option<&[u8]>) -> bool {
        let Some(host) = host else { return false };
        if self.any_host {
            return true;
        }
        let Some(host) = Authority::parse(host) else {
            return false;
        };
        let allowed = |entry: &String| {
            let Some(entry) = Authority::parse(entry.as_bytes()) else {
                return false;
            };
            let port = match (entry.port, host.port) {
                (None, _) => true,
                (Some(80 | 443), None) => true,
                (wanted, port) => wanted == port,
            };
            port && entry.host.same_machine(host.host)
        };
        self.loopback && host.host.is_loopback() || self.hosts.iter().any(allowed)
    }

    /// Whether an `Origin` value is served. A missing one is: only browsers send it.
    ///
    /// Scheme, host and port must all agree, where a default port may be left out.
    #[must_use]
    pub fn allows_origin(&self, origin: Option<&[u8]>) -> bool {
        let Some(origin) = origin else { return true };
        if origin == b"null" {
            return self.origins.iter().any(|entry| entry == "null");
        }
        let Some(origin) = Origin::parse(origin) else {
            return false;
        };
        let local = origin.scheme.eq_ignore_ascii_case(b"http") && origin.at.host.is_loopback();
        self.loopback && local
            || self.origins.iter().any(|entry| {
                Origin::parse(entry.as_bytes()).is_some_and(|entry| entry.is_same(origin))
            })
    }
}

/// `scheme://host[:port]`, and nothing behind it.
#[derive(Clone, Copy)]
struct Origin<'a> {
    scheme: &'a [u8],
    at: Authority<'a>,
}

impl<'a> Origin<'a> {
    fn parse(text: &'a [u8]) -> Option<Self> {
        let end = memchr::memmem::find(text, b"://")?;
        let scheme = &text[..end];
        let valid = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
        if !scheme.first()?.is_ascii_alphabetic() || !scheme.iter().all(valid) {
            return None;
        }
        Some(Self {
            scheme,
            at: Authority::parse(&text[end + 3..])?,
        })
    }

    fn is_same(self, other: Self) -> bool {
        self.scheme.eq_ignore_ascii_case(other.scheme)
            && self.port() == other.port()
            && self.at.host.is_same(other.at.host)
    }

    fn port(self) -> Option<u16> {
        let default =
            |scheme: &[u8], port| self.scheme.eq_ignore_ascii_case(scheme).then_some(port);
        self.at
            .port
            .or_else(|| default(b"http", 80))
            .or_else(|| default(b"https", 443))
    }
}

/// `host[:port]`, without user information.
#[derive(Clone, Copy)]
struct Authority<'a> {
    host: Host<'a>,
    port: Option<u16>,
}

#[derive(Clone, Copy)]
enum Host<'a> {
    /// A name or an IPv4 address, as it came.
    Name(&'a [u8]),
    V6(Ipv6Addr),
}

impl<'a> Authority<'a> {
    fn parse(text: &'a [u8]) -> Option<Self> {
        let (host, rest) = if let [b'[', inner @ ..] = text {
            let end = memchr::memchr(b']', inner)?;
            let address = std::str::from_utf8(&inner[..end]).ok()?;
            (Host::V6(address.parse().ok()?), &inner[end + 1..])
        } else {
            let end = memchr::memchr(b':', text).unwrap_or(text.len());
            let (name, rest) = text.split_at(end);
            // An `@` would make what is before it user information, and the host something else.
            let valid = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
            if name.is_empty() || !name.iter().all(valid) {
                return None;
            }
            (Host::Name(name), rest)
        };
        let port = match rest {
            [] => None,
            [b':', digits @ ..] if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => {
                Some(std::str::from_utf8(digits).ok()?.parse().ok()?)
            }
            _ => return None,
        };
        Some(Self { host, port })
    }
}

impl Host<'_> {
    /// `localhost`, `127.0.0.1` or `[::1]`, and no other way to write them.
    fn is_loopback(self) -> bool {
        match self {
            Self::Name(name) => {
                let name = without_dot(name);
                name.eq_ignore_ascii_case(b"localhost") || name == b"127.0.0.1"
            }
            Self::V6(address) => address == Ipv6Addr::LOCALHOST,
        }
    }

    fn is_same(self, other: Self) -> bool {
        match (self, other) {
            (Self::Name(one), Self::Name(other)) => one.eq_ignore_ascii_case(other),
            (Self::V6(one), Self::V6(other)) => one == other,
            _ => false,
        }
    }

    /// As [`Self::is_same`]; the dot that ends a full domain name does not make it another one.
    fn same_machine(self, other: Self) -> bool {
        match (self, other) {
            (Self::Name(one), Self::Name(other)) => {
                without_dot(one).eq_ignore_ascii_case(without_dot(other))
            }
            _ => self.is_same(other),
        }
    }
}

fn without_dot(name: &[u8]) -> &[u8] {
    name.strip_suffix(b".").unwrap_or(name)
}
