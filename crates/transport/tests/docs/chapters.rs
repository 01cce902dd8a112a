//! The two chapters on event streams: what they cover, and that they are about what is tested here.

use serde_json::Value;

const STREAMS: &str = include_str!("../../../../docs/src/event-streams.md");
const COMPARED: &str = include_str!("../../../../docs/src/event-streams-compared.md");
const PACKAGE: &str = include_str!("../../../../e2e/package.json");
const PACKAGE_LOCK: &str = include_str!("../../../../e2e/package-lock.json");
const REQUIREMENTS: &str = include_str!("../../../../e2e/requirements.txt");
const CARGO_LOCK: &str = include_str!("../../../../Cargo.lock");

/// A section with its text, up to the next one of its level.
fn section<'a>(chapter: &'a str, heading: &str) -> &'a str {
    let (_, behind) = chapter
        .split_once(&format!("\n{heading}\n"))
        .unwrap_or_else(|| panic!("there is no {heading:?}"));
    let level = heading.split(' ').next().unwrap_or_default();
    let text = behind.split(&format!("\n{level} ")).next();
    text.unwrap_or_default().trim()
}

/// D12: what each module can do, what is reused where, where they meet, sessions, gaps, advice.
#[test]
fn d12_the_chapter_has_its_six_parts() {
    for heading in [
        "## What each module can do",
        "## What is reused where",
        "## Where parsing, interceptors and sessions meet",
        "## Sessions",
        "## Known gaps",
        "## If you build on it",
    ] {
        assert!(section(STREAMS, heading).len() > 400, "{heading} is empty");
    }
    let meeting = section(STREAMS, "## Where parsing, interceptors and sessions meet");
    for point in ["**Parsing**", "**Interceptors**", "**Sessions**"] {
        assert!(meeting.contains(point), "{point}");
    }
}

/// D12: every module that has to do with event streams is said what it can do.
#[test]
fn d12_every_module_is_described() {
    let modules = section(STREAMS, "## What each module can do");
    let headings: Vec<_> = modules.lines().filter(|l| l.starts_with("### ")).collect();
    for module in [
        "proto::sse",
        "transport::body",
        "transport::server::reply",
        "transport::server::event_buffer",
        "transport::server::conversation",
        "transport::server::sse",
        "transport::server::broadcast",
        "transport::upstream::sse",
        "transport::upstream::probe",
        "gateway::relay",
        "gateway::pipe",
    ] {
        let path = module.replace("::", "/src/");
        let (krate, inner) = path.split_once("/src/").unwrap_or_default();
        let inner = inner.replace("/src/", "/");
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        let file = format!("{root}/{krate}/src/{inner}.rs");
        assert!(std::path::Path::new(&file).exists(), "no module {module}");
        let named = format!("`{module}`");
        assert!(
            headings.iter().any(|heading| heading.contains(&named)),
            "{module} is not described"
        );
    }
}

/// Packages with their versions, as in "`name` 1.2.3".
fn packages(row: &str) -> Vec<(&str, &str)> {
    let parts: Vec<_> = row.split('`').collect();
    parts[1..]
        .chunks_exact(2)
        .filter_map(|pair| {
            let version = pair[1].trim_start().split([' ', ',', ';']).next()?;
            let numbered = version.starts_with(|c: char| c.is_ascii_digit());
            numbered.then_some((pair[0], version))
        })
        .collect()
}

/// D11: the TypeScript SDK, rmcp and the Inspector are compared in each of these respects.
#[test]
fn d11_the_three_peers_are_compared() {
    for peer in ["TypeScript v1", "rmcp", "Inspector"] {
        for heading in [
            "## Parsing",
            "## Writing: queues and slow readers",
            "## Limits and sessions",
        ] {
            let rows = section(COMPARED, heading);
            let compared = rows
                .lines()
                .any(|row| row.starts_with(&format!("| {peer}")));
            assert!(compared, "{heading}: nothing of {peer}");
        }
    }
    for peer in ["TypeScript v1", "rmcp"] {
        for heading in ["## Event ids and resuming", "## Reconnecting, as a client"] {
            assert!(section(COMPARED, heading).contains(peer), "{heading}");
        }
    }
    assert!(section(COMPARED, "## The Inspector").len() > 400);
}

/// D11: the versions that were read are those that the tests run against.
#[test]
fn d11_the_versions_are_those_of_the_tests() {
    let package: Value = serde_json::from_str(PACKAGE).unwrap();
    let lock: Value = serde_json::from_str(PACKAGE_LOCK).unwrap();
    let table = COMPARED
        .lines()
        .filter(|line| line.starts_with("| ") || line.starts_with("Samples are named"));
    let mut compared = 0;
    for row in table {
        // The Inspector is read and not run here.
        if row.starts_with("| Inspector") {
            continue;
        }
        for (name, version) in packages(row) {
            // The reference server goes without its scope.
            let scoped = format!("@modelcontextprotocol/{name}");
            let npm = package["dependencies"][name]
                .as_str()
                .or_else(|| package["dependencies"][&scoped].as_str())
                .or_else(|| lock["packages"][format!("node_modules/{name}")]["version"].as_str());
            let python = REQUIREMENTS
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix("=="));
            let rust = format!("name = \"{name}\"\nversion = \"{version}\"");
            let run = npm == Some(version) || python == Some(version) || CARGO_LOCK.contains(&rust);
            assert!(run, "{name} {version} was read, {npm:?} {python:?} is run");
            compared += 1;
        }
    }
    assert_eq!(compared, 10, "packages in the table");
}
