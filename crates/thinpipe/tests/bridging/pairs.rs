//! The fifteen pairs, and how a row becomes a test of each of its pairs.

/// How a client is connected, which is how it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Client {
    HttpSse,
    Sessions,
    Stateless,
}

/// How a server is reached, and what it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    HttpSse,
    Sessions,
    StdioLegacy,
    Stateless,
    StdioModern,
}

/// A client and a server, with the gateway between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) client: Client,
    pub(crate) server: Server,
}

impl Client {
    pub(crate) fn is_modern(self) -> bool {
        self == Self::Stateless
    }
}

impl Server {
    pub(crate) fn is_modern(self) -> bool {
        matches!(self, Self::Stateless | Self::StdioModern)
    }

    pub(crate) fn is_program(self) -> bool {
        matches!(self, Self::StdioLegacy | Self::StdioModern)
    }
}

/// Makes a test of each pair out of a scenario of the same name, a function of its [`Pair`]. Before the name
/// stands which pairs: groups of the matrix (`a`: legacy to legacy, `b`: legacy to modern, `c`: modern to
/// legacy, `d`: modern to modern), or a part of one.
macro_rules! rows {
    ($($(#[$about:meta])* $group:ident $name:ident;)+) => {
        $($(#[$about])* mod $name { rows!(@$group $name); })+
    };
    (@all $name:ident) => {
        rows!(@ab $name);
        rows!(@cd $name);
    };
    (@ab $name:ident) => {
        rows!(@a $name);
        rows!(@b $name);
    };
    (@cd $name:ident) => {
        rows!(@c $name);
        rows!(@d $name);
    };
    (@ac $name:ident) => {
        rows!(@a $name);
        rows!(@c $name);
    };
    (@bc $name:ident) => {
        rows!(@b $name);
        rows!(@c $name);
    };
    (@a_pipes_bc $name:ident) => {
        rows!(@a_pipes $name);
        rows!(@bc $name);
    };
    (@a $name:ident) => {
        rows!(@a_pipes $name);
        rows!(@test $name http_sse_to_sessions HttpSse Sessions);
        rows!(@test $name sessions_to_sessions Sessions Sessions);
    };
    (@a_pipes $name:ident) => {
        rows!(@test $name http_sse_to_http_sse HttpSse HttpSse);
        rows!(@test $name http_sse_to_stdio_legacy HttpSse StdioLegacy);
        rows!(@test $name sessions_to_http_sse Sessions HttpSse);
        rows!(@test $name sessions_to_stdio_legacy Sessions StdioLegacy);
    };
    (@b $name:ident) => {
        rows!(@test $name http_sse_to_stateless HttpSse Stateless);
        rows!(@test $name http_sse_to_stdio_modern HttpSse StdioModern);
        rows!(@b_sessions $name);
    };
    (@b_sessions $name:ident) => {
        rows!(@test $name sessions_to_stateless Sessions Stateless);
        rows!(@test $name sessions_to_stdio_modern Sessions StdioModern);
    };
    (@b_http $name:ident) => {
        rows!(@test $name http_sse_to_stateless HttpSse Stateless);
        rows!(@test $name sessions_to_stateless Sessions Stateless);
    };
    (@c $name:ident) => {
        rows!(@test $name stateless_to_http_sse Stateless HttpSse);
        rows!(@c_http $name);
        rows!(@test $name stateless_to_stdio_legacy Stateless StdioLegacy);
    };
    (@c_http $name:ident) => {
        rows!(@test $name stateless_to_sessions Stateless Sessions);
    };
    (@d $name:ident) => {
        rows!(@d_http $name);
        rows!(@d_stdio $name);
    };
    (@d_http $name:ident) => {
        rows!(@test $name stateless_to_stateless Stateless Stateless);
    };
    (@d_stdio $name:ident) => {
        rows!(@test $name stateless_to_stdio_modern Stateless StdioModern);
    };
    (@test $name:ident $test:ident $client:ident $server:ident) => {
        #[tokio::test]
        async fn $test() {
            let client = crate::pairs::Client::$client;
            let server = crate::pairs::Server::$server;
            super::$name(crate::pairs::Pair { client, server }).await;
        }
    };
}
