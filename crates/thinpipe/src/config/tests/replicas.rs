//! Several replicas of one server.

use std::time::Duration;

use thinpipe_gateway::{GroupConfig, HttpUpstream};
use thinpipe_proto::balance::{BreakerConfig, Config, RetryConfig, Strategy};

use super::{Loaded, Manner, Settings, for_replicas, toml};

fn http(loaded: &Loaded) -> &HttpUpstream {
    loaded.config.gateway.upstreams[0].http().unwrap()
}

fn group(loaded: &Loaded) -> &GroupConfig {
    http(loaded).group.as_deref().expect("a group")
}

const ALL: &str = r#"
[[upstreams]]
replicas = [
    { name = "a", url = "http://h1:1/mcp", weight = 2 },
    { url = "http://h2:2/mcp" },
]
balance = "least_connections"
slow_start = "3s"
shared_sessions = true
breaker = { failures = 4, open = "5s", max_open = "6s", probes = 7, successes = 8 }
retry = { percent = 9, min_per_second = 10 }
"#;

/// C18, C20: every setting reaches its place, and what is shown of it reads back as the same.
#[test]
fn c18_every_setting_of_replicas_reaches_its_place() {
    let first = toml(ALL).unwrap();
    let again = toml(&first.to_toml().unwrap()).unwrap();
    for loaded in [first, again] {
        let group = group(&loaded);
        let seconds = Duration::from_secs;
        assert_eq!(
            group.balance,
            Config {
                strategy: Strategy::LeastConnections,
                breaker: Some(BreakerConfig {
                    failures: 4,
                    open: seconds(5),
                    max_open: seconds(6),
                    probes: 7,
                    successes: 8,
                }),
                slow_start: seconds(3),
            }
        );
        let retry = RetryConfig {
            percent: 9,
            min_per_second: 10,
        };
        assert_eq!((group.retry, group.shared_sessions), (retry, true));
        let replicas = group.replicas.iter();
        let replicas: Vec<_> = replicas
            .map(|it| (&*it.name, it.url.to_string(), it.weight))
            .collect();
        assert_eq!(
            replicas,
            [
                ("a", "http://h1:1/mcp".to_owned(), 2),
                ("h2:2", "http://h2:2/mcp".to_owned(), 1)
            ]
        );
        assert_eq!(http(&loaded).client.url, "http://h1:1/mcp");
    }
}

/// C20: a breaker stands before one server only if that is said, before several unless it is taken away.
#[test]
fn c20_a_breaker_is_there_where_it_is_meant() {
    let one = |more: &str| toml(&format!("[[upstreams]]\nurl = \"http://h/mcp\"\n{more}")).unwrap();
    assert!(http(&one("")).group.is_none());
    let with = one("breaker = { failures = 5 }");
    assert_eq!(group(&with).balance.breaker.unwrap().failures, 5);
    assert!(group(&with).replicas.is_empty());
    let again = toml(&with.to_toml().unwrap()).unwrap();
    assert_eq!(group(&again).balance.breaker.unwrap().failures, 5);
    let several = |more: &str| {
        let text = format!("[[upstreams]]\nreplicas = [{{ url = \"http://h/mcp\" }}]\n{more}");
        toml(&text).unwrap()
    };
    assert_eq!(group(&several("")).balance, Config::default());
    let without = several("breaker = { failures = 0 }");
    assert_eq!(group(&without).balance.breaker, None);
    let again = toml(&without.to_toml().unwrap()).unwrap();
    assert_eq!(group(&again).balance.breaker, None);
}

