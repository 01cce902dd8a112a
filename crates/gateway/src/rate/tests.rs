use std::collections::BTreeMap;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn rate(text: &str) -> Rate {
    text.parse().expect("a rate")
}

fn named(name: &str) -> Principal {
    Principal::Named(name.into())
}

fn address(text: &str) -> Option<IpAddr> {
    Some(text.parse().expect("an address"))
}

/// The limiter of one upstream, and when it began.
fn limiter(limits: RateLimits, upstream: Option<&str>) -> (Limiter, Instant) {
    let now = Instant::now();
    let rates = Arc::new(Rates::new(limits, now));
    let limiter = rates.limiter(upstream.map(rate), now);
    (limiter.expect("something is limited"), now)
}

fn of_principals(text: &str) -> RateLimits {
    RateLimits {
        principal: Some(rate(text)),
        ..RateLimits::default()
    }
}

impl Limiter {
    fn takes(&self, principal: &Principal, now: Instant) -> bool {
        self.admit(principal, None, 1, now).is_ok()
    }

    fn clients(&self) -> usize {
        lock(&self.rates.used).clients.len()
    }
}

/// C23: who sends too much takes nothing from others.
#[test]
fn c23_each_principal_has_a_rate_of_its_own() {
    let (limiter, begin) = limiter(of_principals("2/min"), None);
    let (alice, bob) = (named("alice"), named("bob"));
    for _ in 0..2 {
        assert!(limiter.takes(&alice, begin));
    }
    for _ in 0..100 {
        assert!(!limiter.takes(&alice, begin));
    }
    assert!(limiter.takes(&bob, begin) && limiter.takes(&bob, begin));
    assert!(limiter.takes(&Principal::Anonymous, begin));
    let later = begin + 30 * SECOND;
    assert!(limiter.takes(&alice, later), "refusals cost nothing");
    assert!(!limiter.takes(&alice, later));
}

/// C23: what one rate refuses takes nothing of the others, whichever it is.
#[test]
fn c23_what_is_refused_takes_nothing_of_any_rate() {
    let limits = RateLimits {
        total: Some(rate("1/h burst 100")),
        ..of_principals("1/h burst 3")
    };
    let (limiter, begin) = limiter(limits, Some("1/s burst 2"));
    let (alice, bob) = (named("alice"), named("bob"));
    assert!(limiter.takes(&alice, begin) && limiter.takes(&alice, begin));
    for _ in 0..50 {
        let excess = limiter.admit(&alice, None, 1, begin).unwrap_err();
        assert_eq!(excess.whose, Whose::Upstream);
        assert_eq!(excess.refused, Refused::For(SECOND));
    }
    let later = begin + 10 * SECOND;
    assert!(limiter.takes(&alice, later), "the third of three");
    for _ in 0..50 {
        let excess = limiter.admit(&alice, None, 1, later).unwrap_err();
        assert_eq!(excess.whose, Whose::Client);
        assert_eq!(excess.rate, rate("1/h burst 3"));
    }
    assert!(limiter.takes(&bob, later), "the second of the server's two");
    let last = limiter.admit(&bob, None, 1, later).unwrap_err();
    assert_eq!(last.refused, Refused::For(SECOND));
}

/// C23: who is told to wait for one rate is not told by the next one to wait on.
#[test]
fn c23_the_wait_is_that_of_the_slowest_rate() {
    let limits = RateLimits {
        total: Some(rate("1/90s")),
        ..of_principals("1/30s")
    };
    let (limiter, begin) = limiter(limits, Some("1/s"));
    let alice = named("alice");
    assert!(limiter.takes(&alice, begin));
    let excess = limiter.admit(&alice, None, 1, begin).unwrap_err();
    assert_eq!(excess.whose, Whose::Gateway);
    assert_eq!(excess.refused, Refused::For(90 * SECOND));
    assert!(!limiter.takes(&alice, begin + 89 * SECOND));
    assert!(limiter.takes(&alice, begin + 90 * SECOND));
}

