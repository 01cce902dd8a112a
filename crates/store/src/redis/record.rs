//! Records of sessions as text: JSON with a version, so that another release can tell what it reads.

use std::fmt::Write as _;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thinpipe_proto::revision::{Binding, Revision};
use thinpipe_proto::session::{NodeId, Principal, SessionId};

use super::failure::Failure;
use crate::SessionRecord;

/// The only version so far.
const VERSION: u32 = 1;

/// As much as tells how to read the rest.
#[derive(Deserialize)]
struct Versioned {
    v: u32,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    v: u32,
    principal: Option<String>,
    endpoint: String,
    binding: StoredBinding,
    revision: String,
    initialize_params: Blob,
    attachment: Blob,
    owner: Option<String>,
    created_ms: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredBinding {
    HttpSse,
    Sessions,
    Stateless,
}

/// Bytes: as text where they are, since people read records, too.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Blob {
    Text(String),
    Hexadecimal { hex: String },
}

/// The record without its id, which is in the key.
pub(super) fn written(record: &SessionRecord) -> Result<Vec<u8>, Failure> {
    let stored = Stored {
        v: VERSION,
        principal: match &record.principal {
            Principal::Anonymous => None,
            Principal::Named(name) => Some(name.to_string()),
        },
        endpoint: record.endpoint.to_string(),
        binding: match record.binding {
            Binding::HttpSse => StoredBinding::HttpSse,
            Binding::Sessions => StoredBinding::Sessions,
            Binding::Stateless => StoredBinding::Stateless,
        },
        revision: record.revision.as_str().to_owned(),
        initialize_params: Blob::from(&record.initialize_params),
        attachment: Blob::from(&record.attachment),
        owner: record.owner.as_ref().map(|owner| owner.as_str().to_owned()),
        created_ms: record.created_ms,
    };
    serde_json::to_vec(&stored).map_err(|error| Failure::Unreadable(error.to_string()))
}

pub(super) fn read(id: &SessionId, text: &[u8]) -> Result<SessionRecord, Failure> {
    // Where, and not what: that may be a secret.
    let damaged = |error: serde_json::Error| {
        Failure::Damaged(format!(
            "it is not as it should be at column {}",
            error.column()
        ))
    };
    let Versioned { v } = serde_json::from_slice(text).map_err(damaged)?;
    if v > VERSION {
        let what = format!("it is of version {v}, and this release knows version {VERSION}");
        return Err(Failure::Unreadable(what));
    }
    let stored: Stored = serde_json::from_slice(text).map_err(damaged)?;
    // A later release may know more of them.
    let revision = Revision::from_bytes(stored.revision.as_bytes())
        .ok_or_else(|| Failure::Unreadable("its revision is unknown".to_owned()))?;
    let owner = stored.owner.map(|owner| NodeId::from_bytes(owner.into()));
    let owner = owner.transpose();
    Ok(SessionRecord {
        id: id.clone(),
        principal: match stored.principal {
            None => Principal::Anonymous,
            Some(name) => Principal::Named(name.into()),
        },
        endpoint: stored.endpoint.into(),
        binding: match stored.binding {
            StoredBinding::HttpSse => Binding::HttpSse,
            StoredBinding::Sessions => Binding::Sessions,
            StoredBinding::Stateless => Binding::Stateless,
        },
        revision,
        initialize_params: stored.initialize_params.bytes()?,
        attachment: stored.attachment.bytes()?,
        owner: owner.map_err(|invalid| Failure::Damaged(invalid.to_string()))?,
        created_ms: stored.created_ms,
    })
}

impl From<&Bytes> for Blob {
    fn from(bytes: &Bytes) -> Self {
        if let Ok(text) = std::str::from_utf8(bytes) {
            return Self::Text(text.to_owned());
        }
        let mut hex = String::with_capacity(2 * bytes.len());
        for byte in bytes {
            // Nothing fails in writing to a string.
            let _ = write!(hex, "{byte:02x}");
        }
        Self::Hexadecimal { hex }
    }
}

impl Blob {
    fn bytes(self) -> Result<Bytes, Failure> {
        let hex = match self {
            Self::Text(text) => return Ok(text.into()),
            Self::Hexadecimal { hex } => hex,
        };
        let pairs = hex.as_bytes().chunks(2);
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let bytes: Option<Vec<u8>> = pairs.map(byte).collect();
        let bytes =
            bytes.ok_or_else(|| Failure::Damaged("bytes are not hexadecimal".to_owned()))?;
        Ok(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::sample;

    /// F13: the version is in the record, and people can read it.
    #[test]
    fn f13_records_are_versioned_json() {
        let record = sample(1);
        let text = String::from_utf8(written(&record).unwrap()).unwrap();
        let wanted = r#"{"v":1,"principal":"alice","endpoint":"everything","binding":"sessions","#;
        assert!(text.starts_with(wanted), "{text}");
        assert_eq!(read(&record.id, text.as_bytes()).unwrap(), record);
    }

    /// F13: what another release has written is not guessed at.
    #[test]
    fn f13_a_record_of_another_version_is_refused_by_name() {
        let id = sample(1).id;
        let refused = read(&id, br#"{"v":2,"session":{}}"#).unwrap_err();
        assert!(matches!(refused, Failure::Unreadable(_)), "{refused}");
        let refused = refused.to_string();
        assert!(
            refused.contains("version 2") && refused.contains("version 1"),
            "{refused}"
        );
    }

    /// F13: what is no record of any release is another thing.
    #[test]
    fn f13_what_is_no_record_is_damaged() {
        let record = sample(1);
        let text = String::from_utf8(written(&record).unwrap()).unwrap();
        let wrong_type = text.replace(r#""endpoint":"everything""#, r#""endpoint":7"#);
        let cut = &text[..text.len() - 1];
        let early = r#"{"v":0}"#;
        for damaged in ["", "{}", r#"{"v":1}"#, "[]", early, cut, &wrong_type] {
            let refused = read(&record.id, damaged.as_bytes()).unwrap_err();
            assert!(matches!(refused, Failure::Damaged(_)), "{damaged}");
        }
    }
}
