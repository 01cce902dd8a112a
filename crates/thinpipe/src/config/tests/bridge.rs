//! How clients and a server of different eras are connected.

use std::time::Duration;

use thinpipe_gateway::{
    BridgeConfig, CacheConfig, Clients, Mrtr, ParkedConfig, PoolConfig, ProgramEra, Reached,
    Sharing,
};
use thinpipe_proto::revision::Binding;
use thinpipe_transport::mcp::LogLevel;

use super::messages::{upstream_says, wrong};
use super::*;

const PROGRAM: &str = "[[upstreams]]\ncommand = \"npx\"\n";
const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

pub(super) fn only(text: &str) -> UpstreamSpec {
    let loaded = toml(text).unwrap_or_else(|problems| panic!("{text}\n{problems}"));
    loaded.config.gateway.upstreams[0].clone()
}

/// Every setting of bridges reaches its place, and what is shown of it reads back as the same.
#[test]
fn every_setting_of_bridges_reaches_its_place() {
    let text = r#"
[[upstreams]]
url = "http://h/mcp"
sessions = "pooled"
list_ttl = "9s"
log_level = "notice"
seal_state = true
session_pool = { max = 2, total = 11, idle = "3s", wait = "4s", clients = 5, roots = true }
parked = { per_principal = 5, max = 6, age = "7s" }
cache = { enabled = true, max_entries = 8, max_bytes = "9 KiB" }
"#;
    let seconds = Duration::from_secs;
    let expected = BridgeConfig {
        sessions: Some(Sharing::Pooled),
        mrtr: Mrtr::On,
        pool: PoolConfig {
            max: 2,
            total: 11,
            idle: seconds(3),
            wait: seconds(4),
            clients: 5,
            roots: true,
        },
        parked: ParkedConfig {
            per_principal: 5,
            total: 6,
            age: seconds(7),
        },
        list_ttl: seconds(9),
        log_level: Some(LogLevel::Notice),
        seal_state: true,
        cache: CacheConfig {
            enabled: true,
            max_entries: 8,
            max_bytes: 9 << 10,
        },
    };
    assert_eq!(only(text).bridge, expected);
    let shown = toml(text).unwrap().to_toml().unwrap();
    assert_eq!(only(&shown).bridge, expected, "{shown}");
    assert_eq!(only(ONE).bridge, BridgeConfig::default());
}

/// 1.2, 1.4: pins on either side; what is in effect beside each of them can be read again.
#[test]
fn either_side_can_be_pinned() {
    for (line, clients) in [
        ("", Clients::Any),
        ("clients = \"any\"", Clients::Any),
        ("clients = \"legacy\"", Clients::Legacy),
        ("clients = \"modern\"", Clients::Modern),
    ] {
        let spec = only(&format!("{ONE}{line}\n"));
        assert_eq!(spec.clients, clients, "{line}");
        assert_eq!(spec.sse.is_none(), clients == Clients::Modern);
    }
    for (era, pin) in [
        ("auto", None),
        ("legacy", Some(ProgramEra::Legacy)),
        ("modern", Some(ProgramEra::Modern)),
    ] {
        let spec = only(&format!("{PROGRAM}era = \"{era}\"\n"));
        let Reached::Stdio(child) = &spec.reached else {
            panic!("{spec:?}");
        };
        assert_eq!(child.pin, pin);
    }
    for server in [ONE, PROGRAM] {
        for pins in [
            "era = \"auto\"",
            "era = \"stateless\"",
            "era = \"streamable\"",
            "era = \"modern\"",
            "era = \"legacy\"",
            "clients = \"legacy\"",
            "clients = \"legacy\"\nsessions = \"pooled\"",
            "resume = \"log\"",
            "clients = \"modern\"",
            "mrtr = \"off\"",
            "sessions = \"per_client\"",
            "sessions = \"shared\"\nmrtr = \"off\"\nclients = \"modern\"",
        ] {
            let Ok(loaded) = toml(&format!("{server}{pins}\n")) else {
                assert!(pins.starts_with("era"), "{server}{pins}");
                continue;
            };
            let shown = loaded.to_toml().unwrap();
            let again = toml(&shown).unwrap_or_else(|problems| panic!("{shown}\n{problems}"));
            assert_eq!(again.to_toml().unwrap(), shown);
        }
    }
}

