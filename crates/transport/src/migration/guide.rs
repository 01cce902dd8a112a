//! The guide's text.

use std::fmt::{self, Write};

use thinpipe_proto::deprecation::{AfterSunset, LinkTarget, Phase, Sdk, advise};

use super::plan::MigrationPlan;
use crate::mcp::config::{HttpSseConfig, HttpTransportConfig};

/// Measured by the benchmark, which writes this file.
const FIGURES: &str = include_str!("figures.md");

/// How to move, in Markdown.
pub(super) fn write(
    config: &HttpSseConfig,
    successor: &LinkTarget,
    plan: &MigrationPlan,
) -> String {
    let mut guide = Guide::default();
    guide.opening(config, successor);
    guide.clients(config, successor);
    guide.server(plan);
    guide.limits(&plan.config);
    guide.gains();
    guide.section(
        "What it costs to stay",
        format_args!("{}", FIGURES.trim_end()),
    );
    guide.text
}

#[derive(Default)]
struct Guide {
    text: String,
}

impl Guide {
    fn opening(&mut self, config: &HttpSseConfig, successor: &LinkTarget) {
        let HttpSseConfig {
            sse_endpoint,
            messages_endpoint,
            deprecation,
            ..
        } = config;
        self.line(format_args!("# From HTTP+SSE to Streamable HTTP\n"));
        self.line(format_args!(
            "HTTP+SSE is deprecated since revision 2025-03-26 of the protocol: {}.",
            deprecation.documentation_url()
        ));
        self.line(format_args!("{}\n", sunset(config)));
        self.line(format_args!("| what | HTTP+SSE | Streamable HTTP |"));
        self.line(format_args!("|---|---|---|"));
        for (what, old, new) in [
            (
                "first request",
                format!("`GET {sse_endpoint}`, then `initialize`"),
                format!("`POST {successor}` with `initialize`, or any call of revision 2026-07-28"),
            ),
            (
                "messages",
                format!("`POST {messages_endpoint}?sessionId=…`, answered 202"),
                format!("`POST {successor}`, answered with the answer"),
            ),
            (
                "session",
                "the open stream".to_owned(),
                "the header `Mcp-Session-Id`; from 2026-07-28 on, none".to_owned(),
            ),
            (
                "messages from the server",
                "on the one stream".to_owned(),
                format!(
                    "in the response to the call they belong to; others after `GET {successor}`, or \
                     `subscriptions/listen` from 2026-07-28 on"
                ),
            ),
            (
                "end",
                "closing the stream".to_owned(),
                format!("`DELETE {successor}`; from 2026-07-28 on, nothing to end"),
            ),
        ] {
            self.line(format_args!("| {what} | {old} | {new} |"));
        }
        self.line(format_args!(""));
    }

    fn clients(&mut self, config: &HttpSseConfig, successor: &LinkTarget) {
        self.line(format_args!("## Clients\n"));
        self.line(format_args!(
            "Both are served side by side, so clients can move one by one: each needs another transport and \
             another address, which ends in `{successor}` instead of `{}`.\n",
            config.sse_endpoint
        ));
        for sdk in [Sdk::Node, Sdk::Python, Sdk::PythonOne, Sdk::Other] {
            self.line(format_args!("- {}", sdk.change()));
        }
        self.line(format_args!(
            "- A client that tries both by itself posts `initialize` first, and opens a stream only when \
             that is answered 400, 404 or 405.\n"
        ));
    }

    fn server(&mut self, plan: &MigrationPlan) {
        self.line(format_args!("## Server\n"));
        self.line(format_args!(
            "When no client uses HTTP+SSE any more, this is the configuration:\n"
        ));
        let json = serde_json::to_string_pretty(&plan.config)
            .expect("texts, numbers and lists under names of fields");
        self.line(format_args!("```json\n{json}\n```\n"));
        self.line(format_args!("What became of each setting:\n"));
        self.line(format_args!("| setting | was | is |"));
        self.line(format_args!("|---|---|---|"));
        for setting in &plan.settings {
            // A bar would end the cell.
            let value = setting.value.replace('|', "\\|");
            let (name, fate) = (&setting.name, &setting.fate);
            self.line(format_args!("| `{name}` | `{value}` | {fate} |"));
        }
        self.line(format_args!(""));
    }

    fn limits(&mut self, config: &HttpTransportConfig) {
        let resumed = match &config.resumability {
            None => "Streams cannot be resumed: `resumability` is not set.".to_owned(),
            Some(kept) => format!(
                "A stream can be resumed after the last {} messages or {} bytes, for {:?}.",
                kept.max_events, kept.max_bytes, kept.retention
            ),
        };
        self.section(
            "Limits then",
            format_args!(
                "{} connections, {} sessions, {} event streams; {} calls at one time in a session; messages of \
                 {} bytes. A session that nobody uses ends after {:?}. {resumed}",
                config.max_connections,
                config.max_sessions,
                config.max_streams,
                config.max_concurrent_requests,
                config.max_message_size,
                config.session_timeout,
            ),
        );
    }

    fn gains(&mut self) {
        let mut modern = http::HeaderMap::new();
        let newest = http::HeaderValue::from_static("2026-07-28");
        modern.insert(thinpipe_proto::header::PROTOCOL_VERSION, newest);
        let now = advise(&http::HeaderMap::new(), Phase::Deprecated);
        let later = advise(&modern, Phase::Deprecated);
        self.line(format_args!("## What is gained\n"));
        for gain in now.gains {
            self.line(format_args!("- {}", gain.as_str()));
        }
        self.line(format_args!(
            "\nWith clients of revision 2026-07-28, also:\n"
        ));
        for gain in later.gains.iter().filter(|gain| !now.gains.contains(gain)) {
            self.line(format_args!("- {}", gain.as_str()));
        }
        self.line(format_args!(""));
    }

    fn section(&mut self, heading: &str, text: fmt::Arguments<'_>) {
        self.line(format_args!("## {heading}\n\n{text}\n"));
    }

    fn line(&mut self, text: fmt::Arguments<'_>) {
        writeln!(self.text, "{text}").expect("writing to a string does not fail");
    }
}

fn sunset(config: &HttpSseConfig) -> String {
    let deprecation = &config.deprecation;
    let Some(sunset) = deprecation.sunset() else {
        return "This server has set no date for its end.".to_owned();
    };
    let date = sunset.date_text();
    match deprecation.after_sunset() {
        AfterSunset::Gone => format!(
            "This server stops serving it on {date}: from then on it answers 410 and names the new address."
        ),
        AfterSunset::Warn => {
            format!("This server has announced its end for {date}, and goes on serving it for now.")
        }
    }
}
