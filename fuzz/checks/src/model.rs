//! An event-stream parser that is slow, needs the whole stream, and follows the text of WHATWG HTML
//! 9.2.6 line by line: the oracle for the fast ones.

use std::time::Duration;

/// A block with at least one field.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Block {
    /// The type it names, unless that is empty.
    pub kind: Option<String>,
    /// Its data; `None` without a `data` field.
    pub data: Option<String>,
    /// The id it names.
    pub id: Option<String>,
    /// The reconnection time it names.
    pub retry: Option<Duration>,
}

/// What a whole stream says.
#[derive(Debug, Default)]
pub struct Model {
    /// The complete blocks.
    pub blocks: Vec<Block>,
    /// The last event id of the stream; `None` if it never named one.
    pub last_id: Option<String>,
    /// The reconnection time at its end.
    pub retry: Option<Duration>,
}

impl Model {
    /// Interprets a stream.
    #[must_use]
    pub fn of(stream: &[u8]) -> Self {
        let text = String::from_utf8_lossy(stream);
        let text = text.strip_prefix('\u{FEFF}').unwrap_or(&text);
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        let mut lines = text.split('\n').collect::<Vec<_>>();
        // What follows the last line end is no line.
        lines.pop();
        let mut model = Self::default();
        let mut block: Option<Block> = None;
        for line in lines {
            if line.is_empty() {
                if let Some(block) = block.take() {
                    model.last_id = block.id.clone().or(model.last_id);
                    model.blocks.push(block);
                }
            } else if !line.starts_with(':') {
                model.field(block.get_or_insert_default(), line);
            }
        }
        model
    }

    fn field(&mut self, block: &mut Block, line: &str) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => block.kind = Some(value.to_owned()).filter(|kind| !kind.is_empty()),
            "data" => {
                let before = block.data.take().map(|data| data + "\n");
                block.data = Some(before.unwrap_or_default() + value);
            }
            "id" if !value.contains('\0') => block.id = Some(value.to_owned()),
            "retry" => {
                let is_number = (1..=64).contains(&value.len())
                    && value.chars().all(|char| char.is_ascii_digit());
                if is_number {
                    let millis = value.parse().unwrap_or(u64::MAX);
                    block.retry = Some(Duration::from_millis(millis).min(Duration::from_secs(300)));
                    self.retry = block.retry;
                }
            }
            _ => {}
        }
    }
}
