//! The shape of results and errors in each revision.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Map, Value, json};
use thinpipe_proto::classify::is_cacheable_method;
use thinpipe_proto::revision::Revision;
use thinpipe_proto::rpc::{self, RequestId, error_response, meta_key};

use super::RpcError;
use super::handler::ServerInfo;

/// What a request is answered with.
pub(super) struct Response {
    pub(super) status: StatusCode,
    pub(super) message: Bytes,
}

impl Response {
    pub(super) fn error(id: &RequestId, error: &RpcError, revision: Revision) -> Self {
        let data = error.data();
        let data = data.as_deref().map(str::as_bytes);
        Self {
            status: error.status(revision),
            message: error_response(Some(id), error.code(revision), error.message(), data),
        }
    }

    fn result(id: &RequestId, result: &[u8]) -> Self {
        Self {
            status: StatusCode::OK,
            message: rpc::response(id, result),
        }
    }
}

/// Results as a server of this kind gives them.
pub(super) struct Shape<'a> {
    pub(super) info: &'a ServerInfo,
    pub(super) revision: Revision,
    pub(super) method: &'a str,
}

impl Shape<'_> {
    /// The response with a result of the handler's.
    pub(super) fn complete(&self, id: &RequestId, result: Value) -> Response {
        let Value::Object(mut members) = result else {
            return self.no_object(id);
        };
        if self.revision.is_modern() {
            self.add(&mut members);
        } else {
            for modern in MODERN {
                members.remove(modern);
            }
        }
        Response::result(id, &written(&members))
    }

    /// The response with a result that is text: nothing of it is written anew that need not be.
    pub(super) fn complete_text(&self, id: &RequestId, result: &Bytes) -> Response {
        let Ok(members) = rpc::members(result) else {
            return self.no_object(id);
        };
        let has = |name: &str| members.iter().any(|(member, _)| member == name);
        let edited = if self.revision.is_modern() {
            has("_meta")
        } else {
            MODERN.into_iter().any(has)
        };
        if edited {
            let value = serde_json::from_slice(result);
            return value.map_or_else(|_| self.no_object(id), |value| self.complete(id, value));
        }
        if !self.revision.is_modern() {
            return Response::result(id, result);
        }
        let mut more = Map::new();
        self.add(&mut more);
        more.retain(|name, _| !has(name));
        let mut text = Value::Object(more).to_string();
        text.pop();
        let body = result.trim_ascii_start().get(1..).unwrap_or_default();
        let mut whole = text.into_bytes();
        if !members.is_empty() {
            whole.push(b',');
        }
        whole.extend_from_slice(body);
        Response::result(id, &whole)
    }

    fn add(&self, members: &mut Map<String, Value>) {
        let kind = members.entry("resultType");
        let kind = kind.or_insert_with(|| "complete".into());
        if *kind == "complete" && is_cacheable_method(self.method) {
            let cache = self.info.caching();
            let ttl = u64::try_from(cache.ttl.as_millis()).unwrap_or(u64::MAX);
            let scope = if cache.public { "public" } else { "private" };
            members.entry("ttlMs").or_insert_with(|| ttl.into());
            members.entry("cacheScope").or_insert_with(|| scope.into());
        }
        let meta = members.entry("_meta").or_insert_with(|| json!({}));
        if let Some(meta) = meta.as_object_mut() {
            let server = || Value::Object(self.info.implementation().clone());
            meta.entry(meta_key::SERVER_INFO).or_insert_with(server);
        }
    }

    fn no_object(&self, id: &RequestId) -> Response {
        tracing::error!(
            method = self.method,
            "the handler's result is no JSON object"
        );
        let error = RpcError::internal("the server gave no usable result");
        Response::error(id, &error, self.revision)
    }
}

/// As JSON text. Not by `to_string`, which writes through a formatter, piece by piece.
fn written(members: &Map<String, Value>) -> Vec<u8> {
    let mut text = Vec::with_capacity(TEXT);
    serde_json::to_writer(&mut text, members).expect("a vector takes any map of values");
    text
}

/// Room for the text of a result, so that a small one is not moved.
const TEXT: usize = 512;

/// What results have since 2026-07-28 only.
const MODERN: [&str; 3] = ["resultType", "ttlMs", "cacheScope"];

#[cfg(test)]
mod tests {
    use super::*;

    fn shaped(revision: Revision, method: &str, result: &str) -> (Value, Value) {
        let info = ServerInfo::new("s", "1");
        let shape = Shape {
            info: &info,
            revision,
            method,
        };
        let id = RequestId::from_integer(1);
        let read = |response: Response| {
            let message: Value = serde_json::from_slice(&response.message).unwrap();
            message["result"].clone()
        };
        let value = read(shape.complete(&id, serde_json::from_str(result).unwrap()));
        let text = read(shape.complete_text(&id, &Bytes::copy_from_slice(result.as_bytes())));
        (value, text)
    }

    /// R131, R132, R217: values and texts come out alike.
    #[test]
    fn r131_results_have_what_their_revision_wants() {
        let server =
            json!({ "io.modelcontextprotocol/serverInfo": { "name": "s", "version": "1" } });
        for (method, result, modern, legacy) in [
            (
                "tools/call",
                "{}",
                json!({ "resultType": "complete", "_meta": server }),
                json!({}),
            ),
            (
                "tools/list",
                r#" {"tools":[],"ttlMs":5}"#,
                json!({ "tools": [], "ttlMs": 5, "cacheScope": "private",
                        "resultType": "complete", "_meta": server }),
                json!({ "tools": [] }),
            ),
            (
                "tools/call",
                r#"{"resultType":"task","task":{}}"#,
                json!({ "resultType": "task", "task": {}, "_meta": server }),
                json!({ "task": {} }),
            ),
        ] {
            let (value, text) = shaped(Revision::V2026_07_28, method, result);
            assert_eq!((&value, &text), (&modern, &modern));
            let (value, text) = shaped(Revision::V2025_11_25, method, result);
            assert_eq!((&value, &text), (&legacy, &legacy));
        }
        let (value, text) = shaped(Revision::V2026_07_28, "tools/call", r#"{"_meta":{"a":1}}"#);
        assert_eq!(value["_meta"]["a"], 1);
        assert_eq!(value, text);
    }
}
