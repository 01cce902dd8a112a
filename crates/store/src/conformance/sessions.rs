//! What every [`SessionStore`] must do (F1, F3).

use std::future::Future;
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use thinpipe_proto::revision::{Binding, Revision};
use thinpipe_proto::session::{NodeId, Principal, SessionId};

use super::{all, ok};
use crate::{SessionRecord, SessionStore, StoreError, Version};

const TTL: Duration = Duration::from_secs(60);

/// Runs the suite of a store of sessions that has none. `advance` lets time pass for the store (a real or a
/// virtual clock).
///
/// # Panics
/// When the store misbehaves; the message says how.
pub async fn sessions<F>(store: Arc<dyn SessionStore>, advance: impl Fn(Duration) -> F)
where
    F: Future<Output = ()>,
{
    create_get_delete(&*store).await;
    every_field_comes_back(&*store).await;
    compare_and_set(&*store).await;
    races(&store).await;
    batch_and_pages(&*store).await;
    pages_of_any_ids(&*store).await;
    expiry(&*store, &advance).await;
    touch_never_shortens(&*store, advance).await;
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

async fn expiry<F>(store: &dyn SessionStore, advance: &impl Fn(Duration) -> F)
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

async fn every_field_comes_back(store: &dyn SessionStore) {
    let mut record = sample(4);
    record.principal = Principal::Anonymous;
    record.endpoint = "one \"two\" \u{e9}".into();
    record.binding = Binding::HttpSse;
    record.revision = Revision::V2024_11_05;
    record.initialize_params = Bytes::from_static(b"{\"a\": [1.0, 1e3, 12345678901234567890]}");
    record.attachment = Bytes::from_static(b"\x00\xff\r\n \"{}");
    record.owner = Some(NodeId::from_random([5; 12]));
    record.created_ms = u64::MAX;
    ok(store.create(&record, TTL).await, "create");
    let got = ok(store.get(&record.id).await, "get").map(|(record, _)| record);
    assert_eq!(got.as_ref(), Some(&record), "byte for byte");
    let got = got.map(|record| record.attachment);
    assert_eq!(got, Some(record.attachment), "byte for byte");
    ok(store.delete(&record.id).await, "delete");
}

/// Of many that do the same at once, exactly one succeeds.
async fn races(store: &Arc<dyn SessionStore>) {
    let record = sample(5);
    let creates = all((0..RIVALS).map(|_| {
        let (store, record) = (Arc::clone(store), record.clone());
        async move { store.create(&record, TTL).await }
    }));
    let created = creates.await;
    assert_eq!(successes(&created), 1, "one creates: {created:?}");
    let updates = all((0..RIVALS).map(|n| {
        let (store, mut record) = (Arc::clone(store), record.clone());
        record.created_ms = n;
        async move { store.update(&record, Version(1)).await }
    }));
    let updated = updates.await;
    assert_eq!(successes(&updated), 1, "one updates: {updated:?}");
    let winner = updated.iter().position(Result::is_ok).map(|at| at as u64);
    let got = ok(store.get(&record.id).await, "get");
    assert_eq!(
        got.map(|(record, _)| record.created_ms),
        winner,
        "what the one wrote is there"
    );
    let deletes = all((0..RIVALS).map(|_| {
        let (store, id) = (Arc::clone(store), record.id.clone());
        async move { store.delete(&id).await }
    }));
    let deleted = deletes.await;
    let found = deleted.iter().filter(|d| matches!(d, Ok(true))).count();
    assert_eq!(found, 1, "one deletes: {deleted:?}");
}

fn successes<T>(results: &[Result<T, StoreError>]) -> usize {
    results.iter().filter(|result| result.is_ok()).count()
}

/// Ids are any visible ASCII, and their order is that of their bytes.
async fn pages_of_any_ids(store: &dyn SessionStore) {
    let texts = [
        "!", "00", "0G", "0f", "9", "9~", "A", "F0", "Z", "_", "`~", "a", "a0", "aF", "f", "ff",
        "g", "~{}",
    ];
    for text in texts {
        let mut record = sample(6);
        record.id = id(text);
        ok(store.create(&record, TTL).await, "create");
    }
    let all = ok(store.list(None, 1_000).await, "list");
    let shown: Vec<_> = all.iter().map(SessionId::as_str).collect();
    assert_eq!(shown, texts, "in ascending order");
    let after = ok(store.list(Some(&id("A0")), 2).await, "list");
    let shown: Vec<_> = after.iter().map(SessionId::as_str).collect();
    assert_eq!(shown, ["F0", "Z"], "after an id that is not there");
    assert_eq!(ok(store.count().await, "count"), texts.len());
    for text in texts {
        ok(store.delete(&id(text)).await, "delete");
    }
    assert_eq!(ok(store.count().await, "count"), 0);
}

fn id(text: &'static str) -> SessionId {
    let id = SessionId::from_bytes(Bytes::from_static(text.as_bytes()));
    id.expect("it is visible ASCII")
}

async fn touch_never_shortens<F>(store: &dyn SessionStore, advance: impl Fn(Duration) -> F)
where
    F: Future<Output = ()>,
{
    let record = sample(8);
    ok(store.create(&record, TTL).await, "create");
    ok(store.touch(&record.id, TTL / 6).await, "touch");
    ok(store.update(&record, Version(1)).await, "update");
    advance(TTL / 2).await;
    let got = ok(store.get(&record.id).await, "get");
    assert!(got.is_some(), "neither a touch nor an update shortens");
    assert_eq!(ok(store.count().await, "count"), 1);
    assert_eq!(
        ok(store.list(None, 9).await, "list"),
        slice::from_ref(&record.id),
        "it is listed as long as it is there"
    );
    advance(TTL).await;
    let got = ok(store.get(&record.id).await, "get");
    assert_eq!(got, None, "an update does not prolong");
    let late = store.touch(&record.id, TTL).await;
    assert!(matches!(late, Err(StoreError::NotFound)), "{late:?}");
    assert_eq!(ok(store.count().await, "count"), 0);
    assert_eq!(ok(store.list(None, 9).await, "list"), []);
}

/// How many do the same at once.
const RIVALS: u64 = 16;
