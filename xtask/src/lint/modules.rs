//! How the modules for event streams use each other: what the chapter on the architecture says of it
//! is what the code does, and nothing goes in circles (D10).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::source;

/// The chapter, and the heading of its table.
pub(crate) const CHAPTER: &str = "docs/src/architecture.md";
const HEADING: &str = "## How the event stream modules relate";

/// Modules, and those that each of them uses.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// What is wrong: with the chapter, or with the code.
pub(crate) fn offences(chapter: &str, files: &[(PathBuf, String)]) -> Vec<String> {
    let written = written(chapter);
    if written.is_empty() {
        return vec![format!("{CHAPTER}: no table under {HEADING:?}")];
    }
    let found = found(&written, files);
    let mut offences = Vec::new();
    for (module, uses) in &written {
        let real = found.get(module).cloned().unwrap_or_default();
        for missing in real.difference(uses) {
            offences.push(format!("{CHAPTER}: {module} uses {missing}, too"));
        }
        for invented in uses.difference(&real) {
            offences.push(format!("{CHAPTER}: {module} does not use {invented}"));
        }
    }
    if let Some(circle) = circle(&found) {
        offences.push(format!("modules in a circle: {}", circle.join(" → ")));
    }
    offences
}

/// The table: a module and those it uses. A module that only is used needs no row.
fn written(chapter: &str) -> Graph {
    let section = chapter.split_once(HEADING).map_or("", |(_, rest)| rest);
    let section = section.split("\n## ").next().unwrap_or_default();
    let mut graph = Graph::new();
    for row in section.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = row.split('|').collect();
        let names = |cell: &str| -> Vec<String> {
            let quoted = cell.split('`').skip(1).step_by(2);
            quoted.map(str::to_owned).collect()
        };
        let uses: BTreeSet<_> = names(cells.get(2).unwrap_or(&"")).into_iter().collect();
        for module in names(cells[1]) {
            for used in &uses {
                graph.entry(used.clone()).or_default();
            }
            graph.entry(module).or_default().extend(uses.clone());
        }
    }
    graph
}

/// What the code says of the same modules.
fn found(modules: &Graph, files: &[(PathBuf, String)]) -> Graph {
    let mut graph: Graph = modules
        .keys()
        .map(|module| (module.clone(), BTreeSet::new()))
        .collect();
    for (path, text) in files {
        let Some(own) = path_of(path) else { continue };
        let Some(module) = nearest(modules, &own) else {
            continue;
        };
        let code = source::parts(path, text).code;
        for used in uses(&own, code) {
            let Some(used) = nearest(modules, &used).filter(|used| *used != module) else {
                continue;
            };
            let edges = graph.entry(module.to_owned()).or_default();
            edges.insert(used.to_owned());
        }
    }
    graph
}

/// `crates/gateway/src/relay/pass.rs` is `gateway::relay::pass`.
fn path_of(path: &Path) -> Option<String> {
    let text = path.with_extension("").to_string_lossy().into_owned();
    let (crate_name, module) = text.strip_prefix("crates/")?.split_once("/src/")?;
    let module = module.strip_suffix("lib").unwrap_or(module);
    let path = format!("{crate_name}/{module}");
    Some(path.trim_end_matches('/').replace('/', "::"))
}

