//! An interceptor of one's own: calls of tools that destroy something wait until a person says yes.
//!
//! ```text
//! cargo run -p thinpipe-gateway --example interceptor
//! ```
//!
//! The chain is the same one that a gateway runs its messages through, here with one built-in
//! interceptor from a configuration before it.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;

use bytes::Bytes;
use thinpipe_gateway::interceptor::{
    Action, Carrier, Chain, ChainConfig, Direction, Failure, Interceptor, InterceptorConfig,
    Interest, MessageContext, Methods, OnFailure, Outcome, Rejection, Step,
};
use thinpipe_proto::revision::Revision;
use thinpipe_proto::rpc::{Message, code};
use thinpipe_proto::session::Principal;

/// Asks before tools are called whose name says that they destroy something.
struct Confirm;

impl Interceptor for Confirm {
    fn name(&self) -> &str {
        "confirm"
    }

    fn interest(&self) -> Interest {
        // Everything else goes past without being read on its account.
        Interest {
            to_upstream: Methods::Only(vec!["tools/call".into()]),
            ..Interest::default()
        }
    }

    fn intercept(&self, cx: &MessageContext, message: &Message) -> Action {
        let Some(tool) = cx.name.clone() else {
            return Action::Fail(Failure::Fatal("a call without a tool's name".into()));
        };
        if !["delete", "drop", "remove"]
            .iter()
            .any(|word| tool.contains(word))
        {
            return Action::Continue;
        }
        let arguments = message.param("arguments").unwrap_or_default();
        // People are slow: the call waits, the gateway does not.
        Action::Later(Box::pin(async move {
            let asked = tokio::task::spawn_blocking(move || ask(&tool, &arguments)).await;
            match asked {
                Ok(Ok(true)) => Action::Continue,
                Ok(Ok(false)) => Action::Reject(Rejection {
                    code: code::INVALID_REQUEST,
                    message: "The user declined this call".into(),
                    reason: "declined".into(),
                }),
                Ok(Err(error)) => Action::Fail(Failure::Recoverable(error.to_string())),
                Err(error) => Action::Fail(Failure::Recoverable(error.to_string())),
            }
        }))
    }
}

/// Asks at the terminal; nobody there means no.
fn ask(tool: &str, arguments: &Bytes) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    write!(
        out,
        "{tool} with {}: go ahead? [y/N] ",
        String::from_utf8_lossy(arguments)
    )?;
    out.flush()?;
    if !io::stdin().is_terminal() {
        writeln!(out, "(nobody to ask)")?;
        return Ok(false);
    }
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // As it would stand in a configuration file.
    let access: InterceptorConfig =
        serde_json::from_str(r#"{ "type": "access", "tools": { "deny": ["shell"] } }"#)?;
    let settings = ChainConfig {
        timeout_ms: 60_000,
        on_failure: OnFailure::Reject,
    };
    let chain = Chain::build(&[access], vec![Arc::new(Confirm)], &settings)?;

    for tool in ["read_file", "shell", "delete_file"] {
        let call = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}","arguments":{{"path":"notes.txt"}}}}}}"#
        );
        let context = MessageContext {
            direction: Direction::ToUpstream,
            carrier: Carrier::Body,
            revision: Revision::NEWEST,
            upstream: "files".into(),
            principal: Principal::Anonymous,
            session: None,
            method: Some("tools/call".into()),
            name: Some(tool.into()),
            sequence: 0,
        };
        let outcome = match chain.run(&context, Message::parse(Bytes::from(call))?) {
            Step::Done(outcome) => outcome,
            Step::Wait(outcome) => outcome.await,
        };
        match outcome {
            Outcome::Forward(_) | Outcome::Changed(_) => println!("{tool}: goes on"),
            Outcome::Rejected(rejection) => println!("{tool}: {}", rejection.message),
        }
    }
    for stats in chain.stats() {
        println!(
            "{}: saw {}, refused {}",
            stats.name, stats.seen, stats.rejected
        );
    }
    Ok(())
}
