use super::*;
use crate::frame::{AlarmKind, DeviceId, EventId, Fix, Phase};
use crate::hop::TraceHead;

const ROOMY: u64 = 64 << 20;
const NOW: i64 = 1_700_000_000_000;

fn event(device: &str, kind: AlarmKind, start_ms: i64, phase: Phase) -> Event {
    let device = DeviceId::new(device.as_bytes()).unwrap();
    Event {
        id: EventId::of_alarm(&device, kind, kind.name(), start_ms as u64, phase),
        device,
        kind,
        phase,
        severity: kind.severity(),
        late: false,
        rule: kind.name().to_owned(),
        start_ms,
        fix: Fix::default(),
        received_ms: start_ms + 50,
        sensor: "trackers".to_owned(),
        trace: TraceHead::default(),
        origin: None,
    }
}

fn entry(event: Event) -> Entry {
    let mut body = vec![0; 512];
    let len = event.encode(&mut body).unwrap();
    body.truncate(len);
    Entry { event, body }
}

/// `count` alarms of one ordinary kind that start at `first`.
fn batch(first: i64, count: i64) -> Batch {
    let raise = |n| {
        entry(event(
            "truck-1",
            AlarmKind::Overspeed,
            first + n,
            Phase::Raise,
        ))
    };
    Batch {
        entries: (0..count).map(raise).collect(),
        ..Batch::default()
    }
}

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Dir {
        Dir(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("journal.db")
    }

    fn open(&self, bytes_max: u64) -> Journal {
        Journal::open(&self.path(), bytes_max).unwrap()
    }

    /// Changes the file behind the journal's back; the journal must be closed.
    fn tamper(&self, sql: &str) {
        let db = Connection::open(self.path()).unwrap();
        db.execute_batch(sql).unwrap();
    }
}

fn all(journal: &mut Journal) -> Vec<Stored> {
    let mut found = Vec::new();
    journal.scan(NOW, |stored| found.push(stored)).unwrap();
    found
}

#[test]
fn the_journal_runs_under_the_settings_that_its_promises_rest_on() {
    let dir = Dir::new();
    let journal = dir.open(ROOMY);
    let text = |name: &str| -> String {
        let value = journal.db.pragma_query_value(None, name, |row| row.get(0));
        value.unwrap()
    };
    assert_eq!(
        (text("journal_mode"), text("locking_mode")),
        ("wal".into(), "exclusive".into())
    );
    let number = |name: &str| schema::pragma(&journal.db, name).unwrap();
    assert_eq!((number("synchronous"), number("mmap_size")), (2, 0));
    assert_eq!(number("max_page_count") * number("page_size"), ROOMY);
    assert!(
        Connection::open(dir.path())
            .unwrap()
            .execute_batch("SELECT * FROM meta")
            .is_err()
    );
}

#[test]
fn a_reopened_journal_gives_back_what_was_accepted_in_order() {
    let dir = Dir::new();
    let mut journal = dir.open(ROOMY);
    let first = batch(0, 3);
    let committed = journal.commit(&first, NOW).unwrap();
    assert_eq!(committed.verdicts, [1, 2, 3].map(Verdict::Accepted));
    let second = Batch {
        delivered: vec![2],
        ..batch(100, 1)
    };
    assert_eq!(
        journal.commit(&second, NOW + 1).unwrap().verdicts,
        [Verdict::Accepted(4)]
    );
    let uuid = journal.uuid().to_owned();
    drop(journal);

    let mut journal = dir.open(ROOMY);
    let stored = |seq, accepted_ms, entry: &Entry| Stored {
        seq,
        accepted_ms,
        event: entry.event.clone(),
    };
    let expected = [
        stored(1, NOW, &first.entries[0]),
        stored(3, NOW, &first.entries[2]),
        stored(4, NOW + 1, &second.entries[0]),
    ];
    assert_eq!(all(&mut journal), expected);
    assert_eq!(journal.read(&[4, 2], NOW).unwrap(), expected[2..]);
    assert_eq!(
        (journal.uuid(), journal.usage().records),
        (uuid.as_str(), 3)
    );
}

