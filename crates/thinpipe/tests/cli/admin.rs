//! The admin address: health, readiness, metrics, status.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::count_to;
use crate::support::{Gateway, Sample, temporary};

/// B5: health and readiness say how things are; B18: not to web pages.
#[test]
fn b5_the_admin_address_reports_the_real_state() {
    let config = "listen = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n[[upstreams]]\nname = \"gone\"\nurl = \"http://127.0.0.1:1/mcp\"\nhealth = { interval = \"20ms\", timeout = \"1s\", failures = 2 }\n";
    let file = temporary("gone.toml", config);
    let gateway = Gateway::start(&["serve", "--config", file.path()], &[]);
    let ready = gateway.admin_until("/ready", |answer| answer.status == 503);
    assert!(ready.body.contains("\"unhealthy\""), "{}", ready.body);
    let health = gateway.admin("/health");
    assert_eq!(health.status, 200);
    assert!(
        health.body.contains("\"healthy\": false"),
        "{}",
        health.body
    );
    let metrics = gateway.admin("/metrics");
    assert!(
        metrics
            .body
            .contains("thinpipe_upstream_up{upstream=\"gone\"} 0"),
        "{}",
        metrics.body
    );
    assert!(metrics.body.ends_with("# EOF\n"), "{}", metrics.body);

    assert_eq!(gateway.admin("/nothing").status, 404);
    assert_eq!(
        gateway.admin_request("POST", "/health", "127.0.0.1").status,
        405
    );
    assert_eq!(
        gateway
            .admin_request("GET", "/status", "evil.example")
            .status,
        403
    );
}

/// What is scraped without the figures that move by themselves, or because somebody asks.
fn scrape(gateway: &Gateway) -> Vec<String> {
    let body = gateway.admin("/metrics").body;
    let lines = body.lines().filter(|line| !line.contains("process_"));
    lines.map(str::to_owned).collect()
}

/// B5, I4: a scrape has no side effects, and counts what went through.
#[test]
fn b5_metrics_count_and_are_safe_to_scrape() {
    let sample = Sample::start();
    let gateway = Gateway::to(&sample, &["--name", "files", "--admin", "127.0.0.1:0"]);
    assert_eq!(gateway.admin("/ready").status, 200);
    for _ in 0..3 {
        assert!(gateway.post(&count_to(1)).body.contains("counted to 1"));
    }
    let lines = scrape(&gateway);
    let line = "thinpipe_upstream_exchanges_total{upstream=\"files\"} 3";
    assert!(lines.iter().any(|found| found == line), "{lines:#?}");
    let counted = |lines: &[String]| {
        let mut lines = lines.to_vec();
        // Health checks use connections, and connections come and go.
        lines.retain(|line| !line.contains("connect") && !line.contains("reused"));
        lines
    };
    assert_eq!(counted(&scrape(&gateway)), counted(&lines));
    let status: Value = serde_json::from_str(&gateway.admin("/status").body).unwrap();
    assert_eq!(status["server"]["answers_2xx"], 3);
    assert_eq!(status["server"]["streams"], 3);
    assert_eq!(status["upstreams"][0]["path"], "/mcp");
}

/// B5: every metric has its line in the book, those of a server at a URL and those of a program.
#[test]
fn b5_every_metric_is_in_the_book() {
    let book = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/src/operations.md");
    let book = std::fs::read_to_string(book).expect("the page");
    let rows = book.lines().filter_map(|line| {
        let (names, _) = line.strip_prefix("| `thinpipe_")?.split_once(" |")?;
        Some(names)
    });
    // `thinpipe_upstream_a_total{label}`, `_b_total`
    let known: BTreeSet<String> = rows
        .flat_map(|names| {
            let of_server = names.starts_with("upstream_");
            names.split("`, `_").map(move |name| {
                let name = name.trim_end_matches('`');
                let name = name.split('{').next().unwrap_or_default();
                match of_server && !name.starts_with("upstream_") {
                    true => format!("thinpipe_upstream_{name}"),
                    false => format!("thinpipe_{name}"),
                }
            })
        })
        .collect();

    let sample = Sample::start();
    let http = format!("url = \"{}\"", sample.url);
    for reached in [&*http, "command = \"true\""] {
        let config = format!(
            "listen = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n[[upstreams]]\nname = \"files\"\n{reached}\ninterceptors = [{{ type = \"log\" }}]\n"
        );
        let file = temporary("book.toml", &config);
        let gateway = Gateway::start(&["serve", "--config", file.path()], &[]);
        gateway.post(&count_to(1));
        let body = gateway.admin("/metrics").body;
        let samples = body.lines().filter(|line| !line.starts_with('#'));
        let mut seen = 0;
        for line in samples {
            let name = line.split(['{', ' ']).next().unwrap_or_default();
            let name = ["_bucket", "_count", "_sum"]
                .iter()
                .find_map(|part| name.strip_suffix(part))
                .unwrap_or(name);
            assert!(known.contains(name), "{name} is not in {known:#?}");
            seen += 1;
        }
        assert!(seen > 30, "{body}");
    }
}

