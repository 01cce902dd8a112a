//! URL elicitations before a request (R237).

use thinpipe_proto::bridge::downgrade::{UrlAnswers, url_answers};
use thinpipe_proto::bridge::shape::Responses;

use super::*;

const REQUIRED: &str = r#"{"jsonrpc":"2.0","id":2,"error":{"code":-32042,"message":"first","data":{"elicitations":[{"mode":"url","elicitationId":"e1","url":"https://x/1","message":"one"},{"elicitationId":"e2","url":"https://x/2","message":"two"}]}}}"#;

fn completed(id: &str) -> String {
    notification(
        "notifications/elicitation/complete",
        &format!(r#"{{"elicitationId":"{id}"}}"#),
    )
}

/// R237: one URL elicitation for each entry, and nothing is parked.
#[test]
fn r237_urls_are_asked_for() {
    let mut session = Session::pipe();
    session.asks(1, &call("7"));
    let shown = r#"{"u1":{"method":"elicitation/create","params":{"mode":"url","url":"https://x/1","message":"one"}},"u2":{"method":"elicitation/create","params":{"url":"https://x/2","message":"two","mode":"url"}}}"#;
    assert_eq!(
        session.hears(REQUIRED),
        [format!("1 urls 1 [e1 e2]: {}", asks("7", shown))]
    );
    assert!(session.machine.is_idle());
}

/// R237: a client that did not declare them is told what it lacks.
#[test]
fn r237_clients_without_urls_are_told() {
    let mut session = Session::pipe();
    session.asks(
        1,
        &modern("7", "tools/call", "", r#"{"elicitation":{}}"#, ""),
    );
    let lines = session.hears(REQUIRED);
    let text = "this needs the client capability elicitation.url";
    let lacking = format!(
        r#"{{"jsonrpc":"2.0","id":7,"error":{{"code":-32021,"message":"{text}","data":{{"requiredCapabilities":{{"elicitation":{{"url":{{}}}}}}}}}}}}"#
    );
    assert_eq!(lines, [format!("1 400: {lacking}")]);
    // One that says nothing that can be shown is an error.
    session.asks(2, &call("8"));
    let lines = session.hears(&error("3", -32042, "no"));
    assert!(
        lines[0].starts_with("2 200: ") && lines[0].contains("-32603"),
        "{lines:?}"
    );
}

/// Open choice O21: the request runs again once all are complete, or after a while.
#[test]
fn r237_the_next_run_waits_for_completion() {
    let again = |session: &mut Session, post: u64| {
        let mut request = Request::new(
            ExchangeId(u128::from(post)),
            AttachmentId(post),
            parse(&call("8")),
        );
        request.elicitations = vec!["e1".to_owned(), "e2".to_owned()];
        session.gives(request).unwrap()
    };
    let mut session = Session::pipe();
    session.asks(1, &call("7"));
    session.hears(REQUIRED);
    session.hears(&completed("e2"));
    assert_eq!(again(&mut session, 2), [""; 0]);
    assert_eq!(session.hears(&completed("other")), [""; 0]);
    assert_eq!(session.hears(&completed("e1")), [written(3)]);
    session.hears(&result("3", "{}"));
    assert_eq!(again(&mut session, 3), [""; 0], "they are used up");
    assert_eq!(session.at(44 * SECOND), [""; 0]);
    assert_eq!(session.at(45 * SECOND), [written(4)]);
}

/// R237: two calls that were sent to one elicitation both run when it is complete.
#[test]
fn r237_a_completion_counts_for_each_call_that_waits() {
    let mut session = Session::pipe();
    for (post, id) in [(1, "2"), (2, "3")] {
        session.asks(post, &call("7"));
        session.hears(&REQUIRED.replace("\"id\":2", &format!("\"id\":{id}")));
    }
    session.hears(&completed("e1"));
    session.hears(&completed("e2"));
    for (post, id) in [(3, "4"), (4, "5")] {
        let (exchange, attachment) = (ExchangeId(post.into()), AttachmentId(post));
        let mut request = Request::new(exchange, attachment, parse(&call("8")));
        request.elicitations = vec!["e1".to_owned(), "e2".to_owned()];
        assert_eq!(session.gives(request).unwrap().len(), 1, "{post}");
        session.hears(&result(id, "{}"));
    }
}

/// A session per request stays for the run after, and no longer than an exchange may be parked.
#[test]
fn a_session_per_request_stays_for_the_next_run() {
    let mut session = Session::open(Channel::Pipe, Lifetime::PerRequest, TOOLS);
    session.asks(1, &call("7"));
    assert_eq!(session.hears(REQUIRED).len(), 1);
    let mut request = Request::new(ExchangeId(2), AttachmentId(2), parse(&call("8")));
    request.elicitations = vec!["e1".to_owned()];
    session.gives(request).unwrap();
    session.hears(&completed("e1"));
    session.hears(&completed("e2"));
    assert_eq!(session.hears(&result("3", "{}")).len(), 1);
    assert_eq!(session.at(600 * SECOND), ["close Done"]);
}

/// What a retry says.
#[test]
fn r237_answers_are_read() {
    let said = |answers: &str| {
        let retry = parse(&retry("8", answers));
        url_answers(&Responses::of(&retry).unwrap(), 2)
    };
    let accepted = r#"{"action":"accept"}"#;
    let all = format!(r#"{{"u1":{accepted},"u2":{accepted}}}"#);
    assert_eq!(said(&all), UrlAnswers::Accepted);
    assert_eq!(
        said(&format!(r#"{{"u1":{accepted}}}"#)),
        UrlAnswers::Missing
    );
    let declined = r#"{"u1":{},"u2":{"action":"decline"}}"#;
    assert_eq!(said(declined), UrlAnswers::Declined);
}