#[test]
fn a_sequence_is_never_used_twice_even_when_the_journal_was_empty() {
    let dir = Dir::new();
    let mut journal = dir.open(ROOMY);
    journal.commit(&batch(0, 5), NOW).unwrap();
    let delivered = vec![5, 1, 2, 3, 4];
    journal
        .commit(
            &Batch {
                delivered,
                ..Batch::default()
            },
            NOW,
        )
        .unwrap();
    drop(journal);
    let mut journal = dir.open(ROOMY);
    assert_eq!(journal.usage().records, 0);
    assert_eq!(
        journal.commit(&batch(10, 1), NOW).unwrap().verdicts,
        [Verdict::Accepted(6)]
    );
    let quarantined = vec![(6, 0x90)];
    journal
        .commit(
            &Batch {
                quarantined,
                ..Batch::default()
            },
            NOW,
        )
        .unwrap();
    drop(journal);
    let mut journal = dir.open(ROOMY);
    assert_eq!(
        journal.commit(&batch(11, 1), NOW).unwrap().verdicts,
        [Verdict::Accepted(7)]
    );
}

#[test]
fn an_event_that_comes_again_is_accepted_without_a_second_record() {
    let dir = Dir::new();
    let mut journal = dir.open(ROOMY);
    let mut twice = batch(0, 1);
    twice.entries.push(twice.entries[0].clone());
    let verdicts = journal.commit(&twice, NOW).unwrap().verdicts;
    assert_eq!(verdicts, [Verdict::Accepted(1), Verdict::Known]);
    drop(journal);

    let mut journal = dir.open(ROOMY);
    assert_eq!(
        journal.commit(&batch(0, 1), NOW).unwrap().verdicts,
        [Verdict::Known]
    );
    let deliver = Batch {
        delivered: vec![1],
        ..Batch::default()
    };
    journal.commit(&deliver, NOW).unwrap();
    drop(journal);

    let mut journal = dir.open(ROOMY);
    assert_eq!(
        journal.commit(&batch(0, 1), NOW).unwrap().verdicts,
        [Verdict::Known]
    );
    assert_eq!(journal.usage().records, 0);
}

#[test]
fn only_the_latest_delivered_ids_are_remembered() {
    let dir = Dir::new();
    let mut journal = dir.open(ROOMY);
    let rounds = delivered::DELIVERED_IDS_MAX as i64 / 256 + 1;
    for round in 0..rounds {
        let verdicts = journal
            .commit(&batch(round * 256, 256), NOW)
            .unwrap()
            .verdicts;
        let seq = |verdict| match verdict {
            Verdict::Accepted(seq) => seq,
            other => panic!("a new event was {other:?}"),
        };
        let delivered = verdicts.into_iter().map(seq).collect();
        journal
            .commit(
                &Batch {
                    delivered,
                    ..Batch::default()
                },
                NOW,
            )
            .unwrap();
    }
    drop(journal);
    let mut journal = dir.open(ROOMY);
    let oldest = journal.commit(&batch(0, 1), NOW).unwrap().verdicts;
    let newest = journal
        .commit(&batch(rounds * 256 - 1, 1), NOW)
        .unwrap()
        .verdicts;
    assert!(matches!(oldest[..], [Verdict::Accepted(_)]));
    assert_eq!(newest, [Verdict::Known]);
}

#[test]
fn a_full_journal_refuses_new_keeps_accepted_and_recovers_after_deletes() {
    let dir = Dir::new();
    let mut journal = dir.open(2 << 20);
    let (mut accepted, mut next) = (Vec::new(), 0);
    let refused = loop {
        let verdicts = journal.commit(&batch(next, 256), NOW).unwrap().verdicts;
        next += 256;
        accepted.extend(verdicts.iter().filter_map(|verdict| match verdict {
            Verdict::Accepted(seq) => Some(*seq),
            _ => None,
        }));
        if let Some(refused) = verdicts.iter().find(|v| matches!(v, Verdict::Refused(_))) {
            break *refused;
        }
    };
    assert_eq!(refused, Verdict::Refused(Refusal::Full));
    assert!(journal.usage().percent() >= DEGRADED_PERCENT);

    let sos = |start| entry(event("truck-2", AlarmKind::Sos, start, Phase::Raise));
    let critical = Batch {
        entries: vec![sos(1)],
        ..Batch::default()
    };
    assert!(matches!(
        journal.commit(&critical, NOW).unwrap().verdicts[..],
        [Verdict::Accepted(_)]
    ));
    let mut start = 2;
    let end = loop {
        let entries = (start..start + 256).map(sos).collect();
        let verdicts = journal
            .commit(
                &Batch {
                    entries,
                    ..Batch::default()
                },
                NOW,
            )
            .unwrap()
            .verdicts;
        start += 256;
        if let Some(end) = verdicts
            .into_iter()
            .find(|v| matches!(v, Verdict::Refused(_)))
        {
            break end;
        }
    };
    assert_eq!(end, Verdict::Refused(Refusal::Full));
    let known = journal.commit(&batch(0, 1), NOW).unwrap().verdicts;
    assert_eq!(
        known,
        [Verdict::Known],
        "a full journal still knows what it holds"
    );

    let kept: Vec<u64> = all(&mut journal).iter().map(|stored| stored.seq).collect();
    assert_eq!(kept[..accepted.len()], accepted[..]);
    for delivered in accepted.chunks(256) {
        let delete = Batch {
            delivered: delivered.to_vec(),
            ..Batch::default()
        };
        assert!(journal.commit(&delete, NOW).unwrap().deleted);
    }
    let again = journal.commit(&batch(next, 1), NOW).unwrap().verdicts;
    assert!(matches!(again[..], [Verdict::Accepted(_)]));
}

