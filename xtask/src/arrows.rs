//! Checks the direction of the dependencies between the crates, and what `proto` leans on.

use serde_json::Value;

use crate::{Outcome, workspace};

/// Fails, naming every offence, if a crate depends on one above it.
pub(crate) fn run() -> Outcome {
    let metadata = workspace::metadata()?;
    let offences = offences(&metadata);
    if offences.is_empty() {
        println!("arrows: {} crates, every arrow points down", LAYERS.len());
        return Ok(());
    }
    Err(offences.join("\n").into())
}

fn offences(metadata: &Value) -> Vec<String> {
    let mut offences = Vec::new();
    for package in list(metadata, "packages") {
        let name = text(package, "name");
        for dependency in list(package, "dependencies") {
            let on = text(dependency, "name");
            let normal = dependency.get("kind").is_none_or(Value::is_null);
            if let Some(offence) = offence(name, on, normal) {
                offences.push(offence);
            }
        }
    }
    offences
}

fn offence(name: &str, on: &str, normal: bool) -> Option<String> {
    let layer = |name: &str| LAYERS.iter().position(|layer| *layer == name);
    match (layer(name), layer(on)) {
        // On itself in tests: that is how tests turn on a feature of what they test.
        (Some(above), Some(below)) if below < above || (normal && below == above) => {
            return Some(format!(
                "{name} must not depend on {on}: arrows point down only"
            ));
        }
        (Some(_), _) if normal && TEST_ONLY.contains(&on) => {
            return Some(format!(
                "{name} may depend on {on} as a dev-dependency only"
            ));
        }
        _ => {}
    }
    (name == PROTO && normal && !PROTO_MAY_USE.contains(&on))
        .then(|| format!("{PROTO} must not depend on {on}: it does no I/O and keeps no clock"))
}

fn list<'a>(value: &'a Value, member: &str) -> impl Iterator<Item = &'a Value> {
    value
        .get(member)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value
        .get(member)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// From top to bottom; a crate may depend on those after it.
const LAYERS: [&str; 5] = [
    "thinpipe",
    "thinpipe-gateway",
    "thinpipe-transport",
    "thinpipe-store",
    PROTO,
];

const PROTO: &str = "thinpipe-proto";

/// Peers and fixtures, and chores: never part of what users get.
const TEST_ONLY: [&str; 3] = ["thinpipe-testkit", "thinpipe-e2e", "xtask"];

/// `base64` is here for the header values that the 2026-07-28 revision wraps in it, `simdutf8` because
/// the check of the standard library takes eight times as long for text beyond ASCII.
const PROTO_MAY_USE: [&str; 8] = [
    "base64",
    "bytes",
    "http",
    "memchr",
    "serde",
    "serde_json",
    "simdutf8",
    "thiserror",
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_arrow_that_points_up_is_an_offence() {
        assert!(offence("thinpipe-proto", "thinpipe-store", true).is_some());
        assert!(offence("thinpipe-transport", "thinpipe-gateway", false).is_some());
        assert!(offence("thinpipe-store", "thinpipe-store", true).is_some());
        assert_eq!(offence("thinpipe-store", "thinpipe-store", false), None);
        assert_eq!(offence("thinpipe", "thinpipe-proto", true), None);
    }

    #[test]
    fn proto_takes_no_runtime_but_may_test_with_anything() {
        assert!(offence("thinpipe-proto", "tokio", true).is_some());
        assert_eq!(offence("thinpipe-proto", "proptest", false), None);
    }

    #[test]
    fn test_peers_are_dev_dependencies_only() {
        assert!(offence("thinpipe", "thinpipe-testkit", true).is_some());
        assert_eq!(offence("thinpipe", "thinpipe-testkit", false), None);
    }

    #[test]
    fn the_shape_of_cargo_metadata_is_understood() {
        let metadata = json!({"packages": [{
            "name": "thinpipe-proto",
            "dependencies": [{"name": "hyper", "kind": null}, {"name": "bytes", "kind": null}],
        }]});
        assert_eq!(offences(&metadata).len(), 1);
    }
}
