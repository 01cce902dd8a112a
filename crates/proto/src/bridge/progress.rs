//! Progress tokens and values (protocol notes 5.1, "Progress-token map").

use crate::bridge::action::CallId;
use crate::bridge::association::call_written;
use crate::bridge::client::check_length;
use crate::bridge::refused::Unusable;
use crate::rpc::{Message, RequestId};

/// The member of `params._meta` of a request that asks for progress.
pub(super) const TOKEN_IN_META: &str = "progressToken";
/// The member of `params` of a progress notification.
const TOKEN: &str = "progressToken";

/// The progress that the sender of one request gets.
#[derive(Debug)]
pub(super) struct Progress {
    /// Its own token, as it came.
    pub(super) token: RequestId,
    last: Option<Value>,
}

impl Progress {
    /// Whether a request asks for progress.
    ///
    /// # Errors
    /// [`Unusable`] for a token that is too long, or no string or integer. `null` is no token.
    pub(super) fn asked(request: &Message) -> Result<Option<Self>, Unusable> {
        let Some(token) = request.meta(TOKEN_IN_META) else {
            return Ok(None);
        };
        if token == "null" {
            return Ok(None);
        }
        check_length(token.len())?;
        let token = RequestId::parse(token).map_err(|_| Unusable::InvalidParameter {
            parameter: TOKEN_IN_META,
        })?;
        Ok(Some(Self { token, last: None }))
    }

    /// Takes the value of a notification: whether it rises, and so may be passed on.
    pub(super) fn rises(&mut self, notification: &Message) -> bool {
        let Some(value) = notification.param_json("progress").and_then(Value::read) else {
            return false;
        };
        let rises = self.last.is_none_or(|last| value.is_above(last));
        if rises {
            self.last = Some(value);
        }
        rises
    }

    /// A notification with the token that its receiver has given, if its value rises.
    pub(super) fn relayed(&mut self, notification: &Message) -> Option<Message> {
        if !self.rises(notification) {
            return None;
        }
        notification.with_param(TOKEN, self.token.as_json())
    }
}

/// The token of a progress notification.
pub(super) fn token_of(notification: &Message) -> Option<RequestId> {
    RequestId::parse(notification.param(TOKEN)?).ok()
}

/// The request of ours whose token a progress notification has.
pub(super) fn call_named(notification: &Message) -> Option<CallId> {
    call_written(notification.param_json(TOKEN)?)
}

/// A progress value. Integers are compared as such, as a float makes neighbours beyond 2^53 equal.
#[derive(Debug, Clone, Copy)]
enum Value {
    Integer(i128),
    Number(f64),
}

impl Value {
    fn read(json: &[u8]) -> Option<Self> {
        if let Some(count) = counted(json) {
            return Some(Self::Integer(count.into()));
        }
        let text = std::str::from_utf8(json).ok()?;
        // JSON has no words for what is not finite, and this parser does.
        if !text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
            return None;
        }
        let number = || text.parse().ok().map(Self::Number);
        text.parse().ok().map(Self::Integer).or_else(number)
    }

    fn number(self) -> f64 {
        match self {
            Self::Integer(integer) => integer as f64,
            Self::Number(number) => number,
        }
    }

    fn is_above(self, other: Self) -> bool {
        match (self, other) {
            (Self::Integer(this), Self::Integer(other)) => this > other,
            _ => self.number() > other.number(),
        }
    }
}

/// A number of a few digits, as most are: a `i128` takes its time.
fn counted(json: &[u8]) -> Option<u64> {
    let is_short = (1..=18).contains(&json.len());
    (is_short && json.iter().all(u8::is_ascii_digit)).then(|| {
        json.iter()
            .fold(0, |count, digit| 10 * count + u64::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(json: &'static str) -> Option<Value> {
        Value::read(json.as_bytes())
    }

    /// R188, invariant 17
    #[test]
    fn r188_progress_rises_beyond_what_floats_tell_apart() {
        let above = |a, b| value(a).unwrap().is_above(value(b).unwrap());
        assert!(above("9007199254740993", "9007199254740992"));
        assert!(!above("9007199254740992", "9007199254740992"));
        assert!(above("1000000000000000000", "999999999999999999"));
        assert!(above("10", "9") && !above("9", "10") && above("1", "0.5"));
        assert!(above("0.5", "0") && above("1e2", "99") && above("0", "-1"));
        assert!(!above("0.5", "0.5") && !above("-2", "-1"));
    }

    #[test]
    fn what_is_no_number_is_no_progress() {
        for json in ["\"1\"", "null", "true", "[1]", "{}"] {
            assert!(value(json).is_none(), "{json}");
        }
    }
}
