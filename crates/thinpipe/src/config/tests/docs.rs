//! The documentation says what the program does: every key, every default, every example.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::config::problem::Place;

const REFERENCE: &str = include_str!("../../../../../docs/src/configuration.md");
const OPERATIONS: &str = include_str!("../../../../../docs/src/operations.md");

/// Keys of the file's tables, by what the reader of the file itself says is known there.
fn known_keys() -> BTreeSet<String> {
    let tables = [
        ("", "{X}"),
        ("log", "{log: {X}}"),
        ("store", "{store: {X}}"),
        ("limits", "{limits: {X}}"),
        ("limits.event_log", "{limits: {event_log: {X}}}"),
        ("sessions", "{sessions: {X}}"),
        ("sse", "{sse: {X}}"),
        ("sse.deprecation", "{sse: {deprecation: {X}}}"),
        ("state_keys", "{state_keys: [{X}]}"),
        ("tokens", "{tokens: [{X}]}"),
        ("upstreams", "{upstreams: [{X}]}"),
        ("upstreams.timeouts", "{upstreams: [{timeouts: {X}}]}"),
        ("upstreams.pool", "{upstreams: [{pool: {X}}]}"),
        ("upstreams.health", "{upstreams: [{health: {X}}]}"),
        (
            "upstreams.session_pool",
            "{upstreams: [{session_pool: {X}}]}",
        ),
        ("upstreams.parked", "{upstreams: [{parked: {X}}]}"),
        ("upstreams.cache", "{upstreams: [{cache: {X}}]}"),
        ("upstreams.replicas", "{upstreams: [{replicas: [{X}]}]}"),
        ("upstreams.breaker", "{upstreams: [{breaker: {X}}]}"),
        ("upstreams.retry", "{upstreams: [{retry: {X}}]}"),
        ("upstreams.process", "{upstreams: [{process: {X}}]}"),
        ("upstreams.chain", "{upstreams: [{chain: {X}}]}"),
        ("mcpServers.<name>", "{mcpServers: {a: {X}}}"),
    ];
    let mut keys = BTreeSet::new();
    for (table, text) in tables {
        let text = text.replace('X', "q-q-q-q-q-q-q-q-q: 1");
        let mut tree = Format::Yaml.parse(&text).unwrap();
        let problems = read(&mut tree, &|_| None).unwrap_err();
        assert!(matches!(problems[0].place, Place::Span(_)), "{problems:?}");
        let mend = problems[0].mend.clone().unwrap();
        let known = mend.strip_prefix("known here: ").expect(&mend);
        for key in known.split(", ") {
            let whole = if table.is_empty() {
                key.to_owned()
            } else {
                format!("{table}.{key}")
            };
            keys.insert(whole);
        }
    }
    // Other spellings of keys that stand there.
    keys.remove("mcpServers.<name>.transport");
    keys.remove("mcpServers.<name>.serverUrl");
    keys.remove("mcpServers.<name>.httpUrl");
    keys
}

/// Rows of the reference's tables of keys: key and default.
fn documented() -> BTreeMap<String, String> {
    let mut rows = BTreeMap::new();
    let reference = REFERENCE
        .split_once("## Top level")
        .expect("the tables of keys")
        .1;
    for line in reference.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let key = cells[1].trim_matches('`').to_owned();
        assert!(!cells[3].is_empty(), "{key} is not explained");
        assert!(
            rows.insert(key.clone(), cells[2].to_owned()).is_none(),
            "{key} stands twice"
        );
    }
    rows
}

/// I5: every key is documented, and every documented key exists.
#[test]
fn i5_the_reference_names_all_keys_and_no_others() {
    let documented: BTreeSet<_> = documented().into_keys().collect();
    let known = known_keys();
    let missing: Vec<_> = known.difference(&documented).collect();
    let invented: Vec<_> = documented.difference(&known).collect();
    assert!(missing.is_empty(), "not documented: {missing:?}");
    assert!(
        invented.is_empty(),
        "documented, but not there: {invented:?}"
    );
}