/// T2: what would be read and ignored is refused, with the reason.
#[test]
fn what_means_nothing_beside_the_rest_is_refused() {
    let stateless = "a server of 2026-07-28 has no sessions, asks within its answers, and says itself how long these may be kept";
    let modern_only = "it is for servers of 2026-07-28, and `era` says that this is none";
    let no_modern = "it is for clients of 2026-07-28, and `clients` lets none of them in";
    let no_legacy =
        "it is for clients of 2024-11-05 to 2025-11-25, and `clients` lets none of them in";
    for (pin, line, key, why) in [
        (
            "era = \"stateless\"",
            "sessions = \"shared\"",
            "sessions",
            "a server of 2026-07-28 has no sessions",
        ),
        ("era = \"stateless\"", "mrtr = \"on\"", "mrtr", stateless),
        (
            "era = \"stateless\"",
            "session_pool = { max = 1 }",
            "session_pool",
            stateless,
        ),
        (
            "era = \"streamable\"",
            "cache = { enabled = true }",
            "cache",
            modern_only,
        ),
        (
            "era = \"http+sse\"",
            "log_level = \"info\"",
            "log_level",
            modern_only,
        ),
        (
            "clients = \"legacy\"",
            "parked = { max = 1 }",
            "parked",
            no_modern,
        ),
        (
            "clients = \"legacy\"",
            "seal_state = true",
            "seal_state",
            no_modern,
        ),
        (
            "clients = \"modern\"",
            "log_level = \"info\"",
            "log_level",
            no_legacy,
        ),
        (
            "clients = \"modern\"",
            "sse_path = \"/s\"",
            "sse_path",
            no_legacy,
        ),
        (
            "mrtr = \"off\"",
            "session_pool = { roots = true }",
            "session_pool.roots",
            "with `mrtr = \"off\"` nothing is asked of clients",
        ),
        (
            "sessions = \"shared\"",
            "session_pool = { max = 1 }",
            "session_pool.max",
            "with `sessions = \"shared\"` there is one session",
        ),
        (
            "sessions = \"shared\"",
            "session_pool = { total = 9 }",
            "session_pool.total",
            "with `sessions = \"shared\"` there is one session",
        ),
        (
            "sessions = \"shared\"",
            "session_pool = { roots = true }",
            "session_pool.roots",
            "with `sessions = \"shared\"` there is one session, and roots would be everybody's",
        ),
        (
            "era = \"stateless\"",
            "session_lost = \"reestablish\"",
            "session_lost",
            "a server of 2026-07-28 has no sessions that could be lost",
        ),
        (
            "clients = \"legacy\"",
            "session_pool = { max = 2 }",
            "session_pool",
            "clients that have sessions share none, and `clients` lets no others in",
        ),
        (
            "clients = \"legacy\"\nsessions = \"pooled\"",
            "session_pool = { wait = \"2s\" }",
            "session_pool.wait",
            "no client that has sessions waits for one, and `clients` lets no others in",
        ),
        (
            "",
            "session_pool = { clients = 2 }",
            "session_pool.clients",
            "only with `sessions = \"pooled\"` or `\"shared\"` several clients have one session",
        ),
        (
            "",
            "cache = { enabled = false, max_entries = 4 }",
            "cache.max_entries",
            "with `cache.enabled = false` no answers are kept",
        ),
        (
            "sessions = \"per_client\"",
            "session_pool = { max = 1, idle = \"9s\" }",
            "session_pool.max",
            "with `sessions = \"per_client\"` nobody shares",
        ),
    ] {
        let message = format!("upstreams[0].{key}: `{key}` means nothing here: {why}");
        upstream_says(&format!("{pin}\n{line}"), &message, "remove it");
    }
    upstream_says(
        "era = \"legacy\"",
        "upstreams[0].era: only a program is \"legacy\" or \"modern\"",
        "a server at a URL is \"http+sse\", \"streamable\" or \"stateless\"",
    );
    wrong(
        &format!("{PROGRAM}era = \"stateless\"\n"),
        "upstreams[0].era: a program speaks on its standard streams, not over HTTP",
        "write \"legacy\" (up to 2025-11-25) or \"modern\" (2026-07-28)",
    );
    wrong(
        &format!("legacy = \"refused\"\n{ONE}clients = \"legacy\"\n"),
        "upstreams[0].clients: with `legacy = \"refused\"` none of these clients gets here",
        "remove one of the two settings",
    );
    upstream_says(
        "parked = { age = \"31m\" }",
        "upstreams[0].parked.age: 31m is not from 10ms to 30m",
        "the default is 10m",
    );
}

