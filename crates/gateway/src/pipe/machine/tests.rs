use serde_json::json;
use thinpipe_proto::bridge::upgrade::{Config, Handshake};
use thinpipe_proto::revision::Revision;

use super::*;

const SIZE: usize = 40 << 10;

/// A session in front of a server that is called, whose client does not read.
struct Unread {
    machine: Machine,
    budget: ByteBudget,
    asked: i64,
}

impl Unread {
    /// With room for one large message.
    fn new() -> Self {
        let handshake = Handshake {
            revision: Revision::V2025_06_18,
            declared: Bytes::from_static(br#"{"elicitation":{}}"#),
            client_info: None,
            offered: Bytes::from_static(b"{}"),
        };
        let machine = Upgrading::new(Config::new("u", MemberId(0), 1), handshake, now());
        let budget = ByteBudget::new(SIZE + SIZE / 2);
        let held = ("u".into(), budget.clone());
        let mut machine = Machine::called(machine, HeaderMap::new(), held);
        machine.attach(MemberId(0), &Principal::Anonymous).unwrap();
        Self {
            machine,
            budget,
            asked: 0,
        }
    }

    /// Asks the server, which answers with this; what the client is told.
    fn answered(&mut self, result: &serde_json::Value) -> Vec<Delivery> {
        self.asked += 1;
        let params = json!({"name": "p"});
        let request =
            json!({"jsonrpc": "2.0", "id": self.asked, "method": "prompts/get", "params": params});
        let request = Message::parse(request.to_string().into()).unwrap();
        let asked = self.machine.client(MemberId(0), &request, &mut None, now());
        asked.unwrap();
        assert!(self.deliveries().is_empty());
        let (machine, calls) = self.machine.upgrading().unwrap();
        let Some((CallStep::Open(call, _), _)) = calls.pop() else {
            panic!("it is called");
        };
        let id = Message::parse(call.message).unwrap().id().unwrap().clone();
        let answer = thinpipe_proto::rpc::response(&id, result.to_string().as_bytes());
        machine.upstream(call.id, &Message::parse(answer).unwrap(), now());
        self.deliveries()
    }

    fn deliveries(&mut self) -> Vec<Delivery> {
        let next = std::iter::from_fn(|| self.machine.next());
        let delivered = next.filter_map(|next| match next {
            Next::Down(Step::Deliver(delivery)) => Some(delivery),
            _ => None,
        });
        delivered.collect()
    }
}

fn question() -> serde_json::Value {
    let schema = json!({"type": "object", "properties": {}});
    let params = json!({"message": "x".repeat(SIZE), "requestedSchema": schema});
    let asked = json!({"q": {"method": "elicitation/create", "params": params}});
    json!({"resultType": "input_required", "inputRequests": asked})
}

fn reason(delivery: &Delivery) -> serde_json::Value {
    let told: serde_json::Value = serde_json::from_slice(&delivery.message).unwrap();
    told["error"]["data"]["reason"].clone()
}

/// T2, C9: a question counts against the budget until its client has taken it; one that finds no room ends its
/// request, whose client hears why.
#[test]
fn a_question_that_waits_counts_against_the_budget() {
    let mut unread = Unread::new();
    let waits = unread.answered(&question());
    assert!(matches!(waits[0].nature, Nature::Request(_)), "{waits:?}");
    assert!(unread.budget.used() >= SIZE);
    let refused = unread.answered(&question());
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!(reason(&refused[0]), "buffer_full");
    drop(waits);
    assert_eq!(unread.budget.used(), 0);
    let asked = unread.answered(&question());
    assert!(matches!(asked[0].nature, Nature::Request(_)), "{asked:?}");
}

/// The same of an answer.
#[test]
fn an_answer_that_waits_counts_against_the_budget() {
    let result = json!({"resultType": "complete", "description": "x".repeat(SIZE), "messages": []});
    let mut unread = Unread::new();
    let waits = unread.answered(&result);
    assert!(waits[0].is_last());
    assert!(unread.budget.used() >= SIZE);
    let refused = unread.answered(&result);
    assert!(refused[0].is_last());
    assert_eq!(reason(&refused[0]), "buffer_full");
    drop(waits);
    assert_eq!(unread.budget.used(), 0);
}
