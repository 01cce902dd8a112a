//! A server on stdio, as there are many: a message a line, revisions up to 2025-11-25, one answer at a time.

use std::io::{self, BufRead, Write};

use anyhow::{Result, ensure};

use crate::message::{Message, put};

/// Serves until stdin ends.
///
/// # Errors
/// A call came twice. Nothing that is measured may do that, and whoever does finds this server gone.
pub(crate) fn serve() -> Result<()> {
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    let (mut line, mut last) = (Vec::new(), 0);
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let message: Message<'_> = serde_json::from_slice(&line)?;
        if let Some(call) = message.call() {
            ensure!(call.sequence > last, "call {} came again", call.sequence);
            last = call.sequence;
        }
        if let Some(mut answer) = answer(&message) {
            answer.push(b'\n');
            output.write_all(&answer)?;
            output.flush()?;
        }
    }
}

fn answer(message: &Message<'_>) -> Option<Vec<u8>> {
    let (id, method) = (message.id?, message.method?);
    if method != "server/discover" {
        return Some(message.answer(false));
    }
    let mut unknown = Vec::new();
    let error = r#"{"code":-32601,"message":"Method not found"}"#;
    put(
        &mut unknown,
        format_args!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#),
    );
    Some(unknown)
}
