use proptest::prelude::*;

use super::*;

/// The whole of `input` in pieces of `step` bytes: the body, the bytes used, whether it ended.
fn read(mut framing: Framing, input: &[u8], step: usize) -> Result<(Vec<u8>, usize, bool), String> {
    let (mut out, mut used) = (Vec::new(), 0);
    for piece in input.chunks(step.max(1)) {
        let n = framing.decode(piece, &mut out).map_err(|e| e.to_string())?;
        used += n;
        if n < piece.len() {
            break;
        }
    }
    Ok((out, used, framing.is_done()))
}

fn chunked(input: &[u8]) -> Result<(Vec<u8>, usize, bool), String> {
    read(Framing::chunked(), input, usize::MAX)
}

#[test]
fn a_length_ends_where_it_says() {
    let (body, used, done) = read(Framing::Length(3), b"abcdef", 2).unwrap();
    assert_eq!((body.as_slice(), used, done), (&b"abc"[..], 3, true));
    let (_, _, done) = read(Framing::Length(7), b"abcdef", 2).unwrap();
    assert!(!done);
    assert!(Framing::Length(0).is_done());
}

#[test]
fn until_close_never_ends_by_itself() {
    let (body, used, done) = read(Framing::UntilClose, b"abc", 1).unwrap();
    assert_eq!((body.as_slice(), used, done), (&b"abc"[..], 3, false));
    assert_eq!(Framing::UntilClose.remaining(), None);
}

#[test]
fn chunks_extensions_and_trailers() {
    let input =
        b"3;a=b\r\nabc\r\n00A \t;x=\"y\"\r\n0123456789\r\n0\r\nTrailer: x\r\nB: y\r\n\r\nnext";
    let (body, used, done) = chunked(input).unwrap();
    assert_eq!(body, b"abc0123456789");
    assert_eq!(used, input.len() - 4);
    assert!(done);
}

/// H1, C25: what follows a body is the next message's, so every doubt about its end is an error.
#[test]
fn what_two_readers_could_read_differently_is_refused() {
    for bad in [
        &b"3\nabc\r\n0\r\n\r\n"[..],
        b"3\r\nabc\n0\r\n\r\n",
        b"3\r\nabcd\r\n0\r\n\r\n",
        b"3 \r\nabc\r\n0\r\n\r\n",
        b" 3\r\nabc\r\n0\r\n\r\n",
        b"0x3\r\nabc\r\n0\r\n\r\n",
        b"+3\r\nabc\r\n0\r\n\r\n",
        b"-1\r\nabc\r\n0\r\n\r\n",
        b"\r\n",
        b";a\r\n",
        b"3;a\nabc\r\n0\r\n\r\n",
        b"3;a\rb\r\nabc\r\n0\r\n\r\n",
        b"3\r\r\nabc\r\n0\r\n\r\n",
        b"0\r\n\n",
        b"0\r\nA: b\n\r\n",
        b"0\r\nA: b\rc\r\n\r\n",
        b"0\r\n\rX",
        b"11111111111111111\r\n",
        b"00000000000000001\r\na\r\n0\r\n\r\n",
    ] {
        let answer = chunked(bad);
        assert!(answer.is_err(), "{:?}: {answer:?}", bad.escape_ascii());
    }
}

#[test]
fn the_largest_size_is_read_without_overflow() {
    let (body, _, done) = chunked(b"ffffffffffffffff\r\nabc").unwrap();
    assert_eq!((body.as_slice(), done), (&b"abc"[..], false));
}

#[test]
fn extensions_and_trailers_are_bounded_by_the_body() {
    let extension = "a".repeat(usize::from(MAX_IGNORED));
    assert!(chunked(format!("1;{extension}\r\na\r\n0\r\n\r\n").as_bytes()).is_ok());
    assert!(chunked(format!("1;{extension}b\r\na\r\n0\r\n\r\n").as_bytes()).is_err());
    let many = "1;aaaaaaaaaaaaaaaa\r\na\r\n".repeat(2000);
    assert!(chunked(many.as_bytes()).is_err());
    let trailer = "A: b\r\n".repeat(8000);
    assert!(chunked(format!("0\r\n{trailer}\r\n").as_bytes()).is_err());
}

#[test]
fn nothing_is_taken_after_the_end() {
    let mut framing = Framing::chunked();
    let mut out = Vec::new();
    assert_eq!(framing.decode(b"0\r\n\r\n", &mut out).unwrap(), 5);
    assert_eq!(framing.decode(b"5\r\nabcde", &mut out).unwrap(), 0);
    assert_eq!((out.len(), framing.remaining()), (0, Some(0)));
}

#[test]
fn the_state_is_small() {
    assert!(size_of::<Framing>() <= 24, "{}", size_of::<Framing>());
}

fn encode(chunks: &[Vec<u8>]) -> Vec<u8> {
    let mut wire = Vec::new();
    for chunk in chunks {
        wire.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        wire.extend_from_slice(chunk);
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b"0\r\n\r\n");
    wire
}

proptest! {
    /// C5, C25: where the network cuts does not matter.
    #[test]
    fn any_chunking_gives_the_same(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..8),
        rest in prop::collection::vec(any::<u8>(), 0..20),
        step in 1_usize..40,
    ) {
        let mut wire = encode(&chunks);
        let length = wire.len();
        wire.extend_from_slice(&rest);
        prop_assert_eq!(
            read(Framing::chunked(), &wire, step),
            Ok((chunks.concat(), length, true))
        );
    }

    #[test]
    fn noise_is_read_alike_however_it_is_cut(
        noise in "[0-9a-f]{0,3}[;\r\n\t a-c]{0,6}[0-9a-c\r\n;]{0,40}",
        step in 1_usize..8,
    ) {
        let whole = chunked(noise.as_bytes());
        prop_assert_eq!(read(Framing::chunked(), noise.as_bytes(), step), whole);
    }
}