/// What is suggested for an era is one that fits the server.
#[test]
fn eras_that_are_suggested_fit_the_server() {
    for (server, era, mend) in [
        (ONE, "sse", "did you mean `http+sse`?"),
        (
            ONE,
            "modrn",
            "known here: auto, http+sse, streamable, stateless",
        ),
        (PROGRAM, "modrn", "did you mean `modern`?"),
        (PROGRAM, "sse", "known here: auto, legacy, modern"),
        (ONE, "2026-07-28", "did you mean `stateless`?"),
        (ONE, "2025-06-18", "did you mean `streamable`?"),
        (ONE, "2024-11-05", "did you mean `http+sse`?"),
        (ONE, "sessions", "did you mean `streamable`?"),
        (PROGRAM, "2026-07-28", "did you mean `modern`?"),
        (PROGRAM, "2024-11-05", "did you mean `legacy`?"),
    ] {
        let message = format!("upstreams[0].era: `{era}` is not known here");
        wrong(&format!("{server}era = \"{era}\"\n"), &message, mend);
    }
}

/// I2: whatever is written in the place of a setting of a bridge, what to write instead is said.
#[test]
fn i2_values_of_the_wrong_kind_are_answered_with_what_to_write() {
    const WORD: &str = "write one of these words, in quotes";
    for (line, message, mend) in [
        (
            "mrtr = true",
            "mrtr: expected `on` or `off`, found `true`",
            WORD,
        ),
        (
            "mrtr = \"of\"",
            "mrtr: `of` is not known here",
            "did you mean `off`?",
        ),
        (
            "clients = 1",
            "clients: expected `any`, `legacy` or `modern`, found a number",
            WORD,
        ),
        (
            "clients = \"2026-07-28\"",
            "clients: `2026-07-28` is not known here",
            "did you mean `modern`?",
        ),
        (
            "clients = \"http+sse\"",
            "clients: `http+sse` is not known here",
            "did you mean `legacy`?",
        ),
        (
            "log_level = \"warn\"",
            "log_level: `warn` is not known here",
            "did you mean `warning`?",
        ),
        (
            "seal_state = \"true\"",
            "seal_state: expected `true` or `false`, found a string",
            "write `true` or `false` without quotes",
        ),
        (
            "seal_state = 1",
            "seal_state: expected `true` or `false`, found a number",
            "write `true` or `false` without quotes",
        ),
        (
            "session_pool = 8",
            "session_pool: expected a table, found a number",
            "write a table, as in `{ max = 8 }`",
        ),
        (
            "session_pool = { max = \"8\" }",
            "session_pool.max: expected a whole number, found a string",
            "write the number without quotes",
        ),
        (
            "parked = \"10m\"",
            "parked: expected a table, found a string",
            "write a table, as in `{ age = \"10m\" }`",
        ),
        (
            "cache = false",
            "cache: expected a table, found `false`",
            "write a table, as in `{ enabled = false }`",
        ),
    ] {
        upstream_says(line, &format!("upstreams[0].{message}"), mend);
    }
}

/// `idle` counts where nobody shares, too: it says how long what was discovered is kept.
#[test]
fn how_long_sessions_stay_can_be_said_where_nobody_shares() {
    let text = format!("{ONE}sessions = \"per_client\"\nsession_pool = {{ idle = \"9s\" }}\n");
    assert_eq!(only(&text).bridge.pool.idle, Duration::from_secs(9));
    let shown = toml(&text).unwrap().to_toml().unwrap();
    assert_eq!(
        only(&shown).bridge.pool.idle,
        Duration::from_secs(9),
        "{shown}"
    );
}

/// A request may have to wait for a process to have ended, whoever it was of; at a URL it has nothing to wait for.
#[test]
fn how_long_a_request_waits_for_a_program_can_be_said_where_nobody_shares() {
    let lines = "sessions = \"per_client\"\nsession_pool = { wait = \"9s\" }\n";
    let program = format!("[[upstreams]]\ncommand = \"sh\"\n{lines}");
    assert_eq!(only(&program).bridge.pool.wait, Duration::from_secs(9));
    let shown = toml(&program).unwrap().to_toml().unwrap();
    assert!(shown.contains("wait = \"9s\""), "{shown}");
    upstream_says(
        lines,
        "upstreams[0].session_pool.wait: `session_pool.wait` means nothing here: with `sessions = \"per_client\"` nobody shares",
        "remove it",
    );
}

/// O19: the state is sealed where clients are told apart here and the server sees the gateway alone.
#[test]
fn o19_state_is_sealed_where_there_are_principals() {
    let token = "[[tokens]]\nprincipal = \"alice\"\ntoken = \"0123456789abcdef\"\n";
    for (text, sealed) in [
        (ONE.to_owned(), false),
        (format!("{token}{ONE}"), true),
        (format!("{token}{ONE}seal_state = false\n"), false),
        (format!("{ONE}seal_state = true\n"), true),
    ] {
        assert_eq!(only(&text).bridge.seal_state, sealed, "{text}");
    }
}

