//! What the kernel says about TCP on this machine: its connections, and free ports.

use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::iter::repeat_with;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::ops::Range;

/// Ports that no kernel gives to connections by itself: one of those may be taken before its server is there.
const PORTS: Range<u16> = 10_000..30_000;

/// A port that nobody has taken a moment ago, for a program that has to be told one.
pub(crate) fn free_port() -> u16 {
    let ports = repeat_with(|| {
        let random = RandomState::new().build_hasher().finish();
        let place = random % u64::from(PORTS.end - PORTS.start);
        PORTS.start + u16::try_from(place).unwrap_or_default()
    });
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let free = ports.take(1_000).find(is_free);
    free.expect("there are free ports")
}

/// Bytes on their way from `local` to `remote`: not yet acknowledged, or acknowledged but not yet read
/// by the program at the other end. `None` if the kernel knows no such connection (any more).
pub(crate) fn in_flight(local: SocketAddr, remote: SocketAddr) -> Option<u64> {
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let (local, remote) = (hex(local)?, hex(remote)?);
    let mut found = None;
    for line in table.lines().skip(1) {
        let mut columns = line.split_ascii_whitespace().skip(1);
        let (Some(from), Some(to)) = (columns.next(), columns.next()) else {
            continue;
        };
        let ours = from == local && to == remote;
        let theirs = from == remote && to == local;
        if !ours && !theirs {
            continue;
        }
        let queues = columns.nth(1)?;
        let (unsent, unread) = queues.split_once(':')?;
        let waiting = u64::from_str_radix(if ours { unsent } else { unread }, 16).ok()?;
        found = Some(found.unwrap_or(0) + waiting);
    }
    found
}

/// An address as `/proc/net/tcp` writes it: the bytes of the address as one native-endian number.
fn hex(address: SocketAddr) -> Option<String> {
    let IpAddr::V4(ip) = address.ip() else {
        return None;
    };
    Some(format!(
        "{:08X}:{:04X}",
        u32::from_ne_bytes(ip.octets()),
        address.port()
    ))
}
