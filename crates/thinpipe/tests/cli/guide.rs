//! What the quick start shows on the wire is what is seen there.

use serde_json::Value;
use thinpipe_testkit::{Client, RequestBuilder, SseClient};

use crate::support::{Gateway, Sample};

const QUICK_START: &str = include_str!("../../../../docs/src/quick-start.md");
const ADDRESS: &str = "http://127.0.0.1:8080";

/// The fenced blocks: their languages and what is in them.
fn fenced(chapter: &str) -> Vec<(&str, &str)> {
    let blocks = chapter.split("```").skip(1).step_by(2);
    blocks.filter_map(|block| block.split_once('\n')).collect()
}

/// The request that a `curl` makes, to a gateway at this address.
fn request(command: &str, origin: &str) -> Option<RequestBuilder> {
    let mut words = Vec::new();
    // As a shell splits it; quoted with `'`.
    for (part, quoted) in command.split('\'').zip([false, true].into_iter().cycle()) {
        match quoted {
            true => words.push(part),
            false => words.extend(part.split_whitespace().filter(|word| *word != "\\")),
        }
    }
    let mut words = words.into_iter();
    if words.next()? != "curl" {
        return None;
    }
    let (mut url, mut fields, mut body) = (None, Vec::new(), None);
    while let Some(word) = words.next() {
        match word {
            "-i" => {}
            "-H" => fields.push(words.next()?),
            "-d" => body = words.next(),
            _ => url = Some(word.replace(ADDRESS, origin)),
        }
    }
    let mut request = Client::new(&url?).request("POST");
    for field in fields {
        let (name, value) = field.split_once(": ").expect("a header");
        request = request.header(name, value);
    }
    Some(request.body(body?.to_owned()))
}

/// Every exchange of the quick start, as it is shown there, through the gateway in front of the sample server.
#[tokio::test]
async fn every_exchange_of_the_quick_start_is_real() {
    let sample = Sample::start();
    let gateway = Gateway::to(&sample, &[]);
    let origin = gateway.url.trim_end_matches("/mcp");
    let blocks = fenced(QUICK_START);
    let mut shown = 0;
    for (at, (language, command)) in blocks.iter().enumerate() {
        let Some(request) = request(command, origin).filter(|_| *language == "sh") else {
            continue;
        };
        let mut response = request.await;
        let Some(("http", answer)) = blocks.get(at + 1) else {
            panic!("no answer is shown to {command}");
        };
        let (head, body) = answer.split_once("\n\n").expect("a head and a body");
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        assert_eq!(status, Some(&*response.status.to_string()), "{command}");
        for line in lines {
            let (name, value) = line.split_once(": ").expect("a header");
            let seen = response.header(name).unwrap_or_else(|| panic!("no {name}"));
            // What is another one each time is not shown.
            assert!(value == "…" || value == seen, "{line}: {seen}");
        }
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(response.json().await, body, "{command}");
        shown += 1;
    }
    assert_eq!(shown, 2, "exchanges were found");
    let streamed = format!("curl -N {ADDRESS}/sse");
    assert!(QUICK_START.contains(&streamed), "{streamed}");
    let client = SseClient::open(&format!("{origin}/sse")).await;
    assert!(
        client.endpoint().contains("/messages"),
        "{}",
        client.endpoint()
    );
}