/// I5: the documented defaults are the real ones.
#[test]
fn i5_the_reference_gives_the_real_defaults() {
    let effective = |text: &str| -> ::toml::Value {
        let shown = toml(text).unwrap().to_toml().unwrap();
        ::toml::from_str(&shown).unwrap()
    };
    let at_url = effective(ONE);
    let by_command = effective("[[upstreams]]\ncommand = \"npx\"\n");
    let pooled = effective(&format!("{ONE}sessions = \"pooled\"\n"));
    let in_redis = effective(&format!("store = \"redis://h\"\n{ONE}"));
    let replicated = effective("[[upstreams]]\nreplicas = [{ url = \"http://h/mcp\" }]\n");
    let mut compared = 0;
    for (key, cell) in documented() {
        let Some(default) = cell
            .strip_prefix('`')
            .and_then(|cell| cell.strip_suffix('`'))
        else {
            continue;
        };
        if key.starts_with("mcpServers") {
            continue;
        }
        // What only servers on stdio, or of several replicas, have stands in theirs.
        let value = lookup(&at_url, &key).or_else(|| lookup(&by_command, &key));
        // What only clients that share have, where they do.
        let value = value.or_else(|| lookup(&pooled, &key));
        let value = value.or_else(|| lookup(&in_redis, &key));
        let value = value.or_else(|| lookup(&replicated, &key));
        let value = value.unwrap_or_else(|| panic!("{key} has no default"));
        assert_eq!(default, value.to_string(), "default of {key}");
        compared += 1;
    }
    assert!(compared > 65, "only {compared} defaults were compared");
}

/// The value of a key; that of the first, where there are several.
fn lookup<'a>(table: &'a ::toml::Value, key: &str) -> Option<&'a ::toml::Value> {
    key.split('.').try_fold(table, |value, part| {
        let value = value.get(part)?;
        let first = value.as_array().and_then(|items| items.first());
        Some(first.unwrap_or(value))
    })
}

/// The command line's table names options and variables that exist.
#[test]
fn i5_the_reference_names_all_options_and_variables() {
    let help = <crate::cli::Cli as clap::CommandFactory>::command()
        .render_long_help()
        .to_string();
    for line in REFERENCE.lines().filter(|line| line.starts_with("| `--")) {
        for word in line.split('`').filter(|word| {
            word.starts_with("THINPIPE_") || (word.starts_with("--") && !word.contains("config"))
        }) {
            let word = word.split(' ').next().unwrap();
            assert!(help.contains(word), "{word} is not in the help");
        }
    }
    let documented = REFERENCE.matches("`THINPIPE_").count();
    assert_eq!(documented, help.matches("THINPIPE_").count());
}

/// I2: the examples in the documentation are configurations that are served.
#[test]
fn i2_every_example_of_the_documentation_is_valid() {
    let chapters = [
        ("README.md", include_str!("../../../../../README.md")),
        (
            "quick-start.md",
            include_str!("../../../../../docs/src/quick-start.md"),
        ),
        ("configuration.md", REFERENCE),
        (
            "interceptors.md",
            include_str!("../../../../../docs/src/interceptors.md"),
        ),
        (
            "migration.md",
            include_str!("../../../../../docs/src/migration.md"),
        ),
        ("operations.md", OPERATIONS),
        (
            "bridging.md",
            include_str!("../../../../../docs/src/bridging.md"),
        ),
    ];
    let mut read = 0;
    for (name, chapter) in chapters {
        for (language, text) in fenced(chapter) {
            if !["toml", "yaml", "json"].contains(&language) {
                continue;
            }
            // A chapter on interceptors shows these alone.
            let text = match (language, name) {
                ("toml", "interceptors.md") => format!("{text}\n{ONE}"),
                _ => text.to_owned(),
            };
            let loaded = load_text(&format!("{name}.{language}"), &text, &Settings::default());
            if let Err(problems) = loaded {
                panic!("{name}:\n{text}\n{problems}");
            }
            read += 1;
        }
    }
    assert!(read >= 12, "only {read} examples were found");
}

