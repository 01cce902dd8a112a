//! What the server and the way to it do.

use serde_json::{Value, json};

use super::judge::judge;
use super::model::{Call, Kind, Round, State, World, message};
use super::script::{URIS, pick};

/// One of the calls that run.
fn running(world: &World, choice: u8, wanted: impl Fn(&Call) -> bool) -> Option<u64> {
    let calls = world.calls.iter();
    let fitting = calls.filter(|(_, call)| call.state == State::Running && wanted(call));
    let ids: Vec<u64> = fitting.map(|(id, _)| *id).collect();
    (!ids.is_empty()).then(|| pick(&ids, choice))
}

/// Says something on the stream of a call.
fn say(world: &mut World, id: u64, text: &str) {
    let call = world.calls[&id].call;
    world.machine.upstream(call, &message(text), world.now);
    judge(world);
}

fn over(world: &mut World, id: u64) {
    world.gap(id);
    world.calls.get_mut(&id).unwrap().state = State::Over;
}

/// A complete result; the end of a listen.
pub(super) fn completes(world: &mut World, a: u8) {
    if let Some(id) = running(world, a, |_| true) {
        complete(world, id);
    }
}

fn complete(world: &mut World, id: u64) {
    let mark = world.calls[&id].mark;
    over(world, id);
    let result = json!({
        "resultType": "complete", "ttlMs": 5, "cacheScope": "private", "k": mark, "tools": [],
        "status": "completed", "result": {"k": mark},
    });
    say(
        world,
        id,
        &json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string(),
    );
}

/// Answers a call, or acknowledges a listen.
pub(super) fn settle(world: &mut World, id: u64) {
    world.begin();
    if world.calls[&id].is_listen() {
        acknowledge(world, id, u8::MAX);
    } else {
        complete(world, id);
    }
}

/// A round of questions: allowed or not, with a state or without.
pub(super) fn asks(world: &mut World, a: u8, b: u8, c: u8) {
    let Some(id) = running(world, a, |call| call.mark.is_some()) else {
        return;
    };
    let mark = world.calls[&id].mark.unwrap();
    let form =
        json!({"method": "elicitation/create", "params": {"message": "?", "requestedSchema": {}}});
    let questions = match b % 8 {
        0 => json!({"x": form, "no": {"method": "sampling/createMessage", "params": {}}}),
        1 => json!({"x": form, "no": 7}),
        2 => Value::Null,
        3 => json!({"x": form, "y": {"method": "roots/list"}}),
        4 => json!({"x": form, "y": form, "z": form, "w": form}),
        _ => json!({"x": form}),
    };
    let state = c.is_multiple_of(2).then(|| format!("s{}-é", world.said));
    let mut result = json!({"resultType": "input_required"});
    let listed = questions.as_object().into_iter().flatten();
    let method_of = |question: &Value| question["method"].as_str().unwrap_or_default().to_owned();
    let listed = listed
        .map(|(key, question)| (key.clone(), method_of(question)))
        .collect();
    if !questions.is_null() {
        result["inputRequests"] = questions;
    }
    if let Some(state) = &state {
        result["requestState"] = json!(state);
    }
    over(world, id);
    let asked = &mut world.asked[mark];
    asked.may += 1;
    asked.round = Some(Round {
        state,
        questions: listed,
        ..Round::default()
    });
    say(
        world,
        id,
        &json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string(),
    );
}

pub(super) fn progresses(world: &mut World, a: u8, b: u8) {
    let Some(id) = running(world, a, |call| call.mark.is_some()) else {
        return;
    };
    let mark = world.calls[&id].mark;
    let token = if b.is_multiple_of(7) { id + 1 } else { id };
    let params = json!({"progressToken": token, "progress": b % 16, "k": mark});
    let method = "notifications/progress";
    say(
        world,
        id,
        &json!({"jsonrpc": "2.0", "method": method, "params": params}).to_string(),
    );
}

/// Tells everybody who listens of a resource that changed.
pub(super) fn announces(world: &mut World, a: u8) {
    let uri = pick(&URIS, a);
    let hears =
        |call: &Call| call.state == State::Running && call.acknowledged && call.uris.contains(uri);
    let calls = world.calls.iter().filter(|(_, call)| hears(call));
    let ids: Vec<u64> = calls.map(|(id, _)| *id).collect();
    let holder = world.holders.get(uri);
    let expected = holder.is_some_and(|holder| ids.contains(holder));
    for id in &ids {
        let meta = json!({"io.modelcontextprotocol/subscriptionId": id});
        let params = json!({"uri": uri, "_meta": meta});
        let method = "notifications/resources/updated";
        say(
            world,
            *id,
            &json!({"jsonrpc": "2.0", "method": method, "params": params}).to_string(),
        );
    }
    let told = world.told.get(uri).copied().unwrap_or_default();
    // On a listen that still has it on the server's side, after it was taken back or moved, it is not told.
    assert_eq!(
        told,
        usize::from(expected),
        "invariant 19: {uri} is lost or doubled"
    );
}

