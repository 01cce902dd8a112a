//! What went wrong with Redis, in words that name the mend.

use std::time::Duration;

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::StoreError;

/// Why Redis did not do what it was asked; the source of a [`StoreError::Unavailable`].
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("Redis did not answer within {0:?}")]
    Late(Duration),
    #[error("Redis has failed several times in a row and is only asked now and then")]
    HeldBack,
    #[error("connecting to Redis failed{}", mend(.0))]
    Connect(#[source] RedisError),
    #[error("Redis failed{}", mend(.0))]
    Redis(#[source] RedisError),
    #[error(
        "Redis does not know the command {0}: the server is too old (6.2 or later is needed), or has it turned off, or is a sentinel, for which the URL begins with redis+sentinel://"
    )]
    UnknownCommand(String),
    #[error("what Redis keeps of the session cannot be read: {0}")]
    Unreadable(String),
    #[error("what Redis keeps of the session is no record: {0}")]
    Damaged(String),
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unreadable(_) => Self::Unreadable(Box::new(failure)),
            Failure::Damaged(_) => Self::Damaged(Box::new(failure)),
            _ => Self::Unavailable(Box::new(failure)),
        }
    }
}

impl Failure {
    /// What came of a command. An error about one that is unknown repeats its arguments, and those may be ids.
    pub(super) fn of(error: RedisError) -> Self {
        match unknown_command(&error.to_string()) {
            Some(command) => Self::UnknownCommand(command.to_owned()),
            None => Self::Redis(error),
        }
    }

    /// What came of reading a record. A key of another type holds none.
    pub(super) fn of_record(self) -> Self {
        match &self {
            Self::Redis(error) if error.to_string().contains("WRONGTYPE") => {
                Self::Damaged("its key is not a hash".to_owned())
            }
            _ => self,
        }
    }

    /// Redis has refused it for want of memory: it is not done.
    fn is_full(&self) -> bool {
        matches!(self, Self::Redis(error) if is_full(&error.to_string()))
    }

    /// It is certainly not done: it was not sent, or the server has said so.
    pub(super) fn is_undone(&self) -> bool {
        match self {
            Self::HeldBack | Self::Connect(_) | Self::UnknownCommand(_) => true,
            Self::Redis(error) => is_refused(error) || self.is_full(),
            Self::Late(_) | Self::Unreadable(_) | Self::Damaged(_) => false,
        }
    }

    /// It is the server's state that fails, so that other calls will fare no better.
    pub(super) fn is_outage(&self) -> bool {
        match self {
            Self::Late(_) | Self::Connect(_) => true,
            Self::Redis(error) => is_lost(error) || is_refused(error),
            Self::HeldBack | Self::UnknownCommand(_) | Self::Unreadable(_) | Self::Damaged(_) => {
                false
            }
        }
    }
}

/// There is no memory for what is new. That stands in the text, since a script's error has another kind before Redis 7.
fn is_full(said: &str) -> bool {
    said.contains("OOM") && said.contains("used memory > 'maxmemory'")
}

/// The name of the command that a server says it does not know. Redis before 7 begins it with a backtick.
fn unknown_command(said: &str) -> Option<&str> {
    let (_, rest) = said.split_once("unknown command ")?;
    let (command, _) = rest.strip_prefix(['\'', '`'])?.split_once(['\'', '`'])?;
    Some(command)
}

/// The connection is gone, and what was asked over it may be done.
pub(super) fn is_lost(error: &RedisError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Io | ErrorKind::Parse | ErrorKind::ClusterConnectionNotFound
    )
}

/// The server has said that it has not done it, and may do it a little later, or another may.
pub(super) fn is_refused(error: &RedisError) -> bool {
    use ServerErrorKind::{Ask, BusyLoading, ClusterDown, MasterDown, Moved, ReadOnly, TryAgain};
    let ErrorKind::Server(kind) = error.kind() else {
        return false;
    };
    matches!(
        kind,
        BusyLoading | TryAgain | ClusterDown | MasterDown | ReadOnly | Moved | Ask
    )
}

/// The keys are on their way to another node: none has all of them, or one has them that is not known yet. That lasts
/// for as long as the slot moves.
pub(super) fn is_on_its_way(error: &RedisError) -> bool {
    use ServerErrorKind::{Ask, TryAgain};
    matches!(error.kind(), ErrorKind::Server(TryAgain | Ask))
}

/// The key has another node by now, which has been named.
pub(super) fn has_moved(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::Moved)
}

/// Another server than this one takes writes by now.
pub(super) fn is_elsewhere(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
}

/// The key is on its way, and another node has been named that has it by now.
pub(super) fn is_asked_elsewhere(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::Ask)
}

pub(super) fn is_unknown_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

/// What to do about an error that is not Redis' fault.
fn mend(error: &RedisError) -> &'static str {
    let said = error.to_string();
    match error.kind() {
        ErrorKind::AuthenticationFailed => REFUSED,
        // Of a cluster the kind is another, and what a node says stands in the text.
        _ if said.contains("WRONGPASS") || said.contains("NOAUTH") => REFUSED,
        ErrorKind::Server(ServerErrorKind::NoPerm) => {
            ": this user may not run this command or use this key (ACL)"
        }
        ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::CrossSlot) => {
            ": this is a node of a cluster, for which the URL begins with redis+cluster://"
        }
        _ if is_full(&said) => FULL,
        _ if said.contains("cluster support disabled") => {
            ": this is no cluster, and the URL of a single server begins with redis://"
        }
        _ if said.contains("not point to a sentinel") => {
            ": this is no sentinel, and the URL of a single server begins with redis://"
        }
        ErrorKind::Parse => ": what answers there is no Redis",
        ErrorKind::MasterNameNotFoundBySentinel => {
            ": no sentinel knows the name that stands at the end of the URL"
        }
        _ => "",
    }
}

const FULL: &str = ": it is out of memory and stores nothing new: raise its maxmemory, give it to nothing else, or lower limits.event_log or sessions.idle";
const REFUSED: &str = ": it refuses the user or the password";

#[cfg(test)]
mod tests {
    use super::*;

    /// A13: arguments may be ids, whichever release of Redis repeats them.
    #[test]
    fn a13_an_unknown_command_is_named_without_its_arguments() {
        for said in [
            "unknown command 'HMGET', with args beginning with: 'thinpipe:{secret}:session' ",
            "unknown command `HMGET`, with args beginning with: `thinpipe:{secret}:session`, ",
        ] {
            let kind = ErrorKind::Server(ServerErrorKind::ResponseError);
            let error = RedisError::from((kind, "ERR", said.to_owned()));
            let failure = Failure::of(error);
            let told = format!("{failure} {failure:?}");
            assert!(told.contains("the command HMGET:"), "{told}");
            assert!(!told.contains("secret"), "{told}");
        }
    }
}
