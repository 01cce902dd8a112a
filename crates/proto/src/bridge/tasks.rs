//! Tasks where several client sessions use one upstream session: a task belongs to the client session that made
//! it (protocol notes 5.2.1, "tasks").

use bytes::Bytes;

use crate::bridge::action::MemberId;
use crate::bridge::call::Tells;
use crate::bridge::limits::{MAX_KEPT, MAX_TASKS};
use crate::bridge::{Reframing, Refused};
use crate::rpc::{Message, elements, member, splice, string};

impl Reframing {
    /// Whether a client may ask this about tasks: of a task that is not its own there is none.
    pub(super) fn check_task(&self, client: MemberId, message: &Message) -> Result<(), Refused> {
        let is_named = message
            .method()
            .is_some_and(|method| method.starts_with(TASKS) && method != LIST);
        if !is_named {
            return Ok(());
        }
        let task = message.param_str(TASK_ID).unwrap_or_default();
        let owner = self
            .shared
            .as_ref()
            .and_then(|shared| shared.tasks.get(&*task));
        match owner {
            Some(owner) if *owner == client => Ok(()),
            _ => Err(Refused::InvalidParameter { parameter: TASK_ID }),
        }
    }

    /// What the answer to a request will say about tasks.
    pub(super) fn tells(&self, message: &Message) -> Tells {
        if self.shared.is_none() {
            Tells::Nothing
        } else if message.method() == Some(LIST) {
            Tells::All
        } else if message.param("task").is_some() {
            Tells::Made
        } else {
            Tells::Nothing
        }
    }

    /// Notes a task that was made, and shows a client its own ones only.
    pub(super) fn read_tasks(
        &mut self,
        tells: Tells,
        client: MemberId,
        message: &Message,
        answer: Bytes,
    ) -> Bytes {
        match tells {
            Tells::Nothing => answer,
            Tells::Made => {
                if let Some(task) = made(message) {
                    self.note_task(client, task);
                }
                answer
            }
            Tells::All => self.own_tasks(client, answer),
        }
    }

    fn note_task(&mut self, client: MemberId, task: String) {
        let (Some(shared), Some(known)) = (&mut self.shared, self.members.get_mut(&client)) else {
            return;
        };
        if shared.tasks.contains_key(&task) {
            // A server that gives one id twice means one task, whose it is already.
            return;
        }
        if known.tasks.len() >= MAX_TASKS
            && let Some(oldest) = known.tasks.pop_front()
        {
            shared.tasks.remove(&oldest);
        }
        known.tasks.push_back(task.clone());
        shared.tasks.insert(task, client);
    }

    /// A client session is over: its tasks are nobody's.
    pub(super) fn forget_tasks(&mut self, client: MemberId) {
        if let Some(shared) = &mut self.shared {
            shared.tasks.retain(|_, owner| *owner != client);
        }
    }

    fn own_tasks(&self, client: MemberId, answer: Bytes) -> Bytes {
        self.filtered(client, &answer).unwrap_or(answer)
    }

    /// `None`: there is nothing to take out.
    fn filtered(&self, client: MemberId, answer: &Bytes) -> Option<Bytes> {
        let list = member(answer, "result").and_then(|result| member(&result, "tasks"))?;
        let is_own = |task: &Bytes| {
            let owner = task_id(task).and_then(|id| self.shared.as_ref()?.tasks.get(&id));
            owner == Some(&client)
        };
        let own: Vec<Bytes> = elements(&list).ok()?.into_iter().filter(is_own).collect();
        let own: Vec<&[u8]> = own.iter().map(|task| &task[..]).collect();
        let own = [b"[", &own.join(&b","[..])[..], b"]"].concat();
        splice(answer, &list, &own)
    }
}

/// The id of the task that this answer says was made.
fn made(answer: &Message) -> Option<String> {
    let task = member(&answer.result()?, "task")?;
    task_id(&task).filter(|id| id.len() <= MAX_KEPT)
}

fn task_id(task: &Bytes) -> Option<String> {
    let id = member(task, TASK_ID)?;
    string(&id).map(std::borrow::Cow::into_owned)
}

/// Methods about tasks.
const TASKS: &str = "tasks/";
/// The one that names none.
const LIST: &str = "tasks/list";
/// How the others name one.
pub(super) const TASK_ID: &str = "taskId";
