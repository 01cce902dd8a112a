//! Requests that need something of the client first: server requests in sessions, `input_required` without.

use serde_json::{Map, Value, json};

use crate::rpc;
use crate::upstream::features;
use crate::upstream::record::Request;
use crate::upstream::script::Script;
use crate::upstream::shared::Shared;

/// The tools that ask.
///
/// - `ask` elicits by a form, `sample` and `roots` ask for what they are called; `url` elicits by a URL;
/// - `both` elicits and samples at once; `twice` elicits two times, one after the other; `endless` does so
///   without end;
/// - `undeclared` samples with tools, whatever the client has declared;
/// - `state` wants the client to come again, with nothing but its state; in sessions it just answers.
///
/// Their result has what was answered last in `structuredContent.answers`, by the keys of the questions.
pub(super) const TOOLS: [&str; 9] = [
    "ask",
    "sample",
    "roots",
    "url",
    "both",
    "twice",
    "endless",
    "undeclared",
    "state",
];

/// What is asked: a key, a method and its params.
type Question = (&'static str, &'static str, Value);

pub(super) fn answer(shared: &Shared, request: &Request, tool: &str) -> Option<Script> {
    let seat = || ("seat", "elicitation/create", form("Seat?"));
    let meal = || ("meal", "elicitation/create", form("Meal?"));
    let sample = || ("poem", "sampling/createMessage", sampling());
    let rounds: Vec<Vec<Question>> = match tool {
        "ask" => vec![vec![seat()]],
        "sample" => vec![vec![sample()]],
        "roots" => vec![vec![("roots", "roots/list", json!({}))]],
        "url" => vec![vec![("consent", "elicitation/create", url(request))]],
        "both" => vec![vec![seat(), sample()]],
        "twice" => vec![vec![seat()], vec![meal()]],
        "endless" => (0..ENDLESS).map(|_| vec![seat()]).collect(),
        "undeclared" => vec![vec![("tooled", "sampling/createMessage", tooled())]],
        "state" if request.is_modern() => vec![Vec::new()],
        "state" => Vec::new(),
        _ => return None,
    };
    if tool != "undeclared"
        && let Some(missing) = undeclared(request, &rounds)
    {
        let data = json!({"requiredCapabilities": missing});
        let error = rpc::error_with(-32021, "a capability is missing", &data);
        let refusal = Script::status(400).content_type("application/json");
        return Some(refusal.whole(error));
    }
    Some(ask(shared, request, &rounds, features::text("answered")))
}

/// One form, then this result.
pub(super) fn ask_once(shared: &Shared, request: &Request, result: Value) -> Script {
    let seat = ("seat", "elicitation/create", form("Seat?"));
    ask(shared, request, &[vec![seat]], result)
}

fn ask(shared: &Shared, request: &Request, rounds: &[Vec<Question>], result: Value) -> Script {
    if request.is_modern() {
        ask_in_results(shared, request, rounds, result)
    } else {
        ask_on_stream(request, rounds, result)
    }
}

/// Requests on the stream of the call, each round after the answers to the last.
fn ask_on_stream(request: &Request, rounds: &[Vec<Question>], mut result: Value) -> Script {
    let mut script = Script::events();
    for (round, questions) in rounds.iter().enumerate() {
        let id = |key: &str| format!("ask-{}-{round}-{key}", request.number);
        for (key, method, params) in questions {
            script = script.message(rpc::request(id(key), method, params));
        }
        let mut answers = Map::new();
        for (key, ..) in questions {
            script = script.wait_for_answer(&format!("\"{}\"", id(key)));
            answers.insert((*key).to_owned(), rpc::answer_to(&id(key)).into());
        }
        result["structuredContent"] = json!({ "answers": answers });
    }
    script.message(rpc::result(result))
}

/// `input_required` as often as there are rounds; the state holds which round it is.
fn ask_in_results(
    shared: &Shared,
    request: &Request,
    rounds: &[Vec<Question>],
    mut result: Value,
) -> Script {
    let state = request.param("/requestState").as_str();
    let round = match state.map(|state| shared.states.take(state)) {
        None => 0,
        Some(Some(round)) => round,
        Some(None) => return Script::error(200, -32602, "no such requestState"),
    };
    let answers = request.param("/inputResponses");
    if let Some(questions) = rounds.get(round) {
        let asked: Map<String, Value> = questions
            .iter()
            .map(|(key, method, params)| {
                (
                    (*key).to_owned(),
                    json!({"method": method, "params": params}),
                )
            })
            .collect();
        let state = shared.states.issue(round + 1);
        let mut input = json!({"resultType": "input_required", "requestState": state});
        if !asked.is_empty() {
            input["inputRequests"] = asked.into();
        }
        return Script::json(rpc::result(input));
    }
    if !answers.is_null() {
        result["structuredContent"] = json!({ "answers": answers });
    }
    features::plain(request, result)
}

/// The capability that a stateless request does not declare, and these questions need.
fn undeclared(request: &Request, rounds: &[Vec<Question>]) -> Option<Value> {
    if !request.is_modern() {
        return None;
    }
    let declared = request.declared();
    rounds.iter().flatten().find_map(|(_, method, params)| {
        let kind = method.split('/').next().unwrap_or_default();
        let by_url = params["mode"] == "url";
        let has = declared
            .get(kind)
            .is_some_and(|kind| !by_url || kind.get("url").is_some());
        let needed = if by_url {
            json!({"url": {}})
        } else {
            json!({})
        };
        (!has).then(|| json!({kind: needed}))
    })
}

fn form(message: &str) -> Value {
    let schema = json!({"type": "object", "properties": {"answer": {"type": "string"}}});
    json!({"message": message, "requestedSchema": schema})
}

fn url(request: &Request) -> Value {
    let mut url = json!({
        "mode": "url",
        "url": "https://example.com/consent",
        "message": "Allow it?",
    });
    if !request.is_modern() {
        url["elicitationId"] = format!("url-{}", request.number).into();
    }
    url
}

fn sampling() -> Value {
    let message = json!({"role": "user", "content": {"type": "text", "text": "A poem?"}});
    json!({"messages": [message], "maxTokens": 100})
}

fn tooled() -> Value {
    let mut params = sampling();
    params["tools"] = json!([{"name": "dice", "inputSchema": {"type": "object"}}]);
    params
}

/// More rounds than any client or gateway goes along with.
const ENDLESS: usize = 40;
