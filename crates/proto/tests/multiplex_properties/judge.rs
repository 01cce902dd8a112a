//! What may come out.

use serde_json::Value;
use thinpipe_proto::bridge::CANCELLED_AGE;
use thinpipe_proto::bridge::multiplex::{Action, Nature, Write};
use thinpipe_proto::rpc::Message;

use crate::model::{AtProgram, KINDS, Known, LEVEL, STAMP, World, number};

impl World {
    pub(crate) fn judge(&mut self, action: &Action) {
        match action {
            Action::Start => {}
            Action::Deliver {
                call,
                message,
                nature,
            } => self.delivered(number(*call), message, *nature),
            Action::Fail {
                call, undelivered, ..
            } => {
                let (id, now) = (number(*call), self.now);
                let known = self.open(id);
                assert!(
                    !undelivered || known.written.is_empty(),
                    "call {id} was written"
                );
                assert!(
                    known.promised.is_none(),
                    "18: a listen ends with its final result"
                );
                known.over = Some(now);
            }
        }
    }

    fn open(&mut self, id: u64) -> &mut Known {
        let known = self.calls.get_mut(&id).expect("a call that was made");
        assert!(
            known.over.is_none(),
            "2: nothing follows the end of call {id}"
        );
        known
    }

    fn delivered(&mut self, id: u64, bytes: &[u8], nature: Nature) {
        let message = Message::parse(bytes.to_vec().into()).expect("a message");
        let value: Value = serde_json::from_slice(bytes).unwrap();
        let method = message.method().unwrap_or_default().to_owned();
        if method == "notifications/message" {
            self.log(id);
        }
        let now = self.now;
        let known = self.open(id);
        if nature == Nature::Response {
            assert_eq!(text(&value["id"]), known.id, "1: the client's own id");
            if known.is_listen && !value["result"].is_null() {
                assert_eq!(
                    text(&value["result"]["_meta"][STAMP]),
                    known.id,
                    "7: its own stamp"
                );
            }
            known.over = Some(now);
            return;
        }
        assert!(message.id().is_none(), "11: no requests");
        match method.as_str() {
            "notifications/progress" => {
                let token = text(&value["params"]["progressToken"]);
                assert_eq!(Some(token), known.token, "7: the client's own token");
                let now = value["params"]["progress"].as_u64();
                assert!(now > known.last_progress, "17: progress rises");
                known.last_progress = now;
            }
            "notifications/message" => {}
            "notifications/subscriptions/acknowledged" => {
                assert!(known.promised.is_none(), "18: one acknowledgement");
                let granted = value["params"]["notifications"].as_object().unwrap();
                known.promised = Some(granted.keys().cloned().collect());
            }
            method => {
                let kind = KINDS.iter().find(|(_, told_by)| *told_by == method);
                let promised = known
                    .promised
                    .as_ref()
                    .expect("18: first an acknowledgement");
                assert!(
                    promised.contains(kind.unwrap().0),
                    "18: only honoured kinds"
                );
                assert_eq!(nature, Nature::ChangeNotice);
            }
        }
        if known.is_listen {
            assert_eq!(
                text(&value["params"]["_meta"][STAMP]),
                known.id,
                "7: its own stamp"
            );
        }
    }

    fn log(&self, id: u64) {
        // What was cancelled so long ago is taken to have stopped.
        let may_run = |id: &u64| {
            let over = self.calls[id].over;
            over.is_none_or(|over| over + CANCELLED_AGE > self.now)
        };
        let asked = self.at_program.iter().filter(|(_, known)| known.has_level);
        let asked = asked.filter(|(id, _)| may_run(id));
        let asked: Vec<_> = asked.map(|(id, _)| *id).collect();
        assert_eq!(asked, [id], "9: a line is not guessed");
        assert_eq!(
            self.served.len(),
            1,
            "8: no line of one principal for another"
        );
    }

    pub(crate) fn judge_write(&mut self, write: &Write) {
        let value: Value = serde_json::from_slice(&write.message).unwrap();
        assert!(
            value["result"].is_null() && value["error"].is_null(),
            "5: nothing is answered"
        );
        let program = self.program.expect("a program that runs");
        let Some(call) = write.call else {
            assert_eq!(value["method"], "notifications/cancelled");
            let id = value["params"]["requestId"].as_u64().unwrap();
            let known = self.calls.get_mut(&id).expect("a call that was made");
            assert!(known.over.is_some(), "14: what is cancelled is over");
            assert_eq!(
                known.written.last(),
                Some(&program),
                "5.1: only what was written"
            );
            known.cancels += 1;
            assert_eq!(known.cancels, 1, "5.1: once");
            return;
        };
        let id = number(call);
        assert_eq!(value["id"].as_u64(), Some(id), "7: ids of our own");
        self.served.insert(self.calls[&id].principal);
        let is_alone = self.served.len() == 1;
        let known = self.open(id);
        assert!(!known.written.contains(&program), "3: once to each program");
        assert!(known.is_listen || known.written.is_empty(), "3: once");
        known.written.push(program);
        let meta = &value["params"]["_meta"];
        let token = meta["progressToken"].as_u64();
        assert_eq!(
            token,
            known.token.as_ref().map(|_| id),
            "7: tokens of our own"
        );
        let has_level = !meta[LEVEL].is_null();
        assert_eq!(
            has_level,
            known.asks_logs && is_alone,
            "8: who may get lines"
        );
        self.at_program.insert(id, AtProgram { has_level });
    }
}

fn text(value: &Value) -> String {
    value.to_string()
}