#[test]
fn a_flipped_bit_is_quarantined_and_counted_and_its_neighbours_live() {
    let dir = Dir::new();
    dir.open(ROOMY).commit(&batch(0, 4), NOW).unwrap();
    dir.tamper(
        "UPDATE record SET body = CAST(substr(body, 1, 9) || x'ff' || substr(body, 11) AS BLOB) WHERE seq = 2;
         UPDATE record SET accepted_ms = accepted_ms + 1 WHERE seq = 3;",
    );
    let mut journal = dir.open(ROOMY);
    assert_eq!(journal.read(&[1, 2], NOW).unwrap().len(), 1);
    assert_eq!((journal.damaged, journal.usage().records), (1, 3));
    let left: Vec<u64> = all(&mut journal).iter().map(|stored| stored.seq).collect();
    assert_eq!((left, journal.damaged), (vec![1, 4], 2));
    let kept: i64 = journal
        .db
        .query_row(
            "SELECT count(*) FROM quarantine WHERE length(body) > 0",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(kept, 2);
}

#[test]
fn a_newer_schema_and_a_foreign_database_are_refused_untouched() {
    let dir = Dir::new();
    dir.open(ROOMY).commit(&batch(0, 1), NOW).unwrap();
    dir.tamper("PRAGMA user_version = 2");
    let error = Journal::open(&dir.path(), ROOMY).unwrap_err();
    assert!(
        matches!(error, JournalError::Newer { found: 2, .. }),
        "{error}"
    );
    dir.tamper("PRAGMA user_version = 1");
    assert_eq!(all(&mut dir.open(ROOMY)).len(), 1);

    let other = Dir::new();
    other.tamper("CREATE TABLE theirs (a)");
    let error = Journal::open(&other.path(), ROOMY).unwrap_err();
    assert!(matches!(error, JournalError::Foreign { .. }), "{error}");
}

#[test]
fn an_open_alarm_lives_from_its_raise_to_its_clear() {
    let dir = Dir::new();
    let mut journal = dir.open(ROOMY);
    let speeding = event("truck-1", AlarmKind::Overspeed, 1, Phase::Raise);
    let mut late = event("truck-2", AlarmKind::Overspeed, 1, Phase::Raise);
    late.late = true;
    let mut momentary = event("truck-3", AlarmKind::Sos, 1, Phase::Raise);
    momentary.id = EventId([7; 16]);
    let entries = vec![entry(speeding.clone()), entry(late), entry(momentary)];
    journal
        .commit(
            &Batch {
                entries,
                delivered: vec![1],
                ..Batch::default()
            },
            NOW,
        )
        .unwrap();
    journal
        .commit(
            &Batch {
                delivered: vec![1, 2, 3],
                ..Batch::default()
            },
            NOW,
        )
        .unwrap();
    drop(journal);

    let mut journal = dir.open(ROOMY);
    assert_eq!(journal.open_alarms().unwrap(), [speeding]);
    let clear = event("truck-1", AlarmKind::Overspeed, 1, Phase::Clear);
    let entries = vec![entry(clear)];
    journal
        .commit(
            &Batch {
                entries,
                ..Batch::default()
            },
            NOW,
        )
        .unwrap();
    assert_eq!(journal.open_alarms().unwrap(), []);
}

#[test]
fn a_snapshot_is_replaced_survives_and_is_refused_when_damaged_or_too_large() {
    let dir = Dir::new();
    let mut journal = dir.open(1 << 20);
    assert_eq!(journal.read_snapshot().unwrap(), None);
    let mut snapshot = Snapshot {
        at_ms: NOW,
        body: vec![1; 100_000],
    };
    assert!(journal.write_snapshot(&snapshot).unwrap());
    snapshot.body[7] = 2;
    assert!(journal.write_snapshot(&snapshot).unwrap());
    assert!(
        !journal
            .write_snapshot(&Snapshot {
                at_ms: NOW,
                body: vec![0; 1 << 20]
            })
            .unwrap()
    );
    drop(journal);
    let mut journal = dir.open(1 << 20);
    assert_eq!(journal.read_snapshot().unwrap(), Some(snapshot));
    drop(journal);
    dir.tamper("UPDATE snapshot SET at_ms = at_ms + 1");
    let mut journal = dir.open(1 << 20);
    assert_eq!(
        (journal.read_snapshot().unwrap(), journal.damaged),
        (None, 1)
    );
}

/// What a run begins on.
#[derive(Debug, PartialEq, Eq)]
struct Begun {
    repeats: bool,
    exact: bool,
}

const IN_ORDER: Begun = Begun {
    repeats: false,
    exact: true,
};
const IN_DOUBT: Begun = Begun {
    repeats: true,
    exact: false,
};

/// A run that is taken up, and serves.
fn begin(journal: &mut Journal, birth: u64) -> Begun {
    let exact = journal.begin_run(birth).unwrap();
    let repeats = journal.serve_run().unwrap();
    Begun { repeats, exact }
}

/// An alarm of so many devices, raised, and one that was raised and cleared.
fn with_open_alarms(journal: &mut Journal, devices: i64) -> Vec<EventId> {
    let kind = AlarmKind::Overspeed;
    let raise = |n: i64| event(&format!("truck-{n:03}"), kind, n, Phase::Raise);
    let open: Vec<Event> = (0..devices).map(raise).collect();
    for events in open.chunks(COMMIT_RECORDS_MAX) {
        let batch = Batch {
            entries: events.iter().cloned().map(entry).collect(),
            ..Batch::default()
        };
        journal.commit(&batch, NOW).unwrap();
    }
    let over = [Phase::Raise, Phase::Clear].map(|phase| entry(event("over", kind, 7, phase)));
    let batch = Batch {
        entries: over.to_vec(),
        ..Batch::default()
    };
    journal.commit(&batch, NOW).unwrap();
    open.into_iter().map(|event| event.id).collect()
}

/// The broker confirms everything that waits.
fn deliver_all(journal: &mut Journal) {
    let delivered = all(journal).iter().map(|stored| stored.seq).collect();
    let batch = Batch {
        delivered,
        ..Batch::default()
    };
    assert!(journal.commit(&batch, NOW).unwrap().deleted);
}

/// Repeats until nothing is left, or no room.
fn repeat_all(journal: &mut Journal) -> (Vec<Stored>, Left) {
    let mut records = Vec::new();
    loop {
        let repeated = journal.repeat(NOW).unwrap();
        records.extend(repeated.records);
        if repeated.left != Left::More {
            return (records, repeated.left);
        }
    }
}

#[test]
fn a_run_after_one_that_ended_in_order_repeats_nothing() {
    let dir = Dir::new();
    let mut journal = dir.open(ROOMY);
    let begun = begin(&mut journal, 5);
    assert_eq!(begun, IN_ORDER, "a new journal owes nothing");
    with_open_alarms(&mut journal, 3);
    drop(journal);
    // The uplink alone was killed: the rings live, and so do the states.
    let mut journal = dir.open(ROOMY);
    assert_eq!(begin(&mut journal, 5), IN_ORDER);
    assert!(journal.end_run().unwrap());
    drop(journal);
    let mut journal = dir.open(ROOMY);
    assert_eq!(begin(&mut journal, 9), IN_ORDER);
    assert_eq!(repeat_all(&mut journal), (vec![], Left::Nothing));
    drop(journal);
    // The note is about that run alone.
    assert_eq!(begin(&mut dir.open(ROOMY), 12), IN_DOUBT);
}

/// No alarm was open when the power went. Nothing was to be sent again, and the states were taken for those of the end:
/// a button that was pressed in the old snapshot hid that it had been released and was pressed again.
#[test]
fn states_after_a_crash_are_old_although_no_alarm_is_open() {
    let dir = Dir::new();
    let mut journal = dir.open(ROOMY);
    begin(&mut journal, 5);
    assert!(journal.end_run().unwrap());
    assert_eq!(begin(&mut journal, 9), IN_ORDER);
    drop(journal);
    let mut journal = dir.open(ROOMY);
    assert_eq!(begin(&mut journal, 12), IN_DOUBT);
    assert_eq!(repeat_all(&mut journal), (vec![], Left::Nothing));
    drop(journal);
    assert!(!begin(&mut dir.open(ROOMY), 12).exact);
}

#[test]
fn a_run_after_a_crash_repeats_every_open_alarm_once_under_its_id() {
    let dir = Dir::new();
    let mut journal = dir.open(ROOMY);
    begin(&mut journal, 5);
    let open = with_open_alarms(&mut journal, 600);
    deliver_all(&mut journal);
    drop(journal);
    let mut journal = dir.open(ROOMY);
    assert_eq!(begin(&mut journal, 9), IN_DOUBT);
    let (records, left) = repeat_all(&mut journal);
    assert_eq!(left, Left::Nothing);
    let ids: Vec<EventId> = records.iter().map(|stored| stored.event.id).collect();
    assert_eq!(ids, open);
    assert_eq!(all(&mut journal), records, "they wait for the broker");
    assert_eq!(journal.usage().records, 600);
    drop(journal);
    let mut journal = dir.open(ROOMY);
    let begun = begin(&mut journal, 9);
    assert!(!begun.repeats, "once in a run");
    assert!(!begun.exact, "the snapshot is as old as it was");
    deliver_all(&mut journal);
    let again = Batch {
        entries: vec![entry(records[0].event.clone())],
        ..Batch::default()
    };
    let verdicts = journal.commit(&again, NOW).unwrap().verdicts;
    assert_eq!(verdicts, [Verdict::Known]);
}

#[test]
fn what_waits_for_the_broker_is_not_repeated_and_a_repeat_that_was_cut_begins_again() {
    let dir = Dir::new();
    let mut journal = dir.open(ROOMY);
    begin(&mut journal, 5);
    with_open_alarms(&mut journal, 2);
    drop(journal);
    let mut journal = dir.open(ROOMY);
    assert_eq!(begin(&mut journal, 9), IN_DOUBT);
    drop(journal);
    let mut journal = dir.open(ROOMY);
    let begun = begin(&mut journal, 9);
    assert_eq!(begun, IN_DOUBT, "nothing was repeated yet");
    assert_eq!(repeat_all(&mut journal), (vec![], Left::Nothing));
    assert_eq!(journal.usage().records, 4);
}

#[test]
fn repeats_without_room_are_tried_again() {
    let dir = Dir::new();
    let small = 1 << 20;
    let mut journal = dir.open(small);
    begin(&mut journal, 5);
    let open = with_open_alarms(&mut journal, 300);
    deliver_all(&mut journal);
    let mut first = 1_000;
    while !journal
        .commit(&batch(first, 100), NOW)
        .unwrap()
        .verdicts
        .contains(&Verdict::Refused(Refusal::Full))
    {
        first += 100;
    }
    drop(journal);
    let mut journal = dir.open(small);
    assert_eq!(begin(&mut journal, 9), IN_DOUBT);
    let (some, left) = repeat_all(&mut journal);
    assert_eq!(left, Left::Full);
    assert!(some.len() < open.len());
    deliver_all(&mut journal);
    deliver_all(&mut journal);
    let (rest, left) = repeat_all(&mut journal);
    assert_eq!(left, Left::Nothing);
    // The alarm that the batches above left open comes first by its key, and its record waited then.
    assert_eq!(some.len() + rest.len(), open.len());
    drop(journal);
    assert!(!begin(&mut dir.open(small), 9).repeats);
}

/// A supervisor was killed while its uplink started. The next run took that for a crash, and the states for old ones,
/// though nothing had happened since the end before.
#[test]
fn a_run_that_never_served_leaves_the_end_before_as_it_was() {
    let dir = Dir::new();
    let mut journal = dir.open(ROOMY);
    begin(&mut journal, 5);
    with_open_alarms(&mut journal, 3);
    assert!(journal.end_run().unwrap());
    journal.begin_run(9).unwrap();
    drop(journal);
    let mut journal = dir.open(ROOMY);
    assert_eq!(begin(&mut journal, 12), IN_ORDER);
    drop(journal);
    assert_eq!(begin(&mut dir.open(ROOMY), 15), IN_DOUBT);
}