/// C23: principals of a tier have its rate.
#[test]
fn c23_a_principal_may_have_a_rate_of_its_tier() {
    let gold = |text, others| RateLimits {
        tiers: BTreeMap::from([("gold".to_owned(), rate(text))]),
        tier_of: [("alice", "gold"), ("carol", "lead")]
            .map(|(name, tier)| (name.to_owned(), tier.to_owned()))
            .into(),
        principal: others,
        ..RateLimits::default()
    };
    let passed = |limits| {
        let (limiter, begin) = limiter(limits, None);
        let passed = ["alice", "bob", "carol"].map(|name| {
            let tries = 0..10;
            tries.filter(|_| limiter.takes(&named(name), begin)).count()
        });
        (passed, limiter.clients())
    };
    let all = gold("1/h burst 5", Some(rate("1/h")));
    assert_eq!(passed(all), ([5, 1, 1], 3));
    let said = "who has no rate is not remembered";
    assert_eq!(passed(gold("1/h", None)), ([1, 10, 10], 1), "{said}");
}

/// C23: clients without a principal are one, unless they are told apart by their addresses.
#[test]
fn c23_addresses_are_told_apart_if_that_is_set() {
    let passes = |limiter: &Limiter, text: &str, now| {
        let address = address(text);
        limiter
            .admit(&Principal::Anonymous, address, 1, now)
            .is_ok()
    };
    let (together, begin) = limiter(of_principals("1/h"), None);
    assert!(passes(&together, "192.0.2.1", begin));
    assert!(!passes(&together, "192.0.2.2", begin));

    let limits = RateLimits {
        anonymous: Anonymous::ByAddress,
        ..of_principals("1/h")
    };
    let (apart, begin) = limiter(limits, None);
    for (address, taken) in [
        ("192.0.2.1", true),
        ("192.0.2.2", true),
        ("::ffff:192.0.2.2", false),
        ("2001:db8::1", true),
        ("2001:db8::ffff:1", false),
        ("2001:db8:0:1::1", true),
    ] {
        assert_eq!(passes(&apart, address, begin), taken, "{address}");
    }
    // A principal has its rate wherever it comes from.
    let alice = named("alice");
    let from = |text| apart.admit(&alice, address(text), 1, begin).is_ok();
    assert!(from("192.0.2.9") && !from("192.0.2.10"));
}

/// C23: what is known of clients is bounded, and nobody gets more by being many.
#[test]
fn c23_clients_are_bounded_and_forgotten() {
    let limits = RateLimits {
        anonymous: Anonymous::ByAddress,
        ..of_principals("1/min")
    };
    let (limiter, begin) = limiter(limits, None);
    let from = |n: usize, now| {
        let address = IpAddr::V4(u32::try_from(n).expect("an address").into());
        limiter
            .admit(&Principal::Anonymous, Some(address), 1, now)
            .is_ok()
    };
    assert!((0..MAX_CLIENTS).all(|n| from(n, begin)));
    assert!(from(MAX_CLIENTS, begin), "the first of those without room");
    assert!((1..1000).all(|n| !from(MAX_CLIENTS + n, begin)));
    assert!(!from(0, begin), "who was there is still known");
    assert_eq!(limiter.clients(), MAX_CLIENTS);

    let later = begin + 60 * SECOND;
    assert!(from(MAX_CLIENTS + 7, later));
    assert_eq!(limiter.clients(), 1, "the others have used up nothing");
    let room = lock(&limiter.rates.used).clients.capacity();
    assert!(room < 64, "room for {room} is kept");
}

/// C23: a batch is as many messages as it holds.
#[test]
fn c23_a_batch_counts_its_messages() {
    let (limiter, begin) = limiter(of_principals("1/s burst 5"), None);
    let alice = named("alice");
    assert!(limiter.admit(&alice, None, 4, begin).is_ok());
    let excess = limiter.admit(&alice, None, 3, begin).unwrap_err();
    assert_eq!(excess.refused, Refused::For(2 * SECOND));
    assert!(limiter.takes(&alice, begin), "nothing of it was taken");
    let excess = limiter.admit(&alice, None, 6, begin).unwrap_err();
    assert_eq!(excess.refused, Refused::Forever);
    assert_eq!(excess.rate.burst().get(), 5);
}
