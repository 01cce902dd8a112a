//! The figures of bridges between the eras (K9, E7).

use super::{Figure, plain, ratio_at_most};
use crate::run::target::Target;

/// CPU of a bridged call against that of a passed one of the same size.
const fn bridged(what: &'static str, set: &'static str, target: Target) -> Figure {
    ratio_at_most(what, (set, "cpu_us"), (target, Target::Pass), 2.5)
}

pub(super) const FIGURES: &[Figure] = &[
    bridged(
        "sessions to stateless: CPU per call, against a passed one",
        "upgrade",
        Target::Upgrade,
    ),
    bridged(
        "stateless to sessions: CPU per call, against a passed one",
        "downgrade",
        Target::Downgrade,
    ),
    plain(
        "sessions to stateless: handshakes with the server while 32 clients call",
        "",
        ("upgrade", "handshakes"),
        Target::Upgrade,
        0.0,
        None,
    ),
    plain(
        "stateless to sessions: handshakes with the server while 32 clients call",
        "",
        ("downgrade", "handshakes"),
        Target::Downgrade,
        0.0,
        None,
    ),
    plain(
        "KiB for each of 1,000 parked calls",
        "KiB",
        ("parked", "kib_per_call"),
        Target::Downgrade,
        16.0,
        None,
    ),
];
