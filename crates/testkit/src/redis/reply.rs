//! As much of the protocol of Redis (RESP2) as tests need to ask a server something.

use std::panic::Location;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::deadline::within;

/// What Redis answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedisReply {
    /// Nothing is there.
    Nil,
    /// A number.
    Number(i64),
    /// Text, or bytes as far as they are text.
    Text(String),
    /// Several answers.
    List(Vec<Self>),
    /// What went wrong.
    Error(String),
}

impl RedisReply {
    /// The number that it is.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    #[track_caller]
    pub fn number(&self) -> i64 {
        match self {
            Self::Number(number) => *number,
            other => panic!("{other:?} is no number"),
        }
    }

    /// The text that it is.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    #[track_caller]
    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            other => panic!("{other:?} is no text"),
        }
    }

    /// The answers that it is made of.
    ///
    /// # Panics
    /// If it is no list.
    #[must_use]
    #[track_caller]
    pub fn list(&self) -> &[Self] {
        match self {
            Self::List(list) => list,
            other => panic!("{other:?} is no list"),
        }
    }
}

/// Sends one command and reads the answer.
pub(super) async fn ask(connection: TcpStream, words: &[&str]) -> RedisReply {
    let mut connection = BufReader::new(connection);
    let mut command = format!("*{}\r\n", words.len());
    for word in words {
        command.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    let sent = connection.write_all(command.as_bytes()).await;
    sent.expect("the server reads what it is sent");
    let what = || format!("an answer of Redis to {words:?}");
    let answer = within(Location::caller(), what, reply(&mut connection)).await;
    if let RedisReply::Error(error) = &answer {
        panic!("Redis answers {words:?} with {error}");
    }
    answer
}

async fn reply(connection: &mut BufReader<TcpStream>) -> RedisReply {
    let mut line = String::new();
    let read = connection.read_line(&mut line).await;
    read.expect("the server answers");
    let (kind, rest) = line
        .trim_end()
        .split_at_checked(1)
        .expect("the server answers");
    let number = || rest.parse::<i64>().expect("a number comes here");
    match kind {
        "+" => RedisReply::Text(rest.to_owned()),
        "-" => RedisReply::Error(rest.to_owned()),
        ":" => RedisReply::Number(number()),
        "$" => match usize::try_from(number()) {
            Ok(length) => {
                let mut bytes = vec![0; length + 2];
                let read = connection.read_exact(&mut bytes).await;
                read.expect("the server sends what it announces");
                bytes.truncate(length);
                RedisReply::Text(String::from_utf8_lossy(&bytes).into_owned())
            }
            Err(_) => RedisReply::Nil,
        },
        "*" => match usize::try_from(number()) {
            Ok(length) => {
                let mut list = Vec::with_capacity(length);
                for _ in 0..length {
                    list.push(Box::pin(reply(connection)).await);
                }
                RedisReply::List(list)
            }
            Err(_) => RedisReply::Nil,
        },
        other => panic!("Redis does not answer with {other}{rest}"),
    }
}