/// B5, I4: exchanges are counted and timed by method; what clients make up is one method.
#[test]
fn b5_exchanges_are_counted_by_method() {
    let sample = Sample::start();
    let gateway = Gateway::to(&sample, &["--name", "files", "--admin", "127.0.0.1:0"]);
    for _ in 0..3 {
        assert!(gateway.post(&count_to(1)).body.contains("counted to 1"));
    }
    for method in ["made/up", "made/up-again", "Tools/Call"] {
        let call = count_to(1).replace("tools/call", method);
        assert!(gateway.post(&call).body.contains("error"), "{method}");
    }
    let lines = scrape(&gateway);
    let value = |name: &str, labels: &str| -> Option<f64> {
        let series = format!("thinpipe_upstream_answer_seconds{name}{{{labels}}} ");
        let mut values = lines.iter().filter_map(|line| line.strip_prefix(&series));
        values.next().map(|value| value.parse().unwrap())
    };
    let of = |method: &str| format!("upstream=\"files\",method=\"{method}\"");
    let (call, other) = (of("tools/call"), of("other"));
    assert_eq!(value("_count", &call), Some(3.0), "{lines:#?}");
    assert_eq!(value("_count", &other), Some(3.0), "{lines:#?}");
    let buckets: Vec<_> = lines
        .iter()
        .filter(|line| line.starts_with("thinpipe_upstream_answer_seconds_bucket{"))
        .filter(|line| line.contains("method=\"tools/call\""))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .collect();
    assert!(buckets.is_sorted(), "{buckets:?}");
    assert_eq!(
        (buckets.len(), buckets.last()),
        (12, Some(&3)),
        "{lines:#?}"
    );
    // The sample counts one step a tenth of a second; its answers begin at once.
    assert!(value("_sum", &call).is_some_and(|sum| sum > 0.0 && sum < 3.0));
    let methods: BTreeSet<_> = lines
        .iter()
        .filter_map(|line| line.split("method=\"").nth(1)?.split('"').next())
        .collect();
    assert_eq!(methods, BTreeSet::from(["other", "tools/call"]));

    let status: Value = serde_json::from_str(&gateway.admin("/status").body).unwrap();
    let calls = &status["upstreams"][0]["methods"]["tools/call"];
    assert_eq!(calls["count"], 3, "{status:#}");
    let at = |part: &str| calls[part].as_u64().unwrap();
    assert!(at("p50_us") > 0 && at("p50_us") <= at("p90_us") && at("p90_us") <= at("p99_us"));
}

/// B5: every metric is explained.
#[test]
fn b5_every_metric_is_explained() {
    const OPERATIONS: &str = include_str!("../../../../docs/src/operations.md");
    let config = "listen = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n[[upstreams]]\nurl = \"http://127.0.0.1:1/mcp\"\ninterceptors = [{ type = \"log\" }]\n";
    let file = temporary("metrics.toml", config);
    let gateway = Gateway::start(&["serve", "--config", file.path()], &[]);
    assert!(gateway.post(&count_to(1)).body.contains("error"));
    let body = gateway.admin("/metrics").body;
    let names: Vec<_> = body
        .lines()
        .filter_map(|line| {
            let (name, kind) = line.strip_prefix("# TYPE thinpipe_")?.split_once(' ')?;
            let suffix = if kind == "counter" { "_total" } else { "" };
            Some(format!("{name}{suffix}"))
        })
        .collect();
    assert!(names.len() > 30, "{names:?}");
    for name in names.iter().filter(|name| *name != "build") {
        // In a list of names that begin alike, only the first is written in full.
        let begins = |at: &usize| *at == 0 || name.as_bytes()[*at - 1] == b'_';
        let rests = (0..name.len()).filter(begins).map(|at| &name[at..]);
        let is_there = OPERATIONS.contains(&format!("`thinpipe_{name}"))
            || rests
                .into_iter()
                .any(|rest| OPERATIONS.contains(&format!("`_{rest}`")));
        assert!(is_there, "{name} is not explained");
    }
}