/// The first key seals, in the order of the file; none is ever shown, nor quoted when it is wrong.
#[test]
fn keys_are_read_in_their_order_and_never_shown() {
    let folder = std::env::temp_dir();
    let file = folder.join(format!("thinpipe-key-{}", std::process::id()));
    let (from_file, path) = (KEY.replace("1f", "2f"), file.display().to_string());
    std::fs::write(&file, format!("{from_file}\n")).unwrap();
    let keys = format!("[[state_keys]]\nkey = \"{KEY}\"\n[[state_keys]]\nfile = \"{path}\"\n");
    let loaded = toml(&format!("{keys}{ONE}")).unwrap();
    let shown = loaded.to_toml().unwrap();
    std::fs::remove_file(&file).unwrap();
    let expected = [KEY, &from_file].map(|key| key.parse().unwrap());
    assert_eq!(loaded.config.gateway.state_keys, expected);
    assert!(
        shown.contains("key = \"${REDACTED}\"") && shown.contains(&path),
        "{shown}"
    );
    let debugged = format!("{:?}", loaded.config);
    for secret in [KEY, &from_file] {
        assert!(!shown.contains(secret) && !debugged.contains(secret));
    }

    let long = format!("{KEY}0");
    let one = |entry: &str| format!("[[state_keys]]\n{entry}\n{ONE}");
    let make = "make one with `openssl rand -hex 32`";
    for (text, message, mend) in [
        (
            one(&format!("key = \"{long}\"")),
            "state_keys[0].key: a key is 64 hexadecimal digits",
            make,
        ),
        (
            one("key = \"${API_TOKEN}\""),
            "state_keys[0].key: a key is 64 hexadecimal digits",
            make,
        ),
        (
            one(&format!("key = \"{KEY}\"\nfile = \"x\"")),
            "state_keys[0].file: a key has either `key` or `file`",
            "remove one of them",
        ),
        (
            one(""),
            "state_keys[0]: the key has neither `key` nor `file`",
            "write `key = \"${STATE_KEY}\"`, or `file = \"/run/secrets/state-key\"`",
        ),
        (
            format!(
                "[[state_keys]]\nkey = \"{KEY}\"\n{}",
                one(&format!("key = \"{KEY}\""))
            ),
            "state_keys[1]: this key is given twice",
            "put the new key first and keep the old one behind it",
        ),
    ] {
        wrong(&text, message, mend);
    }
    let error = toml(&one("file = \"/no/such/key\""))
        .unwrap_err()
        .to_string();
    assert!(error.contains("`/no/such/key` cannot be read"), "{error}");
    let error = toml(&one(&format!("key = \"{long}\""))).unwrap_err();
    assert!(!error.to_string().lines().next().unwrap().contains(KEY));
}

/// I5: what can be said of the only server on the command line.
#[test]
fn i5_the_command_line_says_what_a_server_speaks_and_who_shares_it() {
    let run = |arguments: &[&str]| {
        let line = [&["thinpipe"], arguments].concat();
        let cli =
            <crate::cli::Cli as clap::Parser>::try_parse_from(line).map_err(|e| e.to_string());
        let manner = cli?.direct.manner;
        let config = for_url("http://h/mcp", manner, &Settings::default(), &|_| None);
        config.map_err(|problems| problems.to_string())
    };
    let config = run(&["--sessions", "pooled", "--era", "http+sse", "http://h/mcp"]).unwrap();
    let spec = &config.gateway.upstreams[0];
    assert_eq!(spec.bridge.sessions, Some(Sharing::Pooled));
    assert_eq!(spec.http().unwrap().pin, Some(Binding::HttpSse));
    for (arguments, said) in [
        (
            &["--era", "modern", "http://h/mcp"][..],
            "error: --era: only a program is \"legacy\" or \"modern\"",
        ),
        (
            &["--era", "stateless", "--sessions", "shared", "http://h/mcp"],
            "error: --sessions: `sessions` means nothing here: a server of 2026-07-28",
        ),
        (
            &["--sessions", "shared", "--shared", "--", "npx"],
            "error: the argument",
        ),
        (
            &["--era", "old", "http://h/mcp"],
            "error: invalid value 'old'",
        ),
    ] {
        let error = run(arguments).unwrap_err();
        assert!(error.starts_with(said), "{error}");
    }
}
