//! States that servers give their clients (`seal_state`; protocol notes 5.5, row `requestState`).

use serde_json::{Value, json};
use thinpipe_gateway::UpstreamSpec;
use thinpipe_testkit::rpc::{Modern, modern};
use thinpipe_testkit::{Client, Script, Upstream, rpc};

use crate::front::{Front, call};
use crate::http::at;
use crate::scripted::Scripted;

const ANN: &str = "ann-has-a-long-enough-token";
const BOB: &str = "bob-has-a-long-enough-token";

fn sealing(spec: &mut UpstreamSpec) {
    spec.bridge.seal_state = true;
}

fn client(front: &Front, token: &str) -> Client {
    front.client.clone().with_token(token)
}

fn asks(state: &str) -> Value {
    json!({"resultType": "input_required", "requestState": state})
}

/// The call again, with this state.
fn again(state: &Value) -> Modern {
    let params =
        json!({"name": "echo", "arguments": {}, "requestState": state, "inputResponses": {}});
    modern(2, "tools/call", params)
}

fn is_refused(answer: &Value) -> bool {
    answer["error"]["code"] == -32602
}

/// A state comes back to its server as it was given, from the principal it was given to and nobody else; what
/// was changed is refused, and nothing is asked. As JSON and in a stream.
#[tokio::test]
async fn r234_a_state_belongs_to_its_principal() {
    let upstream = Upstream::start().await;
    let front = Front::guarded(at(&upstream), sealing, &[ANN, BOB]).await;
    let given = "their \"own\" / state \u{e9}";
    let asked = rpc::result(asks(given));
    let streamed = Script::events()
        .message(rpc::progress(1, 2))
        .message(&asked);
    for script in [Script::json(&asked), streamed] {
        upstream.once("tools/call", script);
        let mut answer = client(&front, ANN).post_modern(&call(1, 1)).await;
        let answer = answer.answer().await;
        assert_eq!(answer["result"]["resultType"], "input_required");
        let sealed = answer["result"]["requestState"].clone();
        let text = sealed.as_str().unwrap();
        assert!(!text.contains("their"), "{text}");

        let before = upstream.record().count("tools/call");
        let mut changed = text.to_owned();
        let last = if changed.pop() == Some('A') { 'B' } else { 'A' };
        changed.push(last);
        for (who, state) in [
            (BOB, sealed.clone()),
            (ANN, json!(changed)),
            (ANN, json!(given)),
            (ANN, json!(7)),
        ] {
            let mut refused = client(&front, who).post_modern(&again(&state)).await;
            let refused = refused.json().await;
            assert!(is_refused(&refused), "{who} {state}: {refused}");
        }
        assert_eq!(upstream.record().count("tools/call"), before);

        client(&front, ANN).post_modern(&again(&sealed)).await;
        let seen = upstream.record().last("tools/call").unwrap().clone();
        assert_eq!(seen.json()["params"]["requestState"], given);
    }
}

/// The same of a program. What asks for nothing is left as it is.
#[tokio::test]
async fn r234_a_state_of_a_program_belongs_to_its_principal() {
    let program = Scripted::start().await;
    let front = Front::guarded(program.modern(), sealing, &[ANN, BOB]).await;
    let asked = client(&front, ANN).post_modern(&call(1, 1)).send().await;
    let mut speaker = program.process_started().await;
    let heard = speaker.hears("tools/call").await;
    let result = asks("s");
    speaker
        .say(json!({"jsonrpc": "2.0", "id": heard["id"], "result": result}))
        .await;
    let sealed = asked.response().await.json().await["result"]["requestState"].clone();
    assert_ne!(sealed, "s");
    let mut refused = client(&front, BOB).post_modern(&again(&sealed)).await;
    assert!(is_refused(&refused.json().await));
    let answered = client(&front, ANN)
        .post_modern(&again(&sealed))
        .send()
        .await;
    let heard = speaker.hears("tools/call").await;
    assert_eq!(heard["params"]["requestState"], "s");
    speaker
        .answer(&heard, json!({"content": [], "text": "requestState"}))
        .await;
    let answer = answered.response().await.json().await;
    assert_eq!(answer["result"]["text"], "requestState");
}

/// Without that option a state is the server's, and passes.
#[tokio::test]
async fn r245_a_state_passes_unless_told_otherwise() {
    let upstream = Upstream::start().await;
    let front = Front::guarded(at(&upstream), |_| {}, &[ANN]).await;
    upstream.on("tools/call", Script::json(rpc::result(asks("s"))));
    let mut answer = client(&front, ANN).post_modern(&call(1, 1)).await;
    assert_eq!(answer.json().await["result"]["requestState"], "s");
}
