//! What children say on their standard error.

use thinpipe_testkit::rpc;

use super::{bytes, next, scripted};
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
