//! A gateway in its simplest form: as slow and as plain as it may be, but right in what it does.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use serde_json::value::RawValue;
use thinpipe_testkit::{Client, Connection, Event, RequestBuilder, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Starts it in front of this upstream. It ends with the set of tasks.
pub(crate) async fn start(upstream: &str, tasks: &mut JoinSet<()>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/mcp", listener.local_addr().expect("it is bound"));
    let upstream = Client::new(upstream);
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let upstream = upstream.clone();
            connections.spawn(async move { serve(stream, upstream).await.unwrap_or_default() });
        }
    });
    url
}

struct Inbound {
    method: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

async fn serve(mut client: TcpStream, upstream: Client) -> Option<()> {
    let inbound = read(&mut client).await?;
    let id = id_of(&inbound.body);
    let response = match ask(&upstream, &inbound, None).await {
        Ok(response) => response,
        Err(reason) => return refuse(&mut client, &id, reason).await,
    };
    if [401, 403].contains(&response.status) {
        return refuse(&mut client, &id, "upstream_auth").await;
    }
    if response.is_stream_of_any_case() {
        stream(client, upstream, inbound, response).await
    } else {
        body(client, id, response).await
    }
}

async fn read(client: &mut TcpStream) -> Option<Inbound> {
    let mut bytes = Vec::new();
    let head = loop {
        if client.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        if let Some(end) = bytes.windows(4).position(|end| end == b"\r\n\r\n") {
            break end;
        }
    };
    let text = String::from_utf8(bytes[..head].to_vec()).ok()?;
    let mut lines = text.split("\r\n");
    let method = lines.next()?.split(' ').next()?.to_owned();
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let length = headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = length.map_or(0, |(_, length)| length.parse().expect("a length"));
    let mut body = bytes.split_off(head + 4);
    while body.len() < length {
        client.read_buf(&mut body).await.ok()?;
    }
    Some(Inbound {
        method,
        headers,
        body,
    })
}

/// One request to the upstream: the client's, or a GET after an event.
/// Passes a request on; without a response, the reason.
async fn ask(
    upstream: &Client,
    inbound: &Inbound,
    after: Option<&str>,
) -> Result<Response, &'static str> {
    let connection = Connection::try_open(upstream.address(), None)
        .await
        .map_err(|_| "upstream_unavailable")?;
    let method = if after.is_some() {
        "GET"
    } else {
        &inbound.method
    };
    let mut request: RequestBuilder = upstream.request(method);
    for (name, value) in &inbound.headers {
        if !["host", "content-length"].contains(&name.to_ascii_lowercase().as_str()) {
            request = request.header(name, value);
        }
    }
    request = match after {
        Some(id) => request.without("Content-Type").replace("Last-Event-ID", id),
        None if inbound.method == "POST" => request.body(inbound.body.clone()),
        None => request,
    };
    let response = request
        .on(connection)
        .send()
        .await
        .try_response()
        .await
        .map_err(|_| "upstream_stream_lost")?;
    let head: usize = response
        .headers
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if head < 64 << 10 {
        Ok(response)
    } else {
        Err("upstream_invalid")
    }
}

async fn stream(
    mut client: TcpStream,
    upstream: Client,
    inbound: Inbound,
    mut response: Response,
) -> Option<()> {
    let content_type = response.header("Content-Type")?.to_owned();
    let head = format!(
        "HTTP/1.1 {} x\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
        response.status
    );
    // A client that left has not cancelled: what cannot be written is thrown away.
    let _ = client.write_all(head.as_bytes()).await;
    let (mut last, mut retry, mut answered) = (None, 20, inbound.method != "POST");
    loop {
        while let Ok(Some(event)) = response.try_next_block().await {
            last = event.id.clone().or(last);
            retry = event.retry.unwrap_or(retry);
            answered |= event.has_message() && event.json().get("method").is_none();
            let _ = client.write_all(&chunk(&event)).await;
        }
        if answered {
            break;
        }
        let Some(id) = &last else {
            let error = Event::message(own_error(&id_of(&inbound.body), "upstream_stream_lost"));
            let _ = client.write_all(&chunk(&error)).await;
            break;
        };
        tokio::time::sleep(Duration::from_millis(retry)).await;
        response = ask(&upstream, &inbound, Some(id)).await.ok()?;
    }
    client.write_all(b"0\r\n\r\n").await.ok()
}

async fn body(mut client: TcpStream, id: String, mut response: Response) -> Option<()> {
    let (body, Ok(())) = response.try_read_to_end().await else {
        return refuse(&mut client, &id, "upstream_stream_lost").await;
    };
    let mut head = format!(
        "HTTP/1.1 {} x\r\nContent-Length: {}\r\nConnection: close\r\n",
        response.status,
        body.len()
    );
    for name in ["Content-Type", "Mcp-Session-Id", "Allow"] {
        if let Some(value) = response.header(name) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    head.push_str("\r\n");
    let _ = client.write_all(head.as_bytes()).await;
    client.write_all(&body).await.ok()
}

async fn refuse(client: &mut TcpStream, id: &str, reason: &str) -> Option<()> {
    let body = own_error(id, reason);
    let head = format!(
        "HTTP/1.1 502 x\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    client
        .write_all(format!("{head}{body}").as_bytes())
        .await
        .ok()
}

fn own_error(id: &str, reason: &str) -> String {
    let data = format!(r#"{{"reason":"{reason}","upstream":"reference"}}"#);
    let error = format!(r#"{{"code":-32603,"message":"{reason}","data":{data}}}"#);
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#)
}

fn id_of(body: &[u8]) -> String {
    let members: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(body).unwrap_or_default();
    members
        .get("id")
        .map_or_else(|| Value::Null.to_string(), |id| id.get().to_owned())
}

fn chunk(event: &Event) -> Vec<u8> {
    let bytes = event.to_bytes();
    let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
    chunk.extend_from_slice(&bytes);
    chunk.extend_from_slice(b"\r\n");
    chunk
}

trait IsStream {
    fn is_stream_of_any_case(&self) -> bool;
}

impl IsStream for Response {
    fn is_stream_of_any_case(&self) -> bool {
        let media_type = self.header("Content-Type").unwrap_or_default();
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        essence.eq_ignore_ascii_case("text/event-stream")
    }
}
