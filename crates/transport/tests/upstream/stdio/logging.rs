//! What children say on their standard error.

use thinpipe_testkit::rpc;

use super::{bytes, last, next, scripted};
use crate::log::Log;

/// Its standard error goes to the log, line by line, with the server's name; however much it is, the
/// child does not wait for it, and the last line is there when the child has ended.
#[tokio::test]
async fn standard_error_goes_to_the_log() {
    let (log, _logging) = Log::of("thinpipe::stderr");
    let script = r#"
        printf 'one\ntwo \033[2J\n\n' >&2
        head -c 1000000 /dev/zero | tr '\0' x >&2; echo >&2
        serve
        printf 'the last' >&2"#;
    let scripted = scripted(script, |_| {});
    let mut pipe = scripted.spawn();
    pipe.sender.send(bytes(rpc::call(1, "echo"))).await.unwrap();
    assert_eq!(next(&mut pipe.receiver).await["id"], 1);
    drop(pipe);
    scripted.ended().await;
    let lines = log.lines();
    let [one, two, long, last] = &lines[..] else {
        panic!("{lines:?}")
    };
    assert!(
        one.starts_with("INFO ")
            && one.contains("upstream=\"child\";")
            && one.contains("message=one;"),
        "{one}"
    );
    assert!(two.contains("message=two \\u{1b}[2J;"), "{two}");
    assert!(long.contains("xxx") && long.len() < 5000, "{}", long.len());
    assert!(last.contains("message=the last;"), "{last}");
}

/// A child that says more than anybody reads does not fill the disk, and how much is missing is told.
#[tokio::test]
async fn a_flood_on_standard_error_is_cut_and_counted() {
    const FLOOD: usize = 20_000;
    let (log, _logging) = Log::of("thinpipe::stderr");
    let scripted = scripted(&format!("seq -f 'line %g' {FLOOD} >&2; serve"), |_| {});
    let mut pipe = scripted.spawn();
    pipe.sender.send(bytes(rpc::call(1, "echo"))).await.unwrap();
    assert_eq!(next(&mut pipe.receiver).await["id"], 1);
    drop(pipe);
    scripted.ended().await;
    let lines = log.lines();
    let said = lines.iter().filter(|line| line.contains("message=line "));
    let left_out = lines.iter().filter_map(|line| {
        let (count, _) = line
            .split_once("message=")?
            .1
            .split_once(" lines were left out")?;
        count.parse::<usize>().ok()
    });
    let said = said.count();
    assert_eq!(said + left_out.sum::<usize>(), FLOOD);
    assert!((200..FLOOD / 2).contains(&said), "{said}");
}

/// Junk on standard output is a warning a line, but no more of them than tell what is wrong, and how many are
/// missing is told, also where it is too much.
#[tokio::test]
async fn a_flood_on_standard_output_is_cut_and_counted() {
    for (flood, is_too_much) in [(100, false), (101, true)] {
        let (log, _logging) = Log::of("thinpipe_transport::upstream::stdio::output");
        let scripted = scripted(&format!("seq -f 'junk %g' {flood}; serve"), |_| {});
        let mut pipe = scripted.spawn();
        if is_too_much {
            last(&mut pipe.receiver).await;
        } else {
            pipe.sender.send(bytes(rpc::call(1, "echo"))).await.unwrap();
            assert_eq!(next(&mut pipe.receiver).await["id"], 1);
        }
        drop(pipe);
        scripted.ended().await;
        let lines = log.lines();
        let said = lines.iter().filter(|line| line.contains("\"junk "));
        let left_out = lines.iter().filter_map(|line| {
            let (_, rest) = line.split_once("skipped ")?;
            rest.split_once(" more lines")?.0.parse::<usize>().ok()
        });
        let said = said.count();
        // The line that is too much is in the error.
        assert_eq!(said + left_out.sum::<usize>(), 100, "{lines:?}");
        assert!((10..50).contains(&said), "{said}");
    }
}