/// The module of the table that a path is in.
fn nearest<'a>(modules: &'a Graph, path: &str) -> Option<&'a str> {
    let holds = |module: &&String| {
        path.strip_prefix(module.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    let found = modules.keys().filter(holds).max_by_key(|m| m.len());
    found.map(String::as_str)
}

/// Everything that a module's code names: in `use` lines, and below its own submodules.
fn uses(own: &str, code: &str) -> Vec<String> {
    let crate_name = own.split("::").next().unwrap_or(own);
    let parent = own.rsplit_once("::").map_or(own, |(parent, _)| parent);
    let mut found: Vec<_> = source::uses(code)
        .into_iter()
        .filter_map(|path| absolute(&path, crate_name, own, parent))
        .collect();
    // Paths that are written out where they are used.
    for root in ["crate::", "thinpipe_"] {
        for (at, _) in code.match_indices(root) {
            let end = code[at..]
                .find(|c: char| !c.is_alphanumeric() && !"_:".contains(c))
                .map_or(code.len(), |end| at + end);
            found.extend(absolute(&code[at..end], crate_name, own, parent));
        }
    }
    for line in code.lines() {
        let Some(child) = line.trim().strip_suffix(';').and_then(|line| {
            let (_, name) = line.split_once("mod ")?;
            Some(name)
        }) else {
            continue;
        };
        if code.contains(&format!("{child}::")) {
            found.push(format!("{own}::{child}"));
        }
    }
    found
}

fn absolute(path: &str, crate_name: &str, own: &str, parent: &str) -> Option<String> {
    let (first, rest) = path.split_once("::").unwrap_or((path, ""));
    let root = match first {
        "crate" => crate_name.to_owned(),
        "super" => parent.to_owned(),
        "self" => own.to_owned(),
        other => other.strip_prefix("thinpipe_")?.to_owned(),
    };
    Some(format!("{root}::{rest}"))
}

/// A way from a module back to itself, if there is one.
fn circle(graph: &Graph) -> Option<Vec<String>> {
    fn walk(graph: &Graph, path: &mut Vec<String>, done: &mut BTreeSet<String>) -> bool {
        let Some(last) = path.last().cloned() else {
            return false;
        };
        for next in graph.get(&last).into_iter().flatten() {
            if path.contains(next) {
                let begin = path.iter().position(|module| module == next);
                path.drain(..begin.unwrap_or(0));
                path.push(next.clone());
                return true;
            }
            if !done.contains(next) {
                path.push(next.clone());
                if walk(graph, path, done) {
                    return true;
                }
                path.pop();
            }
        }
        done.insert(last);
        false
    }
    let mut done = BTreeSet::new();
    for module in graph.keys() {
        let mut path = vec![module.clone()];
        if walk(graph, &mut path, &mut done) {
            return Some(path);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITTEN: &str = "# A\n\n## How the event stream modules relate\n\n| module | uses | for |\n|---|---|---|\n| `gateway::relay` | `proto::sse` | events |\n| `gateway::relay::pass` | `gateway::relay`, `proto::sse` | |\n\n## More\n\n| `x` | `y` | |\n";

    fn file(path: &str, text: &str) -> (PathBuf, String) {
        (path.into(), text.to_owned())
    }

    fn tree(relay: &str, pass: &str) -> Vec<String> {
        let files = [
            file("crates/gateway/src/relay.rs", relay),
            file("crates/gateway/src/relay/pass.rs", pass),
            file("crates/gateway/src/other.rs", "use crate::relay::pass::A;"),
            file("crates/proto/src/sse/decode.rs", "use super::line;"),
        ];
        offences(WRITTEN, &files)
    }

    /// D10: what the chapter says is all there is.
    #[test]
    fn d10_the_table_is_compared_with_the_code() {
        let relay = "mod pass;\nuse thinpipe_proto::sse::{self, Decoder};\n";
        let pass = "use super::Line;\nuse thinpipe_proto::sse;\n";
        assert!(tree(relay, pass).is_empty(), "{:?}", tree(relay, pass));
        let missing = tree("", pass);
        assert_eq!(
            missing,
            ["docs/src/architecture.md: gateway::relay does not use proto::sse"]
        );
        let tested = format!("{relay}#[cfg(test)]\nmod tests {{\n    use super::pass::A;\n}}\n");
        assert!(
            tree(&tested, pass).is_empty(),
            "tests may use what they test"
        );
        assert_eq!(offences("# A\n", &[]).len(), 1);
    }

    /// D10: a circle is found, also where it is not a `use` line that closes it.
    #[test]
    fn d10_circles_are_found() {
        let pass = "use super::Line;\nuse thinpipe_proto::sse;\n";
        for relay in [
            "use thinpipe_proto::sse;\nmod pass;\nfn a() { pass::b() }\n",
            "use thinpipe_proto::sse;\nuse crate::relay::pass;\n",
            "use thinpipe_proto::sse;\nfn a() { crate::relay::pass::b() }\n",
        ] {
            let found = tree(relay, pass);
            let circle =
                "modules in a circle: gateway::relay → gateway::relay::pass → gateway::relay";
            assert!(found.iter().any(|offence| offence == circle), "{found:?}");
        }
    }
}
