//! Whether Redis drops keys of its own accord.

use redis::Value;

use super::RedisStore;
use super::client::Call;
use crate::StoreError;

impl RedisStore {
    /// The name of the policy by which this Redis, or a server of this cluster, drops keys when its memory is full;
    /// `None` if it drops none. With any policy but `noeviction` live sessions are lost then, as all keys expire
    /// at some time, and those that do are what policies choose from.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], also if the user of the URL may not ask (`INFO`).
    pub async fn eviction_policy(&self) -> Result<Option<String>, StoreError> {
        let info = self
            .calls
            .call(Call::command("INFO", &["memory".to_owned()]).repeatable());
        let mut texts = Vec::new();
        collect(info.await?, &mut texts);
        Ok(texts.iter().find_map(|text| policy(text)))
    }
}

/// A cluster answers for each of its servers.
fn collect(answer: Value, texts: &mut Vec<String>) {
    match answer {
        Value::BulkString(bytes) => texts.push(String::from_utf8_lossy(&bytes).into_owned()),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => texts.push(text),
        Value::Array(answers) => answers
            .into_iter()
            .for_each(|answer| collect(answer, texts)),
        Value::Map(answers) => {
            let answers = answers.into_iter().map(|(_, answer)| answer);
            answers.for_each(|answer| collect(answer, texts));
        }
        _ => {}
    }
}

fn policy(info: &str) -> Option<String> {
    let value = |name: &str| {
        let mut lines = info.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
    };
    let is_bounded = value("maxmemory").is_some_and(|bytes| bytes != "0");
    let policy = value("maxmemory_policy").filter(|policy| *policy != "noeviction");
    policy.filter(|_| is_bounded).map(str::to_owned)
}