/// C18: on the command line, by name and weight.
#[test]
fn c18_replicas_may_stand_on_the_command_line() {
    let load = |further: &[&str]| {
        let further: Vec<_> = further.iter().map(ToString::to_string).collect();
        let (manner, flags) = (Manner::default(), Settings::default());
        for_replicas(("http://h:1/mcp", &further), manner, &flags, &|_| None)
    };
    let config = load(&["b=http://h:2/mcp?a=b,weight=3", "c=http://h:3/mcp"]).unwrap();
    let http = config.gateway.upstreams[0].http().unwrap();
    let replicas = http.group.as_ref().unwrap().replicas.iter();
    let replicas: Vec<_> = replicas
        .map(|it| (&*it.name, it.url.to_string(), it.weight))
        .collect();
    assert_eq!(
        replicas,
        [
            ("h:1", "http://h:1/mcp".to_owned(), 1),
            ("b", "http://h:2/mcp?a=b".to_owned(), 3),
            ("c", "http://h:3/mcp".to_owned(), 1)
        ]
    );
    let alone = load(&[]).unwrap();
    assert!(alone.gateway.upstreams[0].http().unwrap().group.is_none());
    for (word, message) in [
        ("http://h:2/mcp?a=b", "`http://h:2/mcp?a=b` is no replica"),
        ("b", "`b` is no replica"),
        ("b=http://h/mcp,weight=x", "is no replica"),
        ("b=h", "`h` is no URL"),
        ("b=http://h/mcp,weight=0", "0 is not from 1 to 1000"),
        ("b c=http://i/mcp", "`b c` cannot be the name of a replica"),
        (
            "b=http://i/mcp,wieght=2",
            "`wieght` is no option of a replica",
        ),
        (
            "b=http://i/mcp,x=1,weight=2",
            "`x` is no option of a replica",
        ),
        (
            "b=http://h:2/mcp,http://x",
            "`http://x` stands behind a comma, and is no option of a replica",
        ),
        (
            "b=http://h:2/a,b/mcp,weight=2",
            "`b/mcp` stands behind a comma",
        ),
        ("b=http://h:2/mcp,", "`` stands behind a comma"),
        (
            "b=http://h:1/mcp",
            "error: --replica b: the replicas `h:1` and `b` have one URL",
        ),
        ("b=h:2/mcp", "error: --replica b: `h:2/mcp` is no URL"),
        ("b=http://i/mcp,weight=0", "error: --replica b: 0 is not"),
    ] {
        let said = load(&[word]).unwrap_err().to_string();
        assert!(said.contains(message), "{word}: {said}");
    }
}

/// F6: the name that a replica has without one can be written, so that its sessions are found under it.
#[test]
fn f6_a_host_and_port_may_be_a_name() {
    for name in ["127.0.0.1:3101", "[::1]:3101"] {
        let text =
            format!("[[upstreams]]\nreplicas = [{{ name = \"{name}\", url = \"http://h/mcp\" }}]");
        let loaded = toml(&text).unwrap();
        assert_eq!(&*group(&loaded).replicas[0].name, name);
        let again = toml(&loaded.to_toml().unwrap()).unwrap();
        assert_eq!(&*group(&again).replicas[0].name, name);
    }
}

/// I5: what is wrong is named with its place, and how to mend it.
#[test]
fn i5_wrong_replicas_are_said_to_be() {
    for (text, message) in [
        ("replicas = []", "0 replicas are not from 1 to 64"),
        ("replicas = [{ name = \"a\" }]", "the replica has no `url`"),
        (
            "replicas = [{ url = \"http://h/mcp\", name = \"a b\" }]",
            "`a b` cannot be the name of a replica",
        ),
        (
            "replicas = [{ url = \"http://h/a\" }, { url = \"http://h/b\" }]",
            "two replicas are called `h`",
        ),
        (
            "replicas = [{ url = \"http://h/mcp\" }, { name = \"a\", url = \"http://h/mcp\" }]",
            "the replicas `h` and `a` have one URL",
        ),
        ("replicas = [{ url = \"h\" }]", "`h` is no URL"),
        (
            "replicas = [{ url = \"http://h/mcp\", weight = 0 }]",
            "0 is not from 1 to 1000",
        ),
        (
            "url = \"http://h/mcp\"\nreplicas = [{ url = \"http://h/mcp\" }]",
            "an upstream has either `url` or `replicas`",
        ),
        (
            "url = \"http://h/mcp\"\nbalance = \"random\"",
            "`balance` means something only where there is a `replicas`",
        ),
        (
            "command = \"ls\"\nreplicas = [{ url = \"http://h/mcp\" }]",
            "an upstream has either `command` or `replicas`",
        ),
        (
            "command = \"ls\"\nbalance = \"random\"",
            "`balance` means something only where there is a `replicas`",
        ),
        (
            "url = \"http://h/mcp\"\nbreaker = { open = \"2s\", max_open = \"1s\" }",
            "`breaker.max_open` is shorter than `breaker.open`",
        ),
    ] {
        let text = format!("[[upstreams]]\n{text}\n");
        let said = toml(&text).expect_err(&text).to_string();
        let first = said.lines().next().unwrap();
        assert!(
            first.starts_with("error: ") && first.contains(message),
            "{text}: {said}"
        );
        assert!(said.contains("  = help: "), "{said}");
    }
}
