//! The admin address when somebody is unkind to it.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::{Gateway, PATIENCE, Sample};

/// How many connections the admin address serves at a time.
const PLACES: usize = 64;

fn connect(authority: &str) -> TcpStream {
    let stream = TcpStream::connect(authority).expect("it accepts");
    let patience = stream.set_read_timeout(Some(PATIENCE));
    patience.expect("a time-out can be set");
    stream
}

/// Asks on a connection that stays open.
fn ask(stream: &mut TcpStream) -> String {
    let request = "GET /ready HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let written = stream.write_all(request.as_bytes());
    written.expect("the connection is open");
    let mut read = Vec::new();
    while !read.ends_with(b"}\n") {
        let mut some = [0; 1024];
        let length = stream.read(&mut some).expect("an answer comes");
        assert_ne!(
            length,
            0,
            "closed after {:?}",
            String::from_utf8_lossy(&read)
        );
        read.extend_from_slice(&some[..length]);
    }
    String::from_utf8(read).expect("an answer is text")
}

/// B5: whoever holds every place with idle connections does not keep probes out: the one that has said
/// nothing for longest makes room, and one that is used stays.
#[test]
fn b5_idle_connections_make_room_for_probes() {
    let sample = Sample::start();
    let gateway = Gateway::to(&sample, &["--admin", "127.0.0.1:0"]);
    let authority = gateway.admin_authority();
    let mut scraper = connect(&authority);
    let mut idle: Vec<_> = (1..PLACES).map(|_| connect(&authority)).collect();
    assert!(ask(&mut scraper).starts_with("HTTP/1.1 200"));
    for _ in 0..10 {
        // One after the other takes the place of an idle one, and keeps it.
        let mut probe = connect(&authority);
        assert!(ask(&mut probe).starts_with("HTTP/1.1 200"));
        let mut oldest = idle.remove(0);
        assert_eq!(
            oldest.read(&mut [0]).unwrap(),
            0,
            "the oldest idle one made room"
        );
        idle.push(probe);
    }
    assert!(
        ask(&mut scraper).starts_with("HTTP/1.1 200"),
        "it was used since"
    );
}
