//! Keys of what clients keep for the gateway.

use std::fs::File;
use std::io::{self, Read as _};

use thinpipe_gateway::StateKey;

use super::build::Build;
use super::problem::Problem;
use super::raw::RawStateKey;
use super::tree::Path;

/// One seals; the others open what was sealed before they were replaced.
const MAX_KEYS: usize = 16;
/// Bytes of a file that is read: a key and white space.
const MAX_FILE: u64 = 1024;
/// How to make one.
const MAKE: &str = "make one with `openssl rand -hex 32`";

impl Build {
    /// The keys in their order: the first one seals. No message quotes what may be a key.
    pub(super) fn state_keys(&mut self, raw: Vec<RawStateKey>) -> Vec<StateKey> {
        let list = Path::default().key("state_keys");
        if raw.len() > MAX_KEYS {
            let message = format!("there are more than {MAX_KEYS} keys");
            let mend = "keep the one that seals, and those that clients may still have states of";
            self.add(Problem::at(list.clone(), message).mend(mend));
        }
        let mut keys: Vec<StateKey> = Vec::with_capacity(raw.len());
        for (index, entry) in raw.into_iter().enumerate() {
            let at = list.index(index);
            match self.state_key(entry, &at) {
                Some(key) if keys.contains(&key) => {
                    let problem = Problem::at(at, "this key is given twice");
                    self.add(problem.mend("put the new key first and keep the old one behind it"));
                }
                Some(key) => keys.push(key),
                None => {}
            }
        }
        keys
    }

    fn state_key(&mut self, entry: RawStateKey, at: &Path) -> Option<StateKey> {
        let (text, at) = match (entry.key, entry.file) {
            (Some(key), None) => (key, at.key("key")),
            (None, Some(file)) => match read(&file) {
                Ok(text) => (text, at.key("file")),
                Err(error) => {
                    let message = format!("`{file}` cannot be read: {error}");
                    let mend = "name a file that holds 64 hexadecimal digits";
                    self.add(Problem::at(at.key("file"), message).mend(mend));
                    return None;
                }
            },
            (Some(_), Some(_)) => {
                let message = "a key has either `key` or `file`";
                self.add(Problem::at(at.key("file"), message).mend("remove one of them"));
                return None;
            }
            (None, None) => {
                let message = "the key has neither `key` nor `file`";
                let mend = "write `key = \"${STATE_KEY}\"`, or `file = \"/run/secrets/state-key\"`";
                self.add(Problem::at(at.clone(), message).mend(mend));
                return None;
            }
        };
        match text.parse() {
            Ok(key) => Some(key),
            Err(error) => {
                self.add(Problem::at(at, format!("{error}")).mend(MAKE));
                None
            }
        }
    }
}

fn read(file: &str) -> io::Result<String> {
    let mut text = String::new();
    File::open(file)?.take(MAX_FILE).read_to_string(&mut text)?;
    Ok(text)
}
