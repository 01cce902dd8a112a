//! The worlds there are.

use crate::world::Setting;

/// One gateway, and nothing goes wrong.
pub(crate) const CALM: Setting = Setting {
    gateways: 1,
    clients: 4,
    callers: 1,
    downgrades: false,
    listeners: 0,
    holds: false,
    pools: false,
    shares: false,
    groups: false,
    breaks: false,
    hails: false,
    kills: false,
    restarts: false,
    loses: false,
    outages: false,
};

/// One gateway, and connections break.
pub(crate) const BREAKING: Setting = Setting {
    breaks: true,
    ..CALM
};

/// Three gateways that are killed.
pub(crate) const KILLED: Setting = Setting {
    gateways: 3,
    breaks: true,
    kills: true,
    ..CALM
};

/// The same, and a store that fails.
pub(crate) const STORELESS: Setting = Setting {
    gateways: 3,
    kills: true,
    outages: true,
    ..CALM
};

/// A server that is killed.
pub(crate) const FORGETFUL: Setting = Setting {
    gateways: 2,
    breaks: true,
    loses: true,
    ..CALM
};

/// Sessions that one node holds.
pub(crate) const HELD: Setting = Setting {
    gateways: 3,
    holds: true,
    listeners: 2,
    ..CALM
};

/// The same, and nodes are killed.
pub(crate) const HELD_KILLED: Setting = Setting {
    gateways: 3,
    holds: true,
    listeners: 2,
    breaks: true,
    kills: true,
    ..CALM
};

/// The same, and nodes are asked to stop.
pub(crate) const RESTARTED: Setting = Setting {
    gateways: 3,
    holds: true,
    restarts: true,
    ..CALM
};

/// The same, and the store fails.
pub(crate) const HELD_STORELESS: Setting = Setting {
    gateways: 3,
    holds: true,
    listeners: 1,
    outages: true,
    ..CALM
};

/// The same, and connections break and nodes are killed.
pub(crate) const EVERYTHING: Setting = Setting {
    gateways: 3,
    holds: true,
    listeners: 1,
    breaks: true,
    kills: true,
    outages: true,
    ..CALM
};

/// Clients of one principal share sessions of the server.
pub(crate) const POOLED: Setting = Setting {
    gateways: 2,
    pools: true,
    breaks: true,
    kills: true,
    ..CALM
};

/// All clients share one session of the server.
pub(crate) const SHARED: Setting = Setting {
    gateways: 2,
    shares: true,
    breaks: true,
    kills: true,
    ..CALM
};

/// A server of two replicas that are killed.
pub(crate) const REPLICAS: Setting = Setting {
    gateways: 2,
    groups: true,
    breaks: true,
    kills: true,
    loses: true,
    ..CALM
};

/// Clients of 2026-07-28 use a server with sessions.
pub(crate) const DOWNGRADED: Setting = Setting {
    gateways: 2,
    clients: 1,
    callers: 4,
    downgrades: true,
    breaks: true,
    kills: true,
    ..CALM
};

/// Three gateways, and connections to them break all the time.
pub(crate) const HAILING: Setting = Setting {
    gateways: 3,
    clients: 8,
    callers: 0,
    breaks: true,
    hails: true,
    ..CALM
};

/// The same, and they hold sessions.
pub(crate) const HELD_HAILING: Setting = Setting {
    holds: true,
    ..HAILING
};

/// All of them, by name.
pub(crate) const ALL: [(&str, Setting); 16] = [
    ("calm", CALM),
    ("breaking", BREAKING),
    ("killed", KILLED),
    ("storeless", STORELESS),
    ("forgetful", FORGETFUL),
    ("held", HELD),
    ("held killed", HELD_KILLED),
    ("restarted", RESTARTED),
    ("held storeless", HELD_STORELESS),
    ("everything", EVERYTHING),
    ("pooled", POOLED),
    ("shared", SHARED),
    ("replicas", REPLICAS),
    ("downgraded", DOWNGRADED),
    ("hailing", HAILING),
    ("held hailing", HELD_HAILING),
];
