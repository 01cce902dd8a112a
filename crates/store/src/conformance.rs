//! The behaviour every [`SessionStore`] must show (F1), as one suite that is run against each.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use thinpipe_proto::revision::{Binding, Revision};
use thinpipe_proto::session::{Principal, SessionId};

use crate::{SessionRecord, SessionStore, StoreError, Version};

const TTL: Duration = Duration::from_secs(60);

/// Runs the whole suite. `advance` lets time pass for the store (a real or a virtual clock).
///
/// # Panics
/// When the store misbehaves; the message says how.
pub async fn run<F>(store: &dyn SessionStore, advance: impl Fn(Duration) -> F)
where
    F: Future<Output = ()>,
{
    create_get_delete(store).await;
    compare_and_set(store).await;
    batch_and_pages(store).await;
    expiry(store, advance).await;
}

/// A record to test with; `n` tells records apart.
#[must_use]
pub fn sample(n: u8) -> SessionRecord {
    SessionRecord {
        id: SessionId::from_random([n; 16]),
        principal: Principal::Named("alice".into()),
        endpoint: "everything".into(),
        binding: Binding::Sessions,
        revision: Revision::V2025_11_25,
        initialize_params: Bytes::from_static(br#"{"protocolVersion":"2025-11-25"}"#),
        attachment: Bytes::from(format!("up-{n}")),
        owner: None,
        created_ms: 1_700_000_000_000 + u64::from(n),
    }
}

async fn create_get_delete(store: &dyn SessionStore) {
    let record = sample(1);
    ok(store.create(&record, TTL).await, "create");
    let again = store.create(&record, TTL).await;
    assert!(
        matches!(again, Err(StoreError::Exists)),
        "an id is created once: {again:?}"
    );
    let got = ok(store.get(&record.id).await, "get");
    assert_eq!(
        got,
        Some((record.clone(), Version(1))),
        "what was stored comes back"
    );
    assert!(
        ok(store.delete(&record.id).await, "delete"),
        "the record was there"
    );
    assert!(
        !ok(store.delete(&record.id).await, "delete"),
        "it is gone after a delete"
    );
    assert_eq!(ok(store.get(&record.id).await, "get"), None);
    let touched = store.touch(&record.id, TTL).await;
    assert!(
        matches!(touched, Err(StoreError::NotFound)),
        "a touch revives nothing: {touched:?}"
    );
}

async fn compare_and_set(store: &dyn SessionStore) {
    let mut record = sample(2);
    ok(store.create(&record, TTL).await, "create");
    record.attachment = Bytes::new();
    let second = ok(store.update(&record, Version(1)).await, "update");
    assert!(second > Version(1), "a write raises the version");
    let stale = store.update(&record, Version(1)).await;
    assert!(
        matches!(stale, Err(StoreError::Conflict)),
        "a stale write is refused: {stale:?}"
    );
    assert_eq!(
        ok(store.get(&record.id).await, "get"),
        Some((record.clone(), second))
    );
    ok(store.delete(&record.id).await, "delete");
    let gone = store.update(&record, second).await;
    assert!(
        matches!(gone, Err(StoreError::NotFound)),
        "an update revives nothing: {gone:?}"
    );
}

async fn batch_and_pages(store: &dyn SessionStore) {
    for n in 10..20 {
        ok(store.create(&sample(n), TTL).await, "create");
    }
    assert_eq!(ok(store.count().await, "count"), 10);
    let ids = [sample(12).id, sample(99).id, sample(11).id];
    let got = ok(store.get_many(&ids).await, "get_many");
    let names: Vec<_> = got
        .iter()
        .map(|g| g.as_ref().map(|(r, _)| r.id.clone()))
        .collect();
    assert_eq!(
        names,
        [Some(ids[0].clone()), None, Some(ids[2].clone())],
        "in the order asked"
    );
    let mut seen = Vec::new();
    loop {
        let page = ok(store.list(seen.last(), 3).await, "list");
        assert!(page.len() <= 3, "a page is no longer than asked");
        if page.is_empty() {
            break;
        }
        seen.extend(page);
    }
    let all: Vec<_> = (10..20).map(|n| sample(n).id).collect();
    assert_eq!(seen, all, "pages give every id once, in order");
    for id in all {
        ok(store.delete(&id).await, "delete");
    }
}

async fn expiry<F>(store: &dyn SessionStore, advance: impl Fn(Duration) -> F)
where
    F: Future<Output = ()>,
{
    let record = sample(3);
    ok(store.create(&record, TTL).await, "create");
    advance(TTL / 2).await;
    ok(store.touch(&record.id, TTL).await, "touch");
    advance(TTL / 2 + TTL / 4).await;
    assert!(
        ok(store.get(&record.id).await, "get").is_some(),
        "a touch prolongs"
    );
    advance(TTL).await;
    assert_eq!(
        ok(store.get(&record.id).await, "get"),
        None,
        "an expired record is not there"
    );
    assert_eq!(ok(store.count().await, "count"), 0, "nor is it counted");
    ok(
        store.create(&record, TTL).await,
        "an expired id may be created again",
    );
    ok(store.delete(&record.id).await, "delete");
}

fn ok<T>(result: Result<T, StoreError>, what: &str) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{what} failed: {error}"),
    }
}
