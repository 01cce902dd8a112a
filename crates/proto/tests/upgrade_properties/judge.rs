//! What the machine does, judged.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use thinpipe_proto::bridge::upgrade::{Action, Call as Made};
use thinpipe_proto::bridge::{Delivery, End, MemberId, Nature};
use thinpipe_proto::rpc::RequestId;

use super::model::{Call, Kind, Prompt, State, World, declared, request_id};

const META: &str = "io.modelcontextprotocol/";

/// Takes all actions of one input.
pub(super) fn judge(world: &mut World) {
    let mut actions = 0;
    while let Some(action) = world.machine.poll_action() {
        assert!(!world.over, "the end is the last action");
        actions += 1;
        match action {
            Action::Call(call) => called(world, &call),
            Action::Cancel(call) => closed_call(world, id_of(&call.to_request_id())),
            Action::Deliver(delivery) => delivered(world, &delivery),
            Action::Finish { member, request } => {
                assert_eq!(member, MemberId(0));
                finished(world, &request);
            }
            Action::Doubt => {}
            Action::Close(end) => closed(world, &end),
        }
    }
    assert!(actions <= 64, "invariant 23: {actions} actions");
}

fn id_of(id: &RequestId) -> u64 {
    text(id).parse().expect("invariant 7: ids are ours")
}

fn text(id: &RequestId) -> String {
    String::from_utf8(id.as_json().to_vec()).unwrap()
}

fn called(world: &mut World, made: &Made) {
    let message: Value = serde_json::from_slice(&made.message).expect("a message");
    let id = message["id"].as_u64().expect("a number");
    assert_eq!(id, id_of(&made.id.to_request_id()));
    assert!(id > world.last_id, "invariant 7: an id is used once");
    world.last_id = id;
    let method = message["method"].as_str().unwrap().to_owned();
    let params = &message["params"];
    envelope(params);
    let mark = params["k"]
        .as_u64()
        .and_then(|mark| usize::try_from(mark).ok());
    let is_tasks = method.starts_with("tasks/");
    if let Some(mark) = mark {
        leg(world, mark, params, id);
        assert_eq!(
            made.request.as_ref().map(text),
            Some(world.asked[mark].id.clone())
        );
    } else {
        let own = ["tools/list", "subscriptions/listen"];
        assert!(
            own.contains(&&*method) || is_tasks,
            "nobody asked for {method}"
        );
    }
    let uris = params.pointer("/notifications/resourceSubscriptions");
    let uris = uris.and_then(Value::as_array).into_iter().flatten();
    let uris: BTreeSet<String> = uris.map(|uri| uri.as_str().unwrap().to_owned()).collect();
    world.calls.insert(
        id,
        Call {
            call: made.id,
            mark,
            method,
            state: State::Running,
            uris,
            acknowledged: false,
            aside: is_tasks,
        },
    );
}

/// Invariants 10 and 11: what every request has to say of itself.
fn envelope(params: &Value) {
    let meta = &params["_meta"];
    assert_eq!(
        meta[format!("{META}protocolVersion")],
        "2026-07-28",
        "invariant 11"
    );
    let mut capabilities = meta[format!("{META}clientCapabilities")].clone();
    if let Some(all) = capabilities.as_object_mut()
        && let Some(extensions) = all.remove("extensions")
    {
        assert_eq!(extensions, json!({"io.modelcontextprotocol/tasks": {}}));
    }
    assert_eq!(capabilities, declared(), "invariant 10");
    assert_eq!(params.get("task"), None);
}

/// A request of the client is written.
fn leg(world: &mut World, mark: usize, params: &Value, id: u64) {
    let asked = &mut world.asked[mark];
    assert!(asked.open, "invariant 2: written after its end");
    asked.writes += 1;
    assert!(asked.writes <= asked.may, "invariant 3: {asked:?}");
    assert_eq!(params["name"], "t", "R222: the original params");
    let token = &params["_meta"]["progressToken"];
    match asked.token {
        Some(_) => assert_eq!(*token, json!(id), "invariant 7: tokens are ours"),
        None => assert!(token.is_null(), "invariant 7: and asked for"),
    }
    let state = &params["requestState"];
    let answers = &params["inputResponses"];
    match &asked.round {
        None => assert!(state.is_null() && answers.is_null()),
        Some(round) => {
            assert_eq!(
                state.as_str(),
                round.state.as_deref(),
                "R222: the exact state"
            );
            let expected = match round.answers.is_empty() {
                true => Value::Null,
                false => json!(round.answers),
            };
            assert_eq!(
                *answers, expected,
                "R222, invariant 6: the answers of this round"
            );
        }
    }
}

fn closed_call(world: &mut World, id: u64) {
    let call = world.calls.get_mut(&id).expect("a call of ours");
    assert_eq!(call.state, State::Running, "closed once, while it runs");
    call.state = State::Closed;
    world.gap(id);
}