/// Acknowledges a listen, all of it or a part.
pub(super) fn acknowledges(world: &mut World, a: u8, b: u8) {
    let waits = |call: &Call| call.is_listen() && !call.acknowledged;
    if let Some(id) = running(world, a, waits) {
        acknowledge(world, id, b);
    }
}

fn acknowledge(world: &mut World, id: u64, b: u8) {
    let call = world.calls.get_mut(&id).unwrap();
    call.acknowledged = true;
    if b.is_multiple_of(4) {
        // It does not tell of one of them.
        let refused = call.uris.pop_first();
        refused.into_iter().for_each(|uri| world.refuse(&uri));
    }
    let wanted = world.wants.clone();
    let call = &world.calls[&id];
    let lists = call.uris.is_empty() && !b.is_multiple_of(4);
    let mut filter = json!({});
    if lists {
        filter = json!({"toolsListChanged": true, "resourcesListChanged": true});
    } else {
        filter["resourceSubscriptions"] = json!(call.uris);
    }
    let meta = json!({"io.modelcontextprotocol/subscriptionId": id});
    let params = json!({"notifications": filter, "_meta": meta});
    let method = "notifications/subscriptions/acknowledged";
    say(
        world,
        id,
        &json!({"jsonrpc": "2.0", "method": method, "params": params}).to_string(),
    );
    // Those that were asked for anew, were missing, or have moved.
    for uri in world.calls[&id].uris.clone() {
        let is_new = world.wants.contains(&uri) && !wanted.contains(&uri);
        if is_new || world.told.contains_key(&uri) {
            world.holders.insert(uri, id);
        }
    }
}

/// A call ends without a response, or was never made.
pub(super) fn fails(world: &mut World, a: u8, b: u8) {
    let Some(id) = running(world, a, |_| true) else {
        return;
    };
    let undelivered = b.is_multiple_of(3);
    if let Some(mark) = world.calls[&id].mark {
        let asked = &mut world.asked[mark];
        let reads = matches!(asked.kind, Kind::Read | Kind::List) && asked.round.is_none();
        if (undelivered || reads) && asked.causes.insert("lost") {
            asked.may += 1;
        }
    }
    over(world, id);
    let call = world.calls[&id].call;
    let why = ("upstream_stream_lost", "it broke");
    world.machine.call_failed(call, undelivered, why, world.now);
    judge(world);
}

/// An error.
pub(super) fn refuses(world: &mut World, a: u8, b: u8) {
    let Some(id) = running(world, a, |_| true) else {
        return;
    };
    let tasks = json!({"extensions": {"io.modelcontextprotocol/tasks": {}}});
    let errors = [
        (-32020, "headers", Value::Null),
        (-32022, "revision", Value::Null),
        (-32021, "tasks", json!({"requiredCapabilities": tasks})),
        (-32601, "", Value::Null),
        (-32603, "", Value::Null),
    ];
    let (code, cause, data) = pick(&errors, b);
    if let Some(mark) = world.calls[&id].mark.filter(|_| !cause.is_empty()) {
        let asked = &mut world.asked[mark];
        if asked.causes.insert(cause) {
            asked.may += 1;
        }
    }
    let call = &world.calls[&id];
    if code == -32601 && call.is_listen() && !call.acknowledged {
        call.uris.clone().iter().for_each(|uri| world.refuse(uri));
    }
    over(world, id);
    let error = json!({"code": code, "message": "no", "data": data});
    say(
        world,
        id,
        &json!({"jsonrpc": "2.0", "id": id, "error": error}).to_string(),
    );
}

/// Something that is no answer: a line, a request that no server may make, what belongs to no such stream.
pub(super) fn says(world: &mut World, a: u8, b: u8) {
    let Some(id) = running(world, a, |_| true) else {
        return;
    };
    world.said += 1;
    let said = world.said;
    let text = match b % 4 {
        0 => json!({"jsonrpc": "2.0", "id": 1, "method": "roots/list"}),
        1 => json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}),
        _ => json!({
            "jsonrpc": "2.0", "method": "notifications/message",
            "params": {"level": "info", "data": said},
        }),
    };
    say(world, id, &text.to_string());
}
