//! What children say on their standard error.

use std::fmt;
use std::sync::{Arc, Mutex};

use thinpipe_testkit::rpc;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::{bytes, next, scripted};

/// Keeps the lines of children.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.push_str(&format!("{}={value:?};", field.name()));
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "thinpipe::stderr" && *metadata.level() == Level::INFO
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Its standard error goes to the log, line by line, with the server's name; however much it is, the
/// child does not wait for it, and the last line is there when the child has ended.
#[tokio::test]
async fn standard_error_goes_to_the_log() {
    let lines = Lines::default();
    let _logging = tracing::subscriber::set_default(lines.clone());
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
    let lines = lines.0.lock().unwrap();
    let [one, two, long, last] = &lines[..] else {
        panic!("{lines:?}")
    };
    assert!(
        one.contains("upstream=\"child\";") && one.contains("message=one;"),
        "{one}"
    );
    assert!(two.contains("message=two \\u{1b}[2J;"), "{two}");
    assert!(long.contains("xxx") && long.len() < 5000, "{}", long.len());
    assert!(last.contains("message=the last;"), "{last}");
}