fn delivered(world: &mut World, delivery: &Delivery) {
    assert_eq!(delivery.member, MemberId(0));
    let message: Value = serde_json::from_slice(&delivery.message).expect("a message");
    for modern in ["resultType", "ttlMs", "cacheScope"] {
        assert_eq!(message["result"].get(modern), None, "invariant 11");
    }
    let all = message.to_string();
    assert!(
        !all.contains("subscriptionId") && !all.contains(&format!("{META}client")),
        "invariant 11"
    );
    let mark = delivery.related.as_ref().map(|id| {
        let mark = world
            .open(id)
            .expect("invariant 2: related to an open request");
        assert_eq!(
            world.asked[mark].id,
            text(id),
            "its own id, letter by letter"
        );
        mark
    });
    let method = message["method"].as_str().unwrap_or_default();
    match &delivery.nature {
        Nature::Response => answered(world, mark.expect("a response is related"), &message),
        Nature::Request(id) => asked(
            world,
            mark.expect("R222: on the stream of its request"),
            id,
            &message,
        ),
        Nature::ChangeNotice => changed(world, method, &message),
        Nature::Log => {
            assert!(world.logs, "R218: no level was set");
            let data = message["params"]["data"].as_u64().unwrap();
            let asked = &mut world.asked[mark.expect("a line belongs to a request")];
            assert!(data > asked.seen, "invariant 21");
            asked.seen = data;
        }
        Nature::Notification if method == "notifications/progress" => {
            progress(world, mark.expect("progress is related"), &message);
        }
        Nature::Notification => {
            assert_eq!(method, "notifications/cancelled");
            let id = message["params"]["requestId"].to_string();
            let prompt = world.prompts.iter_mut().find(|prompt| prompt.id == id);
            let prompt = prompt.expect("it was asked");
            assert!(prompt.open, "invariant 5: withdrawn once, while it is open");
            prompt.open = false;
        }
    }
}

fn answered(world: &mut World, mark: usize, message: &Value) {
    assert_eq!(
        message["id"].to_string(),
        canonical(&world.asked[mark].id),
        "invariant 1"
    );
    let open = world
        .prompts
        .iter()
        .any(|prompt| prompt.open && prompt.mark == mark);
    assert!(!open, "invariant 5: a question outlives its request");
    if let Some(k) = message["result"].get("k") {
        assert_eq!(*k, json!(mark), "invariant 7: answers do not cross");
    }
    let is_timeout = message["error"]["data"]["reason"] == "upstream_timeout";
    assert!(!is_timeout || !world.asking.contains(&mark), "invariant 22");
    let asked = &mut world.asked[mark];
    asked.open = false;
    let is_done = message["result"] == json!({});
    asked.done = is_done;
    match asked.kind.clone() {
        Kind::Subscribe(uri) if is_done && !world.lost => {
            let taken_back = |other: &super::model::Asked| {
                other.done && matches!(&other.kind, Kind::Unsubscribe(u) if *u == uri)
            };
            // One that was taken back while it was opened is over with its answer.
            if !world.asked[mark + 1..].iter().any(taken_back) {
                world.wants.insert(uri);
            }
        }
        Kind::Unsubscribe(uri) if is_done => {
            world.wants.remove(&uri);
            world.gaps.remove(&uri);
            world.holders.remove(&uri);
        }
        _ => {}
    }
}

/// An id as `serde_json` writes it.
fn canonical(id: &str) -> String {
    let id: Value = serde_json::from_str(id).unwrap();
    id.to_string()
}

fn asked(world: &mut World, mark: usize, id: &RequestId, message: &Value) {
    let method = message["method"].as_str().unwrap();
    let may = ["elicitation/create", "roots/list"];
    assert!(
        may.contains(&method),
        "invariant 10: {method} was not declared"
    );
    let id = text(id);
    assert_eq!(message["id"].to_string(), id);
    assert!(
        world.prompts.iter().all(|prompt| prompt.id != id),
        "invariant 7"
    );
    assert_eq!(message["params"]["_meta"]["progressToken"].to_string(), id);
    let round = world.asked[mark]
        .round
        .as_mut()
        .expect("the server has asked");
    let (key, expected) = round
        .questions
        .pop_front()
        .expect("a question of this round");
    assert_eq!(expected, method);
    world.prompts.push(Prompt {
        id,
        mark,
        key,
        open: true,
    });
}

fn changed(world: &mut World, method: &str, message: &Value) {
    if method != "notifications/resources/updated" {
        assert!(method.ends_with("/list_changed"), "{method}");
        return;
    }
    let uri = message["params"]["uri"].as_str().unwrap().to_owned();
    assert!(
        world.wants.contains(&uri),
        "invariant 19: {uri} is not wanted"
    );
    world.gaps.remove(&uri);
    *world.told.entry(uri).or_default() += 1;
}

fn progress(world: &mut World, mark: usize, message: &Value) {
    let asked = &mut world.asked[mark];
    let token = asked.token.as_deref().expect("invariant 17: asked for");
    let params = &message["params"];
    let own: Value = serde_json::from_str(token).unwrap();
    assert_eq!(
        params["progressToken"], own,
        "invariant 7: the client's own token"
    );
    assert_eq!(params["k"], json!(mark), "invariant 7");
    let value = params["progress"].as_u64();
    assert!(value > asked.progress, "invariant 17");
    asked.progress = value;
}

fn finished(world: &mut World, request: &RequestId) {
    let mark = world.open(request).expect("invariant 2");
    if world.given_up != Some(mark) {
        assert_eq!(world.asked[mark].writes, 0);
        let id = request_id(&world.asked[mark].id);
        assert!(world.take_early(&id), "invariant 1: nobody cancelled it");
    }
    let open = world
        .prompts
        .iter()
        .any(|prompt| prompt.open && prompt.mark == mark);
    assert!(!open, "invariant 5: a question outlives its request");
    world.asked[mark].open = false;
}

fn closed(world: &mut World, end: &End) {
    world.over = true;
    let open = world.asked.iter().filter(|asked| asked.open).count();
    assert!(open == 0 || *end == End::ClientLeft, "invariant 1");
    for asked in &mut world.asked {
        asked.open = false;
    }
    for prompt in &mut world.prompts {
        prompt.open = false;
    }
}
