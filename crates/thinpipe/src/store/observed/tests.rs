use std::sync::atomic::AtomicBool;

use thinpipe_store::MemoryInbox;

use super::*;

/// A store that can be cut off.
#[derive(Default)]
struct Flaky {
    inbox: MemoryInbox,
    is_down: AtomicBool,
    has_no_list: AtomicBool,
}

impl Flaky {
    fn check(&self) -> Result<(), StoreError> {
        match self.is_down.load(Ordering::Relaxed) {
            true => Err(StoreError::Unavailable("cut off".into())),
            false => Ok(()),
        }
    }
}

impl Inbox for Flaky {
    fn beat<'a>(
        &'a self,
        node: &'a NodeId,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.check()?;
            self.inbox.beat(node, ttl).await
        })
    }

    fn leave<'a>(&'a self, node: &'a NodeId) -> BoxFuture<'a, Result<(), StoreError>> {
        self.inbox.leave(node)
    }

    fn nodes(&self) -> BoxFuture<'_, Result<Vec<NodeId>, StoreError>> {
        Box::pin(async move {
            match self.has_no_list.load(Ordering::Relaxed) {
                true => Err(StoreError::Unavailable("there is no list".into())),
                false => self.inbox.nodes().await,
            }
        })
    }

    fn dead<'a>(&'a self, among: &'a [NodeId]) -> BoxFuture<'a, Result<Vec<NodeId>, StoreError>> {
        Box::pin(async move {
            if among.is_empty() {
                return Ok(Vec::new());
            }
            self.check()?;
            self.inbox.dead(among).await
        })
    }

    fn deliver<'a>(
        &'a self,
        to: &'a NodeId,
        message: Bytes,
    ) -> BoxFuture<'a, Result<(), DeliverError>> {
        Box::pin(async move {
            self.check()?;
            self.inbox.deliver(to, message).await
        })
    }

    fn withdraw<'a>(
        &'a self,
        to: &'a NodeId,
        message: &'a Bytes,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        self.inbox.withdraw(to, message)
    }

    fn take<'a>(
        &'a self,
        node: &'a NodeId,
        limit: usize,
        wait: Duration,
    ) -> BoxFuture<'a, Result<Vec<Bytes>, StoreError>> {
        self.inbox.take(node, limit, wait)
    }

    fn secret<'a>(
        &'a self,
        name: &'a str,
        proposed: Bytes,
    ) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        self.inbox.secret(name, proposed)
    }
}

/// B5: what is said of a store is what its operations came to; a refusal is none of its failures.
#[tokio::test]
async fn b5_a_store_is_up_while_it_answers() {
    let observed = Observed::new(Flaky::default());
    let seen = observed.observations();
    assert!(!seen.is_up() && !seen.was_reached());
    let node = NodeId::from_bytes(Bytes::from_static(b"a")).unwrap();
    let cut = |is_down| observed.store.is_down.store(is_down, Ordering::Relaxed);
    let ttl = Duration::from_secs(3);

    cut(true);
    assert!(observed.beat(&node, ttl).await.is_err());
    assert!(!seen.is_up() && !seen.was_reached());
    cut(false);
    observed.beat(&node, ttl).await.unwrap();
    assert!(seen.is_up() && seen.was_reached());
    let nobody = NodeId::from_bytes(Bytes::from_static(b"b")).unwrap();
    let gone = observed.deliver(&nobody, Bytes::from_static(b"x")).await;
    assert!(matches!(gone, Err(DeliverError::Gone)));
    assert!(seen.is_up(), "it has answered");
    cut(true);
    let failed = observed.deliver(&node, Bytes::from_static(b"x")).await;
    assert!(matches!(failed, Err(DeliverError::Store(_))));
    assert!(!seen.is_up() && seen.was_reached());

    let counted = seen.operations();
    let counted = counted
        .iter()
        .map(|it| (it.operation, it.count(), it.failed));
    assert_eq!(
        counted.collect::<Vec<_>>(),
        [("beat", 2, 1), ("deliver", 2, 1)]
    );
}

/// F9: who is dead is asked of the store, which knows it without its list of all nodes. Asked of nobody, it is not
/// reached by that.
#[tokio::test]
async fn f9_the_dead_are_found_without_the_list_of_all() {
    let observed = Observed::new(Flaky::default());
    let node = |name| NodeId::from_bytes(Bytes::from_static(name)).unwrap();
    let among = [node(b"a"), node(b"b")];
    let ttl = Duration::from_secs(3);
    observed.beat(&among[0], ttl).await.unwrap();
    observed.store.has_no_list.store(true, Ordering::Relaxed);
    assert!(observed.nodes().await.is_err());
    assert_eq!(observed.dead(&among).await.unwrap(), among[1..]);
    assert!(observed.observations().is_up());

    observed.store.is_down.store(true, Ordering::Relaxed);
    assert!(observed.dead(&among).await.is_err());
    assert!(observed.dead(&[]).await.unwrap().is_empty());
    assert!(!observed.observations().is_up());
}

/// B5: every operation has a place to be counted at.
#[test]
fn b5_every_operation_is_counted() {
    let source = include_str!("../observed.rs");
    let names = source.split("watched(\"").skip(1);
    let names: Vec<_> = names.filter_map(|rest| rest.split('"').next()).collect();
    let inline = source.matches(".watched(\"").count();
    assert_eq!((names.len(), inline), (OPERATIONS.len(), OPERATIONS.len()));
    for name in OPERATIONS {
        assert!(names.contains(&name), "{name}");
    }
}
