//! What was acknowledged is there after reopen; what is broken does not stop the node.

use super::*;

fn put(table: Table, key: &str, value: &[u8]) -> Change {
    Change::Put { table, key: key.into(), value: value.into() }
}

fn delete(table: Table, key: &str) -> Change {
    Change::Delete { table, key: key.into() }
}

fn vital() -> Vital {
    Vital {
        version: 1,
        node_name: "n1".into(),
        hub_epoch: "e".into(),
        accepted_revision: 7,
        key_pem: "k".repeat(5000),
        ..Vital::default()
    }
}

#[tokio::test]
async fn tables_are_apart_and_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, report) = Ledger::open(dir.path()).unwrap();
    assert!(!report.lost_data());
    ledger
        .commit(vec![
            put(Table::Desired, "b", b"2"),
            put(Table::Desired, "a", b"1"),
            put(Table::Outbox, "a", b""),
            put(Table::Desired, "c", b"3"),
            delete(Table::Desired, "c"),
        ])
        .await
        .unwrap();
    ledger.set_vital(vital()).await.unwrap();
    let expect = vec![("a".to_owned(), b"1".to_vec()), ("b".to_owned(), b"2".to_vec())];
    assert_eq!(ledger.scan(Table::Desired), expect);
    drop(ledger);

    let (ledger, report) = Ledger::open(dir.path()).unwrap();
    assert!(!report.lost_data());
    assert_eq!(ledger.scan(Table::Desired), expect);
    assert_eq!(ledger.read(Table::Outbox, "a"), Some(Vec::new()));
    assert_eq!(ledger.read(Table::Sandbox, "a"), None);
    assert_eq!(ledger.vital(), vital());
    let blocking = ledger.clone();
    thread::spawn(move || blocking.commit_blocking(vec![delete(Table::Outbox, "a")]))
        .join()
        .unwrap()
        .unwrap();
    assert_eq!(ledger.scan(Table::Outbox), []);
}

#[tokio::test]
async fn concurrent_commits_all_arrive() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, _) = Ledger::open(dir.path()).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..100 {
        let ledger = ledger.clone();
        tasks.spawn(async move {
            ledger.commit(vec![put(Table::Container, &n.to_string(), &[1; 500])]).await.unwrap();
            assert!(ledger.read(Table::Container, &n.to_string()).is_some());
        });
    }
    tasks.join_all().await;
    ledger.close();
    assert_eq!(ledger.commit(Vec::new()).await, Err(CommitError::Closed));
    let (ledger, _) = Ledger::open(dir.path()).unwrap();
    assert_eq!(ledger.scan(Table::Container).len(), 100);
}

#[tokio::test]
async fn whoever_waits_hears_that_the_ledger_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, _) = Ledger::open(dir.path()).unwrap();
    ledger.commit(vec![put(Table::Meta, "a", b"1")]).await.unwrap();
    tokio::select! {
        biased;
        () = ledger.closed() => panic!("it is open"),
        () = std::future::ready(()) => {}
    }
    let (other, waiting) = (ledger.clone(), ledger.closed());
    other.close();
    waiting.await;
    ledger.closed().await;
}

#[tokio::test]
async fn a_second_open_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (_ledger, _) = Ledger::open(dir.path()).unwrap();
    assert!(Ledger::open(dir.path()).unwrap_err().is_in_use());
}

#[tokio::test]
async fn corrupt_files_are_reported_and_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, _) = Ledger::open(dir.path()).unwrap();
    ledger.commit(vec![put(Table::Desired, "a", b"1")]).await.unwrap();
    ledger.set_vital(vital()).await.unwrap();
    drop(ledger);
    for file in ["vital", "records/store/db", "records/store/conf"] {
        let file = fs::File::options().write(true).open(dir.path().join(file)).unwrap();
        let len = file.metadata().unwrap().len();
        file.set_len(0).unwrap();
        file.set_len(len / 2 + 1).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"garbage", 5).unwrap();
    }
    let (ledger, report) = Ledger::open(dir.path()).unwrap();
    assert!(report.disk.lost_data(), "{report:?}");
    assert_eq!(report.vital, SlotReport::Lost);
    assert_eq!((ledger.scan(Table::Desired), ledger.vital()), (Vec::new(), Vital::default()));
    ledger.commit(vec![put(Table::Desired, "b", b"2")]).await.unwrap();
    ledger.set_vital(vital()).await.unwrap();
    drop(ledger);
    let (ledger, report) = Ledger::open(dir.path()).unwrap();
    assert!(!report.lost_data(), "{report:?}");
    assert_eq!((ledger.scan(Table::Desired).len(), ledger.vital()), (1, vital()));
}

#[tokio::test]
async fn a_vital_record_that_is_too_large_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, _) = Ledger::open(dir.path()).unwrap();
    let large = Vital { ca_pem: "x".repeat(100 << 10), ..vital() };
    assert_eq!(ledger.set_vital(large).await, Err(CommitError::TooLarge));
    assert_eq!(ledger.vital(), Vital::default());
    ledger.set_vital(vital()).await.unwrap();
}
