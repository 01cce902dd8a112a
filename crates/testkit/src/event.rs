//! Server-sent events: writing them, and a plain reader of its own to read them back.

use bytes::{Buf, Bytes, BytesMut};
use serde_json::Value;

/// One block of an event stream. Fields that were not there are `None`; ids are not inherited.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    /// `event:`.
    pub kind: Option<String>,
    /// `id:`.
    pub id: Option<String>,
    /// `retry:`, in milliseconds.
    pub retry: Option<u64>,
    /// The `data:` lines, joined with LF. `None`: no such line.
    pub data: Option<String>,
    /// The comment lines, joined with LF.
    pub comment: Option<String>,
}

impl Event {
    /// A message: any JSON text, or a [`Value`].
    #[must_use]
    pub fn message(json: impl ToString) -> Self {
        Self {
            kind: Some("message".to_owned()),
            data: Some(json.to_string()),
            ..Self::default()
        }
    }

    /// Data without a type.
    #[must_use]
    pub fn data(data: impl Into<String>) -> Self {
        Self {
            data: Some(data.into()),
            ..Self::default()
        }
    }

    /// A comment and nothing else.
    #[must_use]
    pub fn comment(text: impl Into<String>) -> Self {
        Self {
            comment: Some(text.into()),
            ..Self::default()
        }
    }

    /// The event that opens a stream of revision 2025-11-25: an id and empty data.
    #[must_use]
    pub fn priming(id: impl Into<String>) -> Self {
        Self::data("").with_id(id)
    }

    /// With this id.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// With this `retry`, in milliseconds.
    #[must_use]
    pub fn with_retry(mut self, milliseconds: u64) -> Self {
        self.retry = Some(milliseconds);
        self
    }

    /// The data as JSON.
    ///
    /// # Panics
    /// If it is not JSON.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> Value {
        let data = self.data.as_deref().unwrap_or_default();
        match serde_json::from_str(data) {
            Ok(json) => json,
            Err(error) => panic!("data of an event is not JSON ({error}): {data:?}"),
        }
    }

    /// Whether there is nothing in it but comments.
    #[must_use]
    pub fn is_comment(&self) -> bool {
        self.kind.is_none() && self.id.is_none() && self.retry.is_none() && self.data.is_none()
    }

    /// Whether it has data to parse; a priming event has none.
    #[must_use]
    pub fn has_message(&self) -> bool {
        self.data.as_deref().is_some_and(|data| !data.is_empty())
    }

    /// As on the wire, with LF line ends.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut text = String::new();
        let mut field = |name: &str, value: &str| {
            text.push_str(name);
            text.push_str(": ");
            text.push_str(value);
            text.push('\n');
        };
        for line in self.comment.iter().flat_map(|comment| comment.split('\n')) {
            field("", line);
        }
        if let Some(kind) = &self.kind {
            field("event", kind);
        }
        if let Some(id) = &self.id {
            field("id", id);
        }
        if let Some(retry) = self.retry {
            field("retry", &retry.to_string());
        }
        for line in self.data.iter().flat_map(|data| data.split('\n')) {
            field("data", line);
        }
        text.push('\n');
        text.into()
    }
}

/// Takes a stream apart into blocks. Keeps what is not yet a whole block.
#[derive(Debug, Default)]
pub struct EventReader {
    unread: BytesMut,
    started: bool,
    after_cr: bool,
    block: Event,
    any: bool,
}

impl EventReader {
    /// A reader at the start of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
    }

    /// Bytes of the block that is not finished, as far as they are no whole lines.
    #[must_use]
    pub fn rest(&self) -> &[u8] {
        &self.unread
    }

    /// Whether the stream stands within a block: some of its lines were read, or part of one.
    #[must_use]
    pub fn is_inside_event(&self) -> bool {
        self.any || !self.unread.is_empty()
    }

    /// The next whole block.
    pub fn next_event(&mut self) -> Option<Event> {
        while let Some(line) = self.line() {
            if line.is_empty() {
                if std::mem::take(&mut self.any) {
                    return Some(std::mem::take(&mut self.block));
                }
                continue;
            }
            self.any = true;
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match name {
                "" => append(&mut self.block.comment, value),
                "data" => append(&mut self.block.data, value),
                "event" => self.block.kind = Some(value.to_owned()),
                "id" if !value.contains('\0') => self.block.id = Some(value.to_owned()),
                "retry" if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) => {
                    self.block.retry = value.parse().ok();
                }
                _ => {}
            }
        }
        None
    }

    /// The next line without its end, if its end is there.
    fn line(&mut self) -> Option<String> {
        const MARK: &[u8] = "\u{feff}".as_bytes();
        if !self.started {
            if self.unread.len() < MARK.len() && MARK.starts_with(&self.unread) {
                return None;
            }
            self.started = true;
            if self.unread.starts_with(MARK) {
                self.unread.advance(MARK.len());
            }
        }
        if self.after_cr && !self.unread.is_empty() {
            self.after_cr = false;
            if self.unread[0] == b'\n' {
                self.unread.advance(1);
            }
        }
        let end = self
            .unread
            .iter()
            .position(|byte| matches!(byte, b'\r' | b'\n'))?;
        self.after_cr = self.unread[end] == b'\r';
        let line = self.unread.split_to(end);
        self.unread.advance(1);
        Some(String::from_utf8_lossy(&line).into_owned())
    }
}

fn append(field: &mut Option<String>, line: &str) {
    match field {
        Some(text) => {
            text.push('\n');
            text.push_str(line);
        }
        None => *field = Some(line.to_owned()),
    }
}
