use http::HeaderMap;
use thinpipe_transport::upstream::UpstreamConfig;

use super::*;

fn connect() -> UpstreamError {
    UpstreamError::Connect {
        upstream: "up".into(),
        source: std::io::ErrorKind::ConnectionRefused.into(),
    }
}

fn timed_out(written: bool) -> UpstreamError {
    UpstreamError::TimedOut {
        upstream: "up".into(),
        what: "answer",
        after: Duration::from_secs(1),
        written,
    }
}

fn others() -> [UpstreamError; 4] {
    let upstream = || "up".into();
    [
        UpstreamError::Exhausted {
            upstream: upstream(),
            limit: 1,
        },
        UpstreamError::TooManyStreams {
            upstream: upstream(),
            limit: 1,
        },
        UpstreamError::Malformed {
            upstream: upstream(),
            reason: String::new(),
        },
        UpstreamError::Redirect {
            upstream: upstream(),
            location: String::new(),
            why: "",
        },
    ]
}

fn lost() -> UpstreamError {
    UpstreamError::Lost {
        upstream: "up".into(),
        source: None,
    }
}

/// C19: what speaks against a replica, all of it, and what does not.
#[test]
fn c19_these_are_failures() {
    for error in [connect(), timed_out(false), timed_out(true), lost()] {
        assert_eq!(outcome(&Err(error.into())), Outcome::Failure);
    }
    for error in others() {
        assert_eq!(outcome(&Err(error.into())), Outcome::Unknown);
    }
    let dead = (100..600)
        .filter(|status| is_of_a_dead_server(StatusCode::from_u16(*status).expect("three digits")));
    assert_eq!(dead.collect::<Vec<_>>(), [502, 503, 504]);
}

/// Failover: what was not written goes elsewhere at once; what may have run only if it may run again.
#[test]
fn g9_what_may_have_run_is_not_sent_again() {
    for (error, repeatable, expected) in [
        (connect(), false, Next::Elsewhere),
        (timed_out(false), false, Next::Elsewhere),
        (timed_out(true), false, Next::Done),
        (timed_out(true), true, Next::Again),
        (lost(), false, Next::Done),
        (lost(), true, Next::Again),
    ] {
        let text = format!("{error:?} {repeatable}");
        assert_eq!(next(&Err(error.into()), repeatable), expected, "{text}");
    }
    let [exhausted, others @ ..] = others();
    assert_eq!(next(&Err(exhausted.into()), false), Next::Elsewhere);
    for error in others {
        assert_eq!(next(&Err(error.into()), true), Next::Done);
    }
}

/// F6: replicas have names of their own and the rest in common; the only one has none.
#[test]
fn f6_replicas_are_found_by_name() {
    let client = UpstreamConfig {
        max_streams: 7,
        headers: HeaderMap::new(),
        ..UpstreamConfig::new("up".into(), "http://127.0.0.1:1/mcp".parse().unwrap())
    };
    let mut http = HttpUpstream::new(client);
    let alone = Group::of(&http, HealthConfig::default());
    assert!(!alone.pins() && alone.named("a").is_none());
    let replicas = ["a", "b"].map(|name| {
        let url = format!("http://127.0.0.1:1/{name}").parse().unwrap();
        crate::config::ReplicaConfig::new(name, url)
    });
    http.group = Some(Box::new(crate::config::GroupConfig::new(replicas.into())));
    let group = Group::of(&http, HealthConfig::default());
    assert!(group.pins());
    assert_eq!(group.named("b"), Some(1));
    let config = group.replicas()[1].upstream.config();
    assert_eq!(
        (&*config.name, config.url.path(), config.max_streams),
        ("up/b", "/b", 7)
    );
}
