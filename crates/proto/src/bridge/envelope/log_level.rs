//! Levels of log messages (RFC 5424, as MCP names them).

use crate::rpc::Message;

/// How serious a log message is; greater is worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum LogLevel {
    /// Debugging.
    Debug,
    /// Information.
    Info,
    /// Normal, but worth noting.
    Notice,
    /// Something may go wrong.
    Warning,
    /// Something went wrong.
    Error,
    /// A component failed.
    Critical,
    /// Somebody has to act at once.
    Alert,
    /// The system is unusable.
    Emergency,
}

impl LogLevel {
    /// All of them, in order.
    const ALL: [Self; 8] = [
        Self::Debug,
        Self::Info,
        Self::Notice,
        Self::Warning,
        Self::Error,
        Self::Critical,
        Self::Alert,
        Self::Emergency,
    ];

    /// The names of all, for people.
    pub(crate) const NAMES: &str =
        "debug, info, notice, warning, error, critical, alert, emergency";

    /// Its name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
            Self::Alert => "alert",
            Self::Emergency => "emergency",
        }
    }

    /// The level of this name, letter by letter.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == name)
    }

    /// The level of this number, counted from [`Debug`](Self::Debug), which is 0.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Whether somebody who asked for this level wants a line of that one (R135): what is as serious, or
    /// more.
    #[must_use]
    pub fn admits(self, line: Self) -> bool {
        line >= self
    }

    /// The level of a line: of a `notifications/message` with a known level.
    #[must_use]
    pub fn of_line(message: &Message) -> Option<Self> {
        let is_line = message.method() == Some("notifications/message");
        let level = message.param_text("level").filter(|_| is_line)?;
        Self::from_name(&level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_ordered_and_known_by_name_and_number() {
        assert!(LogLevel::ALL.is_sorted() && LogLevel::Debug < LogLevel::Emergency);
        for level in LogLevel::ALL {
            assert_eq!(LogLevel::from_name(level.as_str()), Some(level));
            assert_eq!(LogLevel::from_number(level as u8), Some(level));
        }
        let names = LogLevel::ALL.map(LogLevel::as_str);
        assert_eq!(LogLevel::NAMES, names.join(", "));
        assert_eq!(LogLevel::from_name("Info"), None);
        assert_eq!(LogLevel::from_number(8), None);
    }

    /// R135
    #[test]
    fn r135_a_level_admits_what_is_as_serious() {
        assert!(LogLevel::Warning.admits(LogLevel::Warning));
        assert!(LogLevel::Warning.admits(LogLevel::Emergency));
        assert!(!LogLevel::Warning.admits(LogLevel::Notice));
        let line = |method: &str, level: &str| {
            let text = format!(
                r#"{{"jsonrpc":"2.0","method":"{method}","params":{{"level":{level},"data":1}}}}"#
            );
            LogLevel::of_line(&Message::parse(text.into()).unwrap())
        };
        let method = "notifications/message";
        assert_eq!(line(method, r#""error""#), Some(LogLevel::Error));
        assert_eq!(line(method, r#""loud""#), None);
        assert_eq!(line(method, "4"), None);
        assert_eq!(line("notifications/other", r#""error""#), None);
    }
}
