//! One connection of a client: bytes out, bytes in.

use std::io;
use std::net::SocketAddr;
use std::panic::Location;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::client::response::Response;
use crate::deadline::within;
use crate::upstream::read_by_peer;

/// A connection to a server, on which a test sends exactly what it wants to.
#[derive(Debug)]
pub struct Connection {
    pub(crate) stream: TcpStream,
    pub(crate) input: BytesMut,
}

impl Connection {
    /// Connects.
    ///
    /// # Panics
    /// If that fails or takes longer than [`DEADLINE`](crate::DEADLINE).
    #[track_caller]
    pub fn open(address: SocketAddr) -> impl Future<Output = Self> + Send {
        Self::open_with(address, None)
    }

    /// Connects, with a receive buffer of so many bytes (the kernel doubles it): a client that soon holds
    /// up who writes to it.
    ///
    /// # Panics
    /// As [`Connection::open`].
    #[track_caller]
    pub fn open_with(
        address: SocketAddr,
        receive_buffer: Option<u32>,
    ) -> impl Future<Output = Self> + Send {
        let at = Location::caller();
        async move {
            let connect = Self::try_open(address, receive_buffer);
            let connected = within(at, || format!("a connection to {address}"), connect).await;
            connected
                .unwrap_or_else(|error| panic!("connecting to {address} failed at {at}: {error}"))
        }
    }

    /// Connects, or says why not.
    ///
    /// # Errors
    /// What the socket said.
    pub async fn try_open(address: SocketAddr, receive_buffer: Option<u32>) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        let stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            input: BytesMut::new(),
        })
    }

    /// Sends these bytes.
    ///
    /// # Panics
    /// If they cannot be sent within [`DEADLINE`](crate::DEADLINE).
    #[track_caller]
    pub fn send(&mut self, bytes: impl Into<Bytes>) -> impl Future<Output = ()> + Send {
        let at = Location::caller();
        let bytes = bytes.into();
        async move {
            let sent = self.stream.write_all(&bytes);
            let sent = within(at, || format!("{} bytes sent", bytes.len()), sent).await;
            sent.unwrap_or_else(|error| panic!("sending failed at {at}: {error}"));
        }
    }

    /// Sends these bytes as far as the server takes them; a server may refuse in the middle of a request.
    /// Returns how many were taken before it closed the connection, or all.
    ///
    /// # Panics
    /// If it neither takes them nor closes within [`DEADLINE`](crate::DEADLINE).
    #[track_caller]
    pub fn send_as_far_as_taken(
        &mut self,
        bytes: impl Into<Bytes>,
    ) -> impl Future<Output = usize> + Send {
        let at = Location::caller();
        let bytes = bytes.into();
        async move {
            let mut taken = 0;
            let write = async {
                while taken < bytes.len() {
                    match self.stream.write(&bytes[taken..]).await {
                        Ok(count) => taken += count,
                        Err(_) => break,
                    }
                }
                taken
            };
            within(at, || "bytes taken or refused".to_owned(), write).await
        }
    }

    /// Sends pieces, each read by the server before the next is sent.
    ///
    /// # Panics
    /// If that takes longer than [`DEADLINE`](crate::DEADLINE).
    #[track_caller]
    pub fn send_pieces<'a>(
        &'a mut self,
        pieces: &'a [&'a [u8]],
    ) -> impl Future<Output = ()> + Send {
        let at = Location::caller();
        async move {
            let sent = async {
                for piece in pieces {
                    self.stream.write_all(piece).await?;
                    read_by_peer(self.stream.local_addr()?, self.stream.peer_addr()?).await;
                }
                io::Result::Ok(())
            };
            let sent = within(at, || "pieces read one by one".to_owned(), sent).await;
            sent.unwrap_or_else(|error| panic!("sending failed at {at}: {error}"));
        }
    }

    /// Says that nothing more will be sent (FIN), and goes on reading.
    ///
    /// # Panics
    /// If the connection is gone already.
    pub async fn half_close(&mut self) {
        self.stream
            .shutdown()
            .await
            .expect("a connection that is still there");
    }

    /// Closes it (FIN, or RST if the kernel holds bytes that were not read).
    pub fn close(self) {
        drop(self);
    }

    /// Resets it (RST).
    ///
    /// # Panics
    /// If the socket refuses.
    pub fn reset(self) {
        self.stream
            .set_zero_linger()
            .expect("a TCP socket can be told to reset");
    }

    /// The head of the next response on this connection.
    ///
    /// # Panics
    /// If there is none within [`DEADLINE`](crate::DEADLINE).
    #[track_caller]
    pub fn response(self) -> impl Future<Output = Response> + Send {
        let at = Location::caller();
        async move {
            let response = within(
                at,
                || "the head of a response".to_owned(),
                Response::read(self),
            )
            .await;
            response.unwrap_or_else(|error| panic!("no response at {at}: {error}"))
        }
    }

    /// The head of the next response, or why there is none.
    ///
    /// # Errors
    /// What was there instead: the end of the connection, or no HTTP.
    ///
    /// # Panics
    /// If there is neither within [`DEADLINE`](crate::DEADLINE).
    #[track_caller]
    pub fn try_response(self) -> impl Future<Output = Result<Response, String>> + Send {
        let at = Location::caller();
        async move {
            let what = || "the head of a response, or the connection's end".to_owned();
            within(at, what, Response::read(self)).await
        }
    }

    /// Until the server has closed the connection. Returns what it sent before.
    ///
    /// # Panics
    /// If it does not within [`DEADLINE`](crate::DEADLINE).
    #[track_caller]
    pub fn closed(mut self) -> impl Future<Output = Bytes> + Send {
        let at = Location::caller();
        async move {
            let closed = async { while matches!(self.read().await, Ok(count) if count > 0) {} };
            within(
                at,
                || "a connection closed by the server".to_owned(),
                closed,
            )
            .await;
            self.input.freeze()
        }
    }

    /// Its own address: what the server sees as its peer.
    ///
    /// # Panics
    /// If the connection is gone already.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.stream
            .local_addr()
            .expect("a connected socket has an address")
    }

    pub(crate) async fn read(&mut self) -> io::Result<usize> {
        self.input.reserve(READ);
        self.stream.read_buf(&mut self.input).await
    }
}

/// Bytes that are read at one time, at least.
const READ: usize = 16 << 10;
