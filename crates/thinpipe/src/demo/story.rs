//! What the client of the demonstration does, told as it happens.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use http::StatusCode;
use serde_json::{Value, json};

use super::client::{Arrived, Client, Messages};

const NEXT: &str = "\
All of it worked. What to try next:
  thinpipe demo --keep                  the same, left running for a client of your own
  thinpipe http://127.0.0.1:3001/mcp    the gateway in front of a server of yours
  thinpipe --help                       everything else";

/// Talks to the sample server through the gateway, and says on standard output what happens.
///
/// # Errors
/// The first thing that is not as it should be.
pub(crate) async fn tell(server: &str, gateway: &str) -> anyhow::Result<()> {
    println!("A sample MCP server listens on {server},");
    println!("the gateway stands in front of it on {gateway}\n");
    let mut client = Client::new(gateway.parse()?);
    open(&mut client).await.context("step 1 or 2")?;
    count(&mut client).await.context("step 3")?;
    ask(&mut client).await.context("step 4")?;
    stateless(&mut client).await.context("step 5 or 6")?;
    end(&mut client).await.context("step 7")?;
    println!("{NEXT}");
    Ok(())
}

async fn open(client: &mut Client) -> anyhow::Result<()> {
    println!("1. initialize: a session of 2025-11-25");
    let (answer, session) = client.initialize().await?;
    let session = session.context("the gateway gave no session id")?;
    let result = &answer["result"];
    let revision = &result["protocolVersion"];
    ensure!(revision == "2025-11-25", "unexpected revision {revision}");
    let name = text(&result["serverInfo"]["name"]);
    // A session id is a secret even here.
    let session = session.get(..6).unwrap_or_default();
    println!("   <- {name} speaks 2025-11-25; the session's id begins with {session}\n");

    println!("2. tools/list");
    let (answer, _) = client
        .call("tools/list", json!({}))
        .await?
        .response()
        .await?;
    let names = tool_names(&answer["result"]);
    ensure!(
        names == ["echo", "count", "ask"],
        "unexpected tools {names:?}"
    );
    println!("   <- {}\n", names.join(", "));
    Ok(())
}

async fn count(client: &mut Client) -> anyhow::Result<()> {
    println!("3. tools/call count: events come as they happen, not at the end");
    show_counting(client.call("tools/call", counting()).await?).await
}

async fn ask(client: &mut Client) -> anyhow::Result<()> {
    println!("4. tools/call ask: the server asks the client while its call runs");
    let mut answer = client.call("tools/call", asking()).await?;
    let asked = next(&mut answer).await?;
    let question = &asked.message;
    ensure!(
        question["method"] == "elicitation/create",
        "unexpected message {question}"
    );
    println!(
        "   <- {}  the server asks: {}",
        at(&asked),
        text(&question["params"]["message"])
    );
    let reply = json!({
        "jsonrpc": "2.0", "id": question["id"],
        "result": { "action": "accept", "content": { "name": "Ada" } },
    });
    client
        .post(&reply)
        .await
        .context("the answer to the server's question")?;
    println!("   ->          the client answers, in a request of its own: 202");
    let last = next(&mut answer).await?;
    ensure!(
        said(&last.message) == "Hello, Ada",
        "unexpected result {}",
        last.message
    );
    println!("   <- {}  result: {}\n", at(&last), said(&last.message));
    Ok(())
}

async fn stateless(client: &mut Client) -> anyhow::Result<()> {
    println!("5. the same call as of 2026-07-28: no session, every request describes itself");
    show_counting(client.call_stateless("tools/call", counting()).await?).await?;

    println!("6. tools/call ask as of 2026-07-28: the question is a result");
    let mut params = asking();
    let (answer, _) = client
        .call_stateless("tools/call", params.clone())
        .await?
        .response()
        .await?;
    let result = &answer["result"];
    ensure!(
        result["resultType"] == "input_required",
        "unexpected result {answer}"
    );
    let question = &result["inputRequests"]["name"]["params"]["message"];
    println!("   <- input required: {}", text(question));
    params["inputResponses"] =
        json!({ "name": { "action": "accept", "content": { "name": "Ada" } } });
    let (answer, _) = client
        .call_stateless("tools/call", params)
        .await?
        .response()
        .await?;
    ensure!(said(&answer) == "Hello, Ada", "unexpected result {answer}");
    println!("   -> the same call again, with the answer");
    println!("   <- result: {}\n", said(&answer));
    Ok(())
}

async fn end(client: &mut Client) -> anyhow::Result<()> {
    println!("7. DELETE: the session ends, here and at the server");
    let status = client.delete().await?;
    ensure!(status.is_success(), "DELETE gets {status}");
    let after = client.status("tools/list").await?;
    ensure!(
        after == StatusCode::NOT_FOUND,
        "a request after DELETE gets {after}"
    );
    println!(
        "   <- {}; another request with its id gets {}\n",
        status.as_u16(),
        after.as_u16()
    );
    Ok(())
}

fn counting() -> Value {
    json!({ "name": "count", "arguments": { "to": 3 }, "_meta": { "progressToken": "demo" } })
}

fn asking() -> Value {
    json!({ "name": "ask", "arguments": { "question": "What is your name?" } })
}

/// Shows the events of a call that counts to three.
async fn show_counting(mut answer: Messages) -> anyhow::Result<()> {
    ensure!(answer.is_stream(), "the answer is no stream of events");
    let mut first = None;
    let mut steps = 0;
    loop {
        let arrived = next(&mut answer).await?;
        let message = &arrived.message;
        if message["method"] == "notifications/progress" {
            steps += 1;
            first.get_or_insert(arrived.after);
            let (step, total) = (&message["params"]["progress"], &message["params"]["total"]);
            println!("   <- {}  progress {step} of {total}", at(&arrived));
            continue;
        }
        ensure!(
            said(message) == "counted to 3",
            "unexpected result {message}"
        );
        println!("   <- {}  result: {}\n", at(&arrived), said(message));
        ensure!(steps == 3, "{steps} progress notifications instead of 3");
        // All at once at the end would mean that somebody on the way had kept them back.
        let spread = arrived.after.saturating_sub(first.unwrap_or(arrived.after));
        ensure!(
            spread >= Duration::from_millis(100),
            "the events came together, at the end"
        );
        return Ok(());
    }
}

async fn next(answer: &mut Messages) -> anyhow::Result<Arrived> {
    answer
        .next()
        .await?
        .context("the stream ended without a response")
}

fn at(arrived: &Arrived) -> String {
    format!("{:>4} ms", arrived.after.as_millis())
}

fn said(message: &Value) -> &str {
    message["result"]["content"][0]["text"]
        .as_str()
        .unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn tool_names(result: &Value) -> Vec<&str> {
    let tools = result["tools"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    tools
        .iter()
        .filter_map(|tool| tool["name"].as_str())
        .collect()
}
