//! SSE framing (WHATWG HTML 9.2.6, as MCP uses it).
//!
//! Two readers over the same bytes: [`Scanner`] knows only where events end and which id came last,
//! [`Decoder`] gives the events themselves. [`encode`] writes one.
//!
//! ```
//! use bytes::Bytes;
//! use thinpipe_proto::sse::{Decoder, Item, DEFAULT_MAX_EVENT};
//!
//! let mut decoder = Decoder::new(DEFAULT_MAX_EVENT);
//! decoder.push(Bytes::from_static(b"id: 7\ndata: {\"jsonrpc\""));
//! assert_eq!(decoder.next_item(), Ok(None));
//! decoder.push(Bytes::from_static(b":\"2.0\"}\n\n"));
//! let Ok(Some(Item::Event(event))) = decoder.next_item() else { panic!("one event") };
//! assert_eq!(event.data.unwrap(), r#"{"jsonrpc":"2.0"}"#);
//! assert_eq!(decoder.last_event_id().unwrap(), "7");
//! ```

mod decode;
mod encode;
mod line;
mod scan;

pub use decode::{DecodeError, Decoder, Event, Item};
pub use encode::{data_of, encode};
pub use scan::{Scan, Scanner};

use std::time::Duration;

/// The media type of an event stream.
pub const MEDIA_TYPE: &str = "text/event-stream";

/// The default limit of one event, in bytes of its raw form.
pub const DEFAULT_MAX_EVENT: usize = 16 << 20;

/// The keep-alive comment that Thinpipe writes on silent streams, with its blank line.
pub const KEEP_ALIVE: &[u8] = b": ka\n\n";

/// The longest reconnection time a stream can ask for; a longer `retry` counts as this one.
pub const MAX_RETRY: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests;
