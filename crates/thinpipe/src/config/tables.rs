//! Tables of numbers, sizes and durations: what each key is called, what it may be, and where it goes.
//! Reading, checking and showing them follow from that.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thinpipe_gateway::{CacheConfig, ChildUpstream, HealthConfig, ParkedConfig, PoolConfig};
use thinpipe_proto::balance::{BreakerConfig, MAX_WEIGHT, RetryConfig};
use thinpipe_proto::bridge::DEFAULT_ABSOLUTE_CAP;
use thinpipe_proto::rate::Rate;
use thinpipe_transport::server::{Limits, SessionLimits};
use thinpipe_transport::upstream::UpstreamConfig;

use super::build::Build;
use super::event_log::EventLog;
use super::quantity::{Period, Size};
use super::rate::RawRateKey;
use super::tree::Path;

const MILLION: u64 = 1_000_000;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// The shortest time-out that can be meant.
const SHORTEST: Duration = Duration::from_millis(10);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// `KEY: TYPE in LOW, HIGH` is a key of the file, and the field of that name where it goes; `as FIELD`
/// names another field (`as INNER.FIELD` one further in), `or VALUE` what is allowed beside the range. Keys of
/// other kinds follow in `and { KEY: TYPE; }`: they are read here, and put and shown elsewhere.
macro_rules! table {
    ($(#[$doc:meta])* $raw:ident is $target:ty {
        $( $key:ident: $kind:ident in $low:expr, $high:expr $(, or $also:expr)? $(, as $field:ident $(. $inner:ident)*)?; )*
    } $(and { $( $(#[$other_attribute:meta])* $other:ident: $other_type:ty; )* })?) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub(crate) struct $raw {
            $( pub(crate) $key: Option<$kind>, )*
            $($( $(#[$other_attribute])* pub(crate) $other: $other_type, )*)?
        }

        impl $raw {
            /// Puts what is written, if it is in range, where it is meant.
            pub(super) fn apply(&self, build: &mut Build, at: &Path, target: &mut $target) {
                $(
                    let bounds = Bounds {
                        low: $kind::of($low),
                        high: $kind::of($high),
                        also: [$($kind::of($also))?].first().copied(),
                    };
                    let place = &mut table!(@place target $key $($field $($inner)*)?);
                    *place = build.within(&at.key(stringify!($key)), self.$key, *place, &bounds);
                )*
            }

            /// Whether nothing is written.
            pub(super) fn is_empty(&self) -> bool {
                $( self.$key.is_none() && )* $($( self.$other == Default::default() && )*)? true
            }

            /// What is in effect, as it is written.
            pub(super) fn shown(target: &$target) -> Self {
                Self {
                    $( $key: Some($kind::write(table!(@place target $key $($field $($inner)*)?))), )*
                    $($( $other: Default::default(), )*)?
                }
            }
        }
    };
    (@place $target:ident $key:ident) => { $target.$key };
    (@place $target:ident $key:ident $field:ident $($inner:ident)*) => { $target.$field $(.$inner)* };
}

table! {
    /// `[limits]`
    RawLimits is Limits {
        max_connections: Number in 1, MILLION;
        max_streams: Number in 1, MILLION;
        max_requests: Number in 1, MILLION;
        max_requests_per_session: Number in 1, MILLION;
        max_body: Size in KIB, GIB;
        max_buffered: Size in 64 * KIB, KIB * GIB;
        max_batch: Size in KIB, GIB;
        max_head: Size in KIB, MIB;
        // The reader of heads has room for no more.
        max_headers: Number in 8, 128;
        head_timeout: Period in SHORTEST, HOUR;
        body_timeout: Period in SHORTEST, HOUR;
        idle_timeout: Period in SHORTEST, DAY;
        write_stall: Period in SHORTEST, HOUR;
        // A18: neither off nor so long that proxies on the way give up.
        keep_alive: Period in SHORTEST, 300 * SECOND;
        drain: Period in Duration::ZERO, HOUR;
        max_detached: Number in 0, MILLION;
        detached_timeout: Period in SHORTEST, HOUR;
    } and {
        #[serde(skip_serializing_if = "Option::is_none")]
        rate: Option<Rate>;
        #[serde(skip_serializing_if = "Option::is_none")]
        rate_total: Option<Rate>;
        #[serde(skip_serializing_if = "Option::is_none")]
        rate_key: Option<RawRateKey>;
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        tiers: BTreeMap<String, Rate>;
        #[serde(skip_serializing_if = "RawEventLog::is_empty")]
        event_log: RawEventLog;
    }
}

table! {
    /// `[limits.event_log]`
    RawEventLog is EventLog {
        max_events: Number in 1, MILLION, as limits.max_events;
        max_bytes: Size in KIB, GIB, as limits.max_bytes;
        age: Period in SECOND, DAY, as limits.age;
        finished_for: Period in SECOND, DAY, as limits.finished_for;
        session_bytes: Size in KIB, GIB, as limits.session_bytes;
        total_bytes: Size in MIB, KIB * GIB;
    }
}

table! {
    /// `[sessions]`
    RawSessions is SessionLimits {
        max: Number in 1, 10 * MILLION;
        idle: Period in SHORTEST, 30 * DAY;
        age: Period in SHORTEST, 365 * DAY;
        sweep: Period in SHORTEST, HOUR;
    }
}

table! {
    /// `[upstreams.timeouts]`
    RawTimeouts is UpstreamConfig {
        connect: Period in SHORTEST, DAY, as connect_timeout;
        first_byte: Period in SHORTEST, DAY, as first_byte_timeout;
        idle: Period in SHORTEST, DAY, as idle_timeout;
        request: Period in SHORTEST, DAY, as request_timeout;
        stream_idle: Period in SHORTEST, DAY, as stream_idle_timeout;
    }
}

table! {
    /// `[upstreams.pool]`
    RawPool is UpstreamConfig {
        max_connections: Number in 1, MILLION;
        max_streams: Number in 1, MILLION;
        max_idle: Number in 0, MILLION, as pool_max_idle;
        idle_timeout: Period in SHORTEST, DAY, as pool_idle_timeout;
        rotate_after_requests: Number in 1, u64::from(u32::MAX);
        rotate_after: Period in SECOND, DAY;
    }
}

table! {
    /// `[upstreams.health]`
    RawHealth is HealthConfig {
        // Zero is no interval but means: no checks.
        interval: Period in SHORTEST, HOUR, or Duration::ZERO;
        timeout: Period in SHORTEST, HOUR;
        failures: Number in 1, 1000;
    }
}

table! {
    /// `[upstreams.breaker]`
    RawBreaker is BreakerConfig {
        // Zero is no number of failures but means: no breaker.
        failures: Number in 0, 1000;
        open: Period in SHORTEST, DAY;
        max_open: Period in SHORTEST, DAY;
        probes: Number in 1, 1000;
        successes: Number in 1, 1000;
    }
}

table! {
    /// `[upstreams.retry]`
    RawRetry is RetryConfig {
        percent: Number in 0, 100;
        min_per_second: Number in 0, MILLION;
    }
}

table! {
    /// `[upstreams.process]`
    RawProcess is ChildUpstream {
        max_children: Number in 1, MILLION;
        request_timeout: Period in SHORTEST, HOUR;
        max_noise: Number in 0, MILLION, as process.max_noise;
        stdin_grace: Period in Duration::ZERO, HOUR, as process.stdin_grace;
        term_grace: Period in Duration::ZERO, HOUR, as process.term_grace;
    }
}

table! {
    /// `[upstreams.session_pool]`
    RawSessionPool is PoolConfig {
        max: Number in 1, 10_000;
        total: Number in 1, MILLION;
        idle: Period in SHORTEST, DAY;
        wait: Period in Duration::ZERO, HOUR;
        clients: Number in 1, MILLION;
        roots: Flag in false, true;
    }
}

table! {
    /// `[upstreams.parked]`
    RawParked is ParkedConfig {
        per_principal: Number in 1, MILLION;
        max: Number in 1, MILLION, as total;
        // Beyond the cap of any exchange it would mean nothing.
        age: Period in SHORTEST, DEFAULT_ABSOLUTE_CAP;
    }
}

table! {
    /// `[upstreams.cache]`
    RawCache is CacheConfig {
        enabled: Flag in false, true;
        max_entries: Number in 1, MILLION;
        max_bytes: Size in KIB, KIB * GIB;
    }
}

/// `upstreams.slow_start`
pub(super) const SLOW_START: Bounds<Period> = Bounds::new(Period(Duration::ZERO), Period(DAY));
/// `upstreams.replicas.weight`
pub(super) const WEIGHT: Bounds<Number> = Bounds::new(1, MAX_WEIGHT as u64);
/// `upstreams.list_ttl`
pub(super) const LIST_TTL: Bounds<Period> = Bounds::new(Period(Duration::ZERO), Period(DAY));
/// `upstreams.max_message`
pub(super) const MAX_MESSAGE: Bounds<Size> = Bounds::new(Size(KIB), Size(GIB));
/// `upstreams.max_passed_body`
pub(super) const MAX_PASSED_BODY: Bounds<Size> = Bounds::new(Size(KIB), Size(KIB * GIB));

/// A plain number.
pub(crate) type Number = u64;
/// Yes or no.
pub(crate) type Flag = bool;

/// What a quantity may be.
pub(super) struct Bounds<Q> {
    pub(super) low: Q,
    pub(super) high: Q,
    /// One value more.
    pub(super) also: Option<Q>,
}

impl<Q> Bounds<Q> {
    pub(super) const fn new(low: Q, high: Q) -> Self {
        Self {
            low,
            high,
            also: None,
        }
    }
}

/// What is written for a setting of type `T`.
pub(super) trait Quantity<T>: Copy + PartialOrd + Display {
    fn write(setting: T) -> Self;
    /// The setting; one that is too large for its type is never in range.
    fn read(self) -> T;
}

/// Makes a bound.
trait Of<B> {
    fn of(bound: B) -> Self;
}

macro_rules! quantity {
    ($quantity:ident, $bound:ty, $of:expr; $($setting:ty, $write:expr, $read:expr;)*) => {
        impl Of<$bound> for $quantity {
            fn of(bound: $bound) -> Self {
                $of(bound)
            }
        }
        $(
            impl Quantity<$setting> for $quantity {
                fn write(setting: $setting) -> Self {
                    $write(setting)
                }

                fn read(self) -> $setting {
                    $read(self)
                }
            }
        )*
    };
}

quantity! { Number, u64, |bound| bound;
    u64, |n| n, |n| n;
    usize, |n| n as u64, |n| usize::try_from(n).unwrap_or(usize::MAX);
    u32, u64::from, |n| u32::try_from(n).unwrap_or(u32::MAX);
}
quantity! { Flag, bool, |bound| bound;
    bool, |flag| flag, |flag| flag;
}
quantity! { Size, u64, Size;
    u64, Size, |size: Size| size.0;
    usize, |n| Size(n as u64), |size: Size| usize::try_from(size.0).unwrap_or(usize::MAX);
}
quantity! { Period, Duration, Period;
    Duration, Period, |period: Period| period.0;
}
