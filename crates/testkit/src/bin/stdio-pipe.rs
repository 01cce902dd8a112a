//! A program that is an MCP server over stdio, by being a pipe to the [`Upstream`](thinpipe_testkit::Upstream)
//! whose address is its argument: what the server does stays in the process of the test.
//!
//! It ends well at the end of its input, and badly when the server closes the pipe.

use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

fn main() -> io::Result<ExitCode> {
    let address = std::env::args().nth(1).unwrap_or_default();
    let mut server = TcpStream::connect(address)?;
    server.set_nodelay(true)?;
    server.write_all(b"STDIO\n")?;
    let mut messages = server.try_clone()?;
    thread::spawn(move || {
        // The end of what the server says is the end of the program, whatever it still gets.
        let _ = io::copy(&mut messages, &mut io::stdout());
        if !INPUT_ENDED.load(Ordering::SeqCst) {
            std::process::exit(1);
        }
    });
    // Not buffered: a line must not wait for the next.
    io::copy(&mut io::stdin().lock(), &mut server)?;
    INPUT_ENDED.store(true, Ordering::SeqCst);
    // The server may have closed it at the same time.
    let _ = server.shutdown(Shutdown::Both);
    Ok(ExitCode::SUCCESS)
}

/// Whether whoever runs the program has closed its input.
static INPUT_ENDED: AtomicBool = AtomicBool::new(false);
