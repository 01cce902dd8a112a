//! The program with a server behind it.

use thinpipe_testkit::{Behaviour, Era, Upstream};

use crate::caller::{Caller, Introduction};
use crate::pairs::{Pair, Server};
use crate::support;

/// What a test wants to be otherwise.
#[derive(Default)]
pub(crate) struct Settings {
    /// TOML before the upstream's table.
    pub(crate) gateway: &'static str,
    /// TOML within it.
    pub(crate) upstream: &'static str,
    /// How the server behaves beside being full, and of the era of its pair.
    pub(crate) behaviour: Option<fn(&mut Behaviour)>,
}

/// A server of a pair's kind, and the gateway before it. Both end with the test.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) pair: Pair,
    pub(crate) upstream: Upstream,
    program: support::Gateway,
}

impl Gateway {
    pub(crate) async fn start(pair: Pair) -> Self {
        Self::with(pair, Settings::default()).await
    }

    pub(crate) async fn behaving(pair: Pair, behaviour: fn(&mut Behaviour)) -> Self {
        let behaviour = Some(behaviour);
        Self::with(
            pair,
            Settings {
                behaviour,
                ..Settings::default()
            },
        )
        .await
    }

    pub(crate) async fn with(pair: Pair, settings: Settings) -> Self {
        let upstream = Upstream::start().await;
        upstream.set(|behaviour| {
            behaviour.full = true;
            behaviour.era = if pair.server.is_modern() {
                Era::Stateless
            } else {
                Era::Sessions
            };
            behaviour.heeds_cancel = true;
            if let Some(change) = settings.behaviour {
                change(behaviour);
            }
        });
        let [program, argument] = upstream.program();
        let place = match pair.server {
            Server::HttpSse => format!("url = {:?}", upstream.sse_url()),
            Server::Sessions | Server::Stateless => format!("url = {:?}", upstream.url()),
            Server::StdioLegacy | Server::StdioModern => {
                format!("command = {program:?}\nargs = [{argument:?}]")
            }
        };
        let (before, within) = (settings.gateway, settings.upstream);
        let file = format!("{before}\n[[upstreams]]\n{place}\n{within}\n");
        let program = support::Gateway::with_file(&file).await;
        Self {
            pair,
            upstream,
            program,
        }
    }

    /// A client of the pair's kind that can do everything there is.
    pub(crate) async fn caller(&self) -> Caller {
        self.caller_who(&Introduction::default()).await
    }

    /// A client of the pair's kind.
    pub(crate) async fn caller_who(&self, who: &Introduction) -> Caller {
        let url = match self.pair.client {
            crate::pairs::Client::HttpSse => self.program.url.replace("/mcp", "/sse"),
            _ => self.program.url.clone(),
        };
        Caller::open(self.pair.client, &url, who).await
    }
}
