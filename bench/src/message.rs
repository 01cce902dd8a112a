//! The messages the benchmark's client and upstream exchange.

use std::io::Write;

use memchr::memmem;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The revision whose requests need no session.
pub(crate) const STATELESS: &str = "2026-07-28";
/// The revision spoken in sessions.
pub(crate) const SESSIONS: &str = "2025-11-25";

/// What a `tools/call` asks for.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Call {
    /// Who calls; `sequence` rises by one for each of a client's calls, so that a call that
    /// arrives twice is seen.
    pub(crate) client: u64,
    #[serde(alias = "seq")]
    pub(crate) sequence: u64,
    /// Bytes of padding in the JSON result or in each event.
    pub(crate) bytes: usize,
    /// Progress events before the result; 0 asks for a JSON answer.
    pub(crate) events: u64,
    /// Events per second; 0 for as fast as they are taken.
    pub(crate) rate: f64,
    /// Events in one write to the socket.
    pub(crate) batch: u64,
    /// Whether the client is asked before it is answered, which it never is.
    pub(crate) asks: bool,
    /// Whether events have ids.
    pub(crate) ids: bool,
    /// Whether the first event is sent at once and by itself.
    pub(crate) early: bool,
}

impl Call {
    /// An answer in JSON with 200 bytes of text.
    pub(crate) const SMALL: Self = Self {
        client: 0,
        sequence: 0,
        bytes: 200,
        events: 0,
        rate: 0.0,
        batch: 0,
        asks: false,
        ids: false,
        early: false,
    };
}

/// A message as the upstream reads it.
#[derive(Deserialize)]
pub(crate) struct Message<'a> {
    #[serde(borrow, default)]
    pub(crate) id: Option<&'a RawValue>,
    #[serde(default)]
    pub(crate) method: Option<&'a str>,
    #[serde(borrow, default)]
    pub(crate) params: Option<Params<'a>>,
}

#[derive(Deserialize)]
pub(crate) struct Params<'a> {
    #[serde(rename = "protocolVersion", default)]
    pub(crate) version: Option<&'a str>,
    #[serde(default)]
    pub(crate) arguments: Option<Call>,
    #[serde(rename = "_meta", borrow, default)]
    pub(crate) meta: Option<Meta<'a>>,
}

#[derive(Deserialize)]
pub(crate) struct Meta<'a> {
    #[serde(rename = "progressToken", borrow, default)]
    pub(crate) token: Option<&'a RawValue>,
}

impl Call {
    /// Appends the text of the result: the sequence number, then the padding.
    pub(crate) fn text(&self, out: &mut Vec<u8>) {
        put(out, format_args!("{SEQUENCE}{};", self.sequence));
        pad(out, self.bytes);
    }
}

