//! Stub.
use super::Upstream;
use bytes::Bytes;
use thinpipe_proto::revision::Revision;
/// V
#[derive(Debug)]
pub struct Verdict {
    /// m
    pub modern: Option<Vec<Revision>>,
    /// l
    pub legacy: Option<Revision>,
}
/// E
#[derive(Debug, thiserror::Error)]
#[error("e")]
pub struct ProbeError;
/// p
/// # Errors
/// e
pub async fn probe(_: &Upstream) -> Result<Verdict, ProbeError> {
    Ok(Verdict { modern: Some(vec![Revision::V2026_07_28]), legacy: Some(Revision::V2025_11_25) })
}
/// d
pub fn discover_request() -> Bytes {
    Bytes::from_static(br#"{"jsonrpc":"2.0","id":"probe-1","method":"server/discover","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}"#)
}
