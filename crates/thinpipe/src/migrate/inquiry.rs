//! One question to the admin address of a running gateway.

use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Uri};
use thinpipe_transport::ByteBudget;
use thinpipe_transport::body::BodyError;
use thinpipe_transport::upstream::{Upstream, UpstreamConfig, UpstreamError, UpstreamRequest};

use crate::announce::connectable;
use crate::config::{ADMIN, Config};
use crate::run::main_runtime;
use crate::sse_clients::SseClients;

/// For the whole answer, which a gateway has at hand.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of the answer: the gateway tells 10,000 clients apart, and a kilobyte is enough for any.
const MAX_ANSWER: usize = 16 << 20;

const SWITCH_ON: &str = "it is switched on by `--admin 127.0.0.1:8081` where the gateway is started, or by \
     `admin = \"127.0.0.1:8081\"` in its file, and that is its default";

/// Where the gateway's admin side is by the environment, its file, or by default; "off" is one of these.
pub(super) fn address_of(config: Option<&Config>, variable: Option<String>) -> String {
    match config {
        // The environment has had its say in there.
        Some(config) => config
            .admin
            .map_or_else(|| "off".to_owned(), |admin| admin.to_string()),
        None => variable
            .filter(|value| !value.is_empty())
            .unwrap_or_else(|| ADMIN.to_string()),
    }
}

/// Asks the gateway whose admin address this is.
///
/// # Errors
/// For people: what is wrong, and what to do.
pub(super) fn ask(admin: &str) -> anyhow::Result<SseClients> {
    let (authority, url) = target(admin)?;
    let asked = main_runtime()?.block_on(async {
        let upstream = Upstream::new(UpstreamConfig::new(authority.as_str().into(), url));
        let asked = tokio::time::timeout(PATIENCE, get(&upstream)).await;
        asked.unwrap_or_else(|_| Err(anyhow!("no answer within {PATIENCE:?}")))
    });
    match asked {
        Ok((StatusCode::OK, body)) => serde_json::from_slice(&body)
            .map_err(|error| foreign(&authority, &format!("what it says is no list: {error}"))),
        Ok((StatusCode::FORBIDDEN, _)) => Err(foreign(
            &authority,
            "it does not answer to this name; on loopback, use a loopback address",
        )),
        Ok((status, _)) => Err(foreign(&authority, &format!("it answers {status}"))),
        Err(error) if is_other_protocol(&error) => Err(foreign(&authority, &format!("{error:#}"))),
        Err(error) => bail!(
            "no gateway answers on {authority}: {error:#}\nis it running, and is this its admin address? \
             its start says `admin on http://..`; {SWITCH_ON}"
        ),
    }
}

async fn get(upstream: &Upstream) -> anyhow::Result<(StatusCode, Bytes)> {
    let request = UpstreamRequest {
        method: Method::GET,
        headers: HeaderMap::new(),
        body: Bytes::new(),
        repeatable: false,
    };
    let response = upstream.send(request).await?;
    let status = response.status;
    let body = response.collect(MAX_ANSWER, &ByteBudget::default()).await?;
    Ok((status, body))
}

/// Host and port, and what to ask there.
fn target(admin: &str) -> anyhow::Result<(String, Uri)> {
    let text = admin.trim();
    if text == "off" {
        bail!("the gateway's admin address is off, and with it the list of clients: {SWITCH_ON}");
    }
    let text = text.strip_prefix("http://").unwrap_or(text);
    let text = text.trim_end_matches('/');
    let authority = match text.parse().map(connectable) {
        Ok(address) => address.to_string(),
        Err(_) => text.to_owned(),
    };
    let url = format!("http://{authority}/sse-clients");
    let url: Uri = url.parse().ok().with_context(|| wrong(admin))?;
    match url.authority().map(|it| (it.as_str(), it.port_u16())) {
        Some((_, Some(0))) => bail!(
            "the port of the admin address is any free one; its start says `admin on http://..`: give that \
             with `--admin`"
        ),
        Some((whole, Some(_))) if whole == authority => Ok((authority, url)),
        _ => bail!(wrong(admin)),
    }
}

fn wrong(admin: &str) -> String {
    format!("`{admin}` is no address of an admin side; write it as in `--admin 127.0.0.1:8081`")
}

/// Somebody is there, and does not speak as an admin address does.
fn is_other_protocol(error: &anyhow::Error) -> bool {
    let head = matches!(
        error.downcast_ref(),
        Some(UpstreamError::Malformed { .. } | UpstreamError::Redirect { .. })
    );
    head || matches!(error.downcast_ref(), Some(BodyError::TooLarge { .. }))
}

fn foreign(authority: &str, why: &str) -> anyhow::Error {
    anyhow!(
        "{authority} is not the admin address of a gateway that this `thinpipe` knows: {why}\nthe \
         gateway's start says which it is: `admin on http://..`"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_as_people_have_them() {
        for (given, authority) in [
            ("127.0.0.1:8081", "127.0.0.1:8081"),
            ("http://127.0.0.1:8081/", "127.0.0.1:8081"),
            ("0.0.0.0:9", "127.0.0.1:9"),
            ("[::]:9", "[::1]:9"),
            ("gateway.internal:8081", "gateway.internal:8081"),
        ] {
            let (found, url) = target(given).unwrap();
            assert_eq!(found, authority);
            assert_eq!(url.to_string(), format!("http://{authority}/sse-clients"));
        }
        for (given, said) in [
            ("off", "switched on by"),
            ("127.0.0.1", "is no address"),
            ("127.0.0.1:0", "any free one"),
            ("127.0.0.1:8081/status", "is no address"),
            ("https://h:1", "is no address"),
            ("", "is no address"),
        ] {
            let error = target(given).unwrap_err().to_string();
            assert!(error.contains(said), "{given}: {error}");
        }
    }

    #[test]
    fn the_default_is_that_of_serving() {
        assert_eq!(address_of(None, None), "127.0.0.1:8081");
        assert_eq!(address_of(None, Some(String::new())), "127.0.0.1:8081");
        assert_eq!(address_of(None, Some("off".to_owned())), "off");
    }
}
