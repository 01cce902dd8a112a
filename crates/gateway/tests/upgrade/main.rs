//! Clients with sessions in front of a server of 2026-07-28 alone (protocol notes 5.3, group B): the gateway as
//! a library, over sockets, between a client of either binding and a counting upstream.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../pipes/caller.rs"]
mod caller;
#[expect(dead_code, reason = "it serves other tests too")]
#[path = "../pipes/front.rs"]
mod gateway;

mod calls;
mod client;
mod failures;
mod front;
mod interceptors;
mod listens;
mod rounds;
mod sessionless;
mod settings;
mod streams;

/// One test for each binding, out of a scenario of the same name.
macro_rules! over_both_bindings {
    ($($(#[$about:meta])* $name:ident),* $(,)?) => {
        $(
            $(#[$about])*
            mod $name {
                use crate::client::Binding;

                #[tokio::test]
                async fn streamable() {
                    super::scenario::$name(Binding::Streamable).await;
                }

                #[tokio::test]
                async fn http_sse() {
                    super::scenario::$name(Binding::HttpSse).await;
                }
            }
        )*
    };
}
pub(crate) use over_both_bindings;