impl Message<'_> {
    pub(crate) fn call(&self) -> Option<Call> {
        self.params.as_ref()?.arguments
    }

    pub(crate) fn token(&self) -> &str {
        let token = self
            .params
            .as_ref()
            .and_then(|params| params.meta.as_ref()?.token);
        token.map_or("null", RawValue::get)
    }

    /// The answer to a request, as JSON.
    pub(crate) fn answer(&self, stateless: bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        let id = self.id.map_or("null", RawValue::get);
        put(&mut out, format_args!(r#"{{"jsonrpc":"2.0","id":{id},"#));
        let complete = if stateless {
            r#","resultType":"complete""#
        } else {
            ""
        };
        match self.method.unwrap_or_default() {
            "tools/call" => {
                let call = self.call().unwrap_or_default();
                out.extend_from_slice(br#""result":{"content":[{"type":"text","text":""#);
                call.text(&mut out);
                put(
                    &mut out,
                    format_args!(r#""}}],"isError":false{complete}}}"#),
                );
            }
            "initialize" => {
                let version = self.params.as_ref().and_then(|params| params.version);
                let version = version.unwrap_or(SESSIONS);
                put(
                    &mut out,
                    format_args!(
                        r#""result":{{"protocolVersion":"{version}",{CAPABILITIES},"serverInfo":{SERVER}}}"#
                    ),
                );
            }
            "server/discover" => put(
                &mut out,
                format_args!(
                    r#""result":{{"resultType":"complete","supportedVersions":["{STATELESS}","{SESSIONS}"],{CAPABILITIES},"_meta":{{"io.modelcontextprotocol/serverInfo":{SERVER}}},"ttlMs":3600000,"cacheScope":"public"}}"#
                ),
            ),
            "tools/list" => put(
                &mut out,
                format_args!(r#""result":{{"tools":[{TOOL}]{complete}}}"#),
            ),
            "ping" => put(&mut out, format_args!(r#""result":{{}}"#)),
            _ => put(
                &mut out,
                format_args!(r#""error":{{"code":-32601,"message":"Method not found"}}"#),
            ),
        }
        out.push(b'}');
        out
    }
}

/// Appends a `tools/call` request.
pub(crate) fn request(out: &mut Vec<u8>, call: &Call, stateless: bool) {
    let Call {
        client,
        sequence,
        bytes,
        events,
        rate,
        batch,
        asks,
        ids,
        early,
    } = call;
    put(
        out,
        format_args!(
            r#"{{"jsonrpc":"2.0","id":{sequence},"method":"tools/call","params":{{"name":"bench","arguments":{{"client":{client},"sequence":{sequence},"bytes":{bytes},"events":{events},"rate":{rate},"batch":{batch},"asks":{asks},"ids":{ids},"early":{early}}},"_meta":{{"progressToken":{sequence}"#
        ),
    );
    if stateless {
        put(out, format_args!(",{STATELESS_META}"));
    }
    out.extend_from_slice(b"}}}");
}

/// The first message of a client: `initialize`, or `server/discover` where there are no sessions.
pub(crate) fn hello(stateless: bool) -> String {
    if stateless {
        format!(
            r#"{{"jsonrpc":"2.0","id":0,"method":"server/discover","params":{{"_meta":{{{STATELESS_META}}}}}}}"#
        )
    } else {
        format!(
            r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"{SESSIONS}","capabilities":{{}},"clientInfo":{{"name":"bench","version":"1"}}}}}}"#
        )
    }
}

/// Asks for the tools there are.
pub(crate) const LIST: &str = r#"{"jsonrpc":"2.0","id":"list","method":"tools/list"}"#;

pub(crate) const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

/// Appends one event of progress with its number and the time of its making.
pub(crate) fn progress(out: &mut Vec<u8>, token: &str, number: u64, bytes: usize) {
    put(
        out,
        format_args!(
            r#"event: message
data: {{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":{number},"message":"t={};"#,
            crate::clock::now(),
        ),
    );
    pad(out, bytes);
    out.extend_from_slice(b"\"}}\n\n");
}

/// Appends one event of a listening stream.
pub(crate) fn notice(out: &mut Vec<u8>, bytes: usize) {
    out.extend_from_slice(
        br#"event: message
data: {"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":""#,
    );
    pad(out, bytes);
    out.extend_from_slice(b"\"}}\n\n");
}

pub(crate) fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to a vector does not fail.
    let _ = out.write_fmt(text);
}

/// The number that follows `key` where that comes first.
pub(crate) fn number_after(text: &[u8], key: &[u8]) -> Option<u64> {
    let start = memmem::find(text, key)? + key.len();
    let digits = text[start..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit());
    let mut number = None;
    for digit in digits {
        number = Some(number.unwrap_or(0) * 10 + u64::from(digit - b'0'));
    }
    number
}

fn pad(out: &mut Vec<u8>, bytes: usize) {
    out.resize(out.len() + bytes, b'x');
}

/// What the text of a result begins with.
pub(crate) const SEQUENCE: &str = "seq=";
const CAPABILITIES: &str = r#""capabilities":{"tools":{}}"#;
const SERVER: &str = r#"{"name":"bench","version":"1"}"#;
const TOOL: &str = r#"{"name":"bench","description":"answers at once","inputSchema":{"type":"object","properties":{"client":{"type":"integer"},"sequence":{"type":"integer"},"bytes":{"type":"integer"},"events":{"type":"integer"},"rate":{"type":"number"},"batch":{"type":"integer"}}}}"#;
const STATELESS_META: &str = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"bench","version":"1"},"io.modelcontextprotocol/clientCapabilities":{"elicitation":{}}"#;

/// Appends the event of a question to the client of a call, under this id.
pub(crate) fn question(out: &mut Vec<u8>, id: u64) {
    put(
        out,
        format_args!("event: message\ndata: {{\"jsonrpc\":\"2.0\",\"id\":{id},{QUESTION}}}\n\n"),
    );
}

const QUESTION: &str = r#""method":"elicitation/create","params":{"message":"How many?","requestedSchema":{"type":"object","properties":{"count":{"type":"integer"}}}}"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_json_and_reads_as_it_was_written() {
        let call = Call {
            client: 3,
            sequence: 9,
            bytes: 20,
            ..Call::default()
        };
        for stateless in [false, true] {
            let mut text = Vec::new();
            request(&mut text, &call, stateless);
            for text in [
                text.as_slice(),
                hello(stateless).as_bytes(),
                INITIALIZED.as_bytes(),
            ] {
                let message: Message<'_> = serde_json::from_slice(text).unwrap();
                let answer = message.answer(stateless);
                serde_json::from_slice::<serde_json::Value>(&answer).unwrap();
            }
            let message: Message<'_> = serde_json::from_slice(&text).unwrap();
            assert_eq!(
                (message.call().unwrap().sequence, message.token()),
                (9, "9")
            );
        }
        let mut events = Vec::new();
        progress(&mut events, "1", 2, 10);
        notice(&mut events, 10);
        let events = String::from_utf8(events).unwrap();
        for data in events
            .lines()
            .filter_map(|line| line.strip_prefix("data: "))
        {
            serde_json::from_str::<serde_json::Value>(data).unwrap();
        }
    }
}
