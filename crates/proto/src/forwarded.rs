//! Who a request comes from when proxies stand in between: `X-Forwarded-For` and `Forwarded`
//! (RFC 7239), believed as far as they were written by proxies that are trusted.
//!
//! Each proxy appends the address that its own request came from. So the list is read from its end:
//! as long as an address is that of a trusted proxy, what it says of the one before is true. The
//! first that is none is the client; what stands before it, the client may have made up.

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use http::{HeaderMap, HeaderName, HeaderValue};

/// `X-Forwarded-For`
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// `Forwarded` (RFC 7239)
pub const FORWARDED: HeaderName = http::header::FORWARDED;

/// More proxies in a row are not followed.
pub const MAX_HOPS: usize = 16;

/// Proxies whose word about clients is taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    /// Where they are.
    pub networks: Vec<Network>,
    /// Where they write. Only one header is believed: the other one they may pass on as a client
    /// wrote it.
    pub header: ForwardedHeader,
}

/// A header that names who a request was forwarded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`: addresses, perhaps with ports.
    #[default]
    XForwardedFor,
    /// `Forwarded`: the `for` of each element.
    Forwarded,
}

impl TrustedProxies {
    /// The addresses that a request came over before `peer`, the client's first; none if the peer is
    /// the client, which it is unless it is a trusted proxy.
    ///
    /// What cannot be read, or is hidden (`unknown`, `_name`), ends the list where it stands.
    #[must_use]
    pub fn trail(&self, peer: IpAddr, headers: &HeaderMap) -> Vec<IpAddr> {
        let mut trail = Vec::new();
        if !self.trusts(peer) {
            return trail;
        }
        let name = match self.header {
            ForwardedHeader::XForwardedFor => X_FORWARDED_FOR,
            ForwardedHeader::Forwarded => FORWARDED,
        };
        let lines: Vec<_> = headers.get_all(name).iter().collect();
        let elements = lines.iter().rev().flat_map(|line| FromEnd(line.as_bytes()));
        for element in elements.map(<[u8]>::trim_ascii).filter(|e| !e.is_empty()) {
            let address = match self.header {
                ForwardedHeader::XForwardedFor => address(element),
                ForwardedHeader::Forwarded => address_of_element(element),
            };
            let Some(address) = address else { break };
            trail.push(address);
            if !self.trusts(address) || trail.len() == MAX_HOPS {
                break;
            }
        }
        trail.reverse();
        trail
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.networks
            .iter()
            .any(|network| network.contains(address))
    }
}

/// The values of both headers for a request that came over these addresses, the client's first.
#[must_use]
pub fn header_values(
    trail: impl Iterator<Item = IpAddr> + Clone,
) -> [(HeaderName, HeaderValue); 2] {
    let join = |element: fn(IpAddr) -> String| {
        let text = trail.clone().map(element).collect::<Vec<_>>().join(", ");
        // Addresses are visible ASCII.
        HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
    };
    let element = |address| match address {
        IpAddr::V4(address) => format!("for={address}"),
        IpAddr::V6(address) => format!("for=\"[{address}]\""),
    };
    [
        (X_FORWARDED_FOR, join(|address| address.to_string())),
        (FORWARDED, join(element)),
    ]
}

/// The elements of a header's list from the last to the first. A comma within quotes is none; quotes
/// that somebody further away left open change nothing about what was appended to them.
struct FromEnd<'a>(&'a [u8]);

impl<'a> Iterator for FromEnd<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let mut quoted = false;
        for (at, byte) in self.0.iter().enumerate().rev() {
            match byte {
                b'"' if !is_escaped(&self.0[..at]) => quoted = !quoted,
                b',' if !quoted => {
                    let element = &self.0[at + 1..];
                    self.0 = &self.0[..at];
                    return Some(element);
                }
                _ => {}
            }
        }
        Some(std::mem::take(&mut self.0))
    }
}

/// Whether the character after this text is escaped: an odd number of backslashes is before it.
fn is_escaped(before: &[u8]) -> bool {
    let slashes = before.iter().rev().take_while(|byte| **byte == b'\\');
    slashes.count() % 2 == 1
}

/// The address in the one `for` of an element of `Forwarded`.
fn address_of_element(element: &[u8]) -> Option<IpAddr> {
    let mut found = None;
    // Whoever has a semicolon in quotes has no address there.
    let pairs = element.split(|byte| *byte == b';');
    for pair in pairs.filter(|pair| !pair.trim_ascii().is_empty()) {
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (pair[..equals].trim_ascii(), pair[equals + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"for") {
            if found.is_some() {
                return None;
            }
            let quoted = value.strip_prefix(b"\"");
            let inner = quoted.map_or(Some(value), |rest| rest.strip_suffix(b"\""))?;
            found = Some(address(inner)?);
        }
    }
    found
}

/// `192.0.2.1`, `192.0.2.1:8080`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:8080`. Ports may be
/// names (RFC 7239 6).
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    if let Some(inner) = text.strip_prefix('[') {
        let (address, port) = inner.split_once(']')?;
        let is_port = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        let address: std::net::Ipv6Addr = address.parse().ok().filter(|_| is_port)?;
        return Some(IpAddr::from(address).to_canonical());
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    let (address, port) = text.split_once(':')?;
    let address: std::net::Ipv4Addr = address.parse().ok()?;
    is_port(port).then_some(address.into())
}

fn is_port(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !text.is_empty() && text.bytes().all(fits)
}

/// A range of addresses: `10.0.0.0/8`, `2001:db8::/32`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// Text that is no [`Network`], and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{mend}")]
pub struct InvalidNetwork {
    /// What to write instead.
    pub mend: String,
}

impl Network {
    /// Whether an address is in it. An IPv4 address is the same one when it is written as IPv6.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let host_bits = u32::from(width(self.address) - self.prefix);
        let network = |address| bits(address).checked_shr(host_bits).unwrap_or(0);
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && network(address) == network(self.address)
    }
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let invalid = |mend: &str| InvalidNetwork {
            mend: mend.to_owned(),
        };
        let text = text.trim();
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let example =
            "write an address or a network, such as 10.0.0.0/8, 192.0.2.1 or 2001:db8::/32";
        let address: IpAddr = address.parse().map_err(|_| invalid(example))?;
        if address != address.to_canonical() {
            return Err(invalid("write IPv4 addresses as such, as in 10.0.0.0/8"));
        }
        let width = width(address);
        let prefix = match prefix {
            None => width,
            Some(prefix) => {
                let number = prefix.parse().ok().filter(|number| *number <= width);
                number.ok_or_else(|| invalid(&format!("a prefix is a number from 0 to {width}")))?
            }
        };
        let network = Self { address, prefix };
        match network.first() {
            first if first == address => Ok(network),
            first => Err(invalid(&format!(
                "the network is {first}/{prefix}; one address alone has no prefix"
            ))),
        }
    }
}

impl Network {
    /// The address that all bits beyond the prefix are 0 in.
    fn first(self) -> IpAddr {
        let host_bits = u32::from(width(self.address) - self.prefix);
        let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
        let first = bits(self.address) & mask;
        match self.address {
            IpAddr::V4(_) => std::net::Ipv4Addr::from_bits(first as u32).into(),
            IpAddr::V6(_) => std::net::Ipv6Addr::from_bits(first).into(),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.prefix == width(self.address) {
            write!(f, "{}", self.address)
        } else {
            write!(f, "{}/{}", self.address, self.prefix)
        }
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}