/// A30: affinity is documented: the path that a process announces is one that the balancer brings to it.
#[test]
fn a30_the_affinity_that_is_documented_is_one() {
    let chapter = OPERATIONS
        .split_once("\n## Several processes\n")
        .and_then(|(_, behind)| behind.split("\n## ").next())
        .expect("a section on several processes");
    let block = |wanted| {
        let mut blocks = fenced(chapter).into_iter();
        blocks.find_map(|(language, text)| (language == wanted).then_some(text))
    };
    let node = toml(block("toml").expect("the configuration of a process"));
    let node = node.unwrap_or_else(|problems| panic!("{problems}"));
    let sse = node.config.gateway.upstreams[0].sse.as_ref();
    let base = &sse.expect("HTTP+SSE is served").config.public_base;
    let balancer = block("nginx").expect("the configuration of a balancer");
    assert_eq!(base.as_str(), "/node-a");
    // The path behind the address takes the base away again.
    let way = format!(
        "location {}/ {{ proxy_pass http://10.0.0.1:8080/; }}",
        base.as_str()
    );
    assert!(balancer.contains(&way), "{way}");
    assert!(balancer.contains("proxy_buffering off;") && chapter.contains("session_not_found"));
}

/// Every reason that the gateway gives is explained.
#[test]
fn every_reason_is_explained() {
    let failures = include_str!("../../../../gateway/src/failure.rs");
    let names = failures
        .split_once("fn as_str(self)")
        .expect("the names of reasons")
        .1;
    let names = names
        .split_once("\n    }\n")
        .expect("the end of the function")
        .0;
    let reasons: Vec<_> = names.split('"').skip(1).step_by(2).collect();
    assert!(reasons.len() >= 10, "{reasons:?}");
    for reason in reasons {
        assert!(
            OPERATIONS.contains(&format!("| `{reason}` |")),
            "{reason} is not explained"
        );
    }
}

/// The same of those that the bridges give.
#[test]
fn every_reason_of_a_bridge_is_explained() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../proto/src/bridge");
    let mut reasons = BTreeSet::new();
    for file in sources(Path::new(folder)) {
        let text = std::fs::read_to_string(&file).unwrap();
        let quoted = text.split('"').skip(1).step_by(2);
        let word = |text: &&str| {
            let plain = text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            plain && text.contains('_') && !text.starts_with('_') && !text.contains("__")
        };
        reasons.extend(quoted.filter(word).map(str::to_owned));
    }
    // What the wire calls so.
    reasons.remove("input_required");
    assert!(reasons.len() >= 10, "{reasons:?}");
    // Whoever hears these goes to another session: no client does.
    for inside in ["other_revision", "session_busy", "session_over"] {
        assert!(reasons.remove(inside), "{inside}");
    }
    for reason in reasons {
        assert!(OPERATIONS.contains(&format!("`{reason}`")), "{reason}");
    }
}

/// Files of code below a folder, those of tests not.
fn sources(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let files = paths.flat_map(|path| match path.is_dir() {
        true => sources(&path),
        false => vec![path],
    });
    let is_code = |path: &std::path::PathBuf| !path.to_string_lossy().contains("tests");
    files.filter(is_code).collect()
}

/// The error that the quick start shows is the one that is given.
#[test]
fn the_error_in_the_quick_start_is_real() {
    let text = "# mine\nlsiten = \"127.0.0.1:8080\"\n";
    let error = load_text("thinpipe.toml", text, &Settings::default())
        .unwrap_err()
        .to_string();
    assert!(
        include_str!("../../../../../docs/src/quick-start.md").contains(&error),
        "{error}"
    );
}

/// Fenced blocks with their language.
fn fenced(chapter: &str) -> Vec<(&str, &str)> {
    let parts = chapter.split("```").collect::<Vec<_>>();
    let inside = parts.iter().skip(1).step_by(2);
    inside.filter_map(|block| block.split_once('\n')).collect()
}
