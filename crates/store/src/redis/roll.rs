//! Sets whose members expire: the sessions that there are, and the nodes that are alive.

use std::sync::LazyLock;
use std::time::Duration;

use super::client::{Call, Calls, Lua};
use super::failure::Failure;
use super::{Id, RedisStore, milliseconds};

static ENLIST: LazyLock<Lua> = LazyLock::new(|| Lua::new(include_str!("scripts/enlist.lua")));
static ENLISTED: LazyLock<Lua> = LazyLock::new(|| Lua::new(include_str!("scripts/enlisted.lua")));

impl RedisStore {
    /// Part of a call: enters a member for a time.
    pub(super) async fn enlist(
        &self,
        calls: &Calls,
        set: String,
        member: &[u8],
        ttl: Duration,
    ) -> Result<(), Failure> {
        let enlist = Call::script(&ENLIST, &[set])
            .arg(member)
            .arg(milliseconds(ttl))
            .arg("");
        calls.part(enlist.repeatable()).await
    }

    /// Part of a call: lets a member that is there stay for a time at least.
    pub(super) async fn prolong(
        &self,
        set: String,
        member: &[u8],
        ttl: Duration,
    ) -> Result<(), Failure> {
        let prolong = Call::script(&ENLIST, &[set])
            .arg(member)
            .arg(milliseconds(ttl))
            .arg("XX");
        self.calls.part(prolong.repeatable()).await
    }

    /// Part of a call: takes a member out.
    pub(super) async fn strike(
        &self,
        calls: &Calls,
        set: String,
        member: &[u8],
    ) -> Result<(), Failure> {
        calls
            .part(Call::command("ZREM", &[set]).arg(member).repeatable())
            .await
    }

    /// Part of a call: the members whose time is not over, in no order.
    pub(super) async fn enlisted<I: Id>(
        &self,
        calls: &Calls,
        set: String,
    ) -> Result<Vec<I>, Failure> {
        let members = Call::script(&ENLISTED, &[set]).arg("members").repeatable();
        let members: Vec<Vec<u8>> = calls.part(members).await?;
        members.into_iter().map(I::read).collect()
    }

    /// Part of a call: how many members there are whose time is not over.
    pub(super) async fn enlisted_count(&self, set: String) -> Result<usize, Failure> {
        let count = Call::script(&ENLISTED, &[set]).arg("count").repeatable();
        self.calls.part(count).await
    }
}
