//! Clients with sessions in front of servers that are a pipe of messages (protocol notes 5.2): the gateway
//! as a library, over sockets, between scripted clients and servers.

mod client;
mod front;
mod matrix;
mod server;
mod shared;
mod stdio;
