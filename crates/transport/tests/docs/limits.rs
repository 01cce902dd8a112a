//! The tables of settings are those of the configurations.

use std::collections::BTreeMap;

use serde_json::Value;
use thinpipe_transport::mcp::config::{HttpSseConfig, HttpTransportConfig, Resumability};

use crate::SERVER;

/// Rows of the table below a heading: field and default.
fn rows(heading: &str) -> BTreeMap<String, String> {
    let (_, section) = SERVER.split_once(heading).expect("the heading");
    let section = section.split("\n#").next().unwrap_or_default();
    let mut rows = BTreeMap::new();
    for line in section.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let field = cells[1].trim_matches('`').to_owned();
        assert!(!cells[3].is_empty(), "{field} is not explained");
        let twice = rows.insert(field.clone(), cells[2].to_owned());
        assert!(twice.is_none(), "{field} stands twice");
    }
    rows
}

/// Every field of `real` has its row with the real default, but those that are tables or nothing.
fn compare(documented: &mut BTreeMap<String, String>, prefix: &str, real: &Value) {
    for (field, default) in real.as_object().expect("a table") {
        let field = format!("{prefix}{field}");
        let row = documented.remove(&field);
        let row = row.unwrap_or_else(|| panic!("{field} is not documented"));
        match default {
            Value::Object(_) => {}
            Value::Null => assert_eq!(row, "none", "{field}"),
            default => assert_eq!(row, format!("`{default}`"), "{field}"),
        }
    }
}

/// B1, T2: what is documented is there, with its default, and the other way round.
#[test]
fn b1_every_setting_is_documented_with_its_default() {
    let mut documented = rows("### HttpTransportConfig");
    let config = serde_json::to_value(HttpTransportConfig::default()).unwrap();
    compare(&mut documented, "", &config);
    let kept = serde_json::to_value(Resumability::default()).unwrap();
    compare(&mut documented, "resumability.", &kept);
    assert!(documented.is_empty(), "invented: {documented:?}");
}

/// A1, A2, A16 to A19: the same for HTTP+SSE.
#[test]
fn a1_every_setting_of_http_sse_is_documented_with_its_default() {
    let mut documented = rows("### HttpSseConfig");
    let config = serde_json::to_value(HttpSseConfig::default()).unwrap();
    compare(&mut documented, "", &config);
    assert!(documented.is_empty(), "invented: {documented:?}");
    let base = HttpSseConfig::default().base_config;
    assert_eq!(base, HttpTransportConfig::default());
}
