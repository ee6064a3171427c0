//! The state table: one slot a device, two copies, switched by one store.
//!
//! The supervisor owns the memory, the classifier writes, dispatcher and uplink read. A write goes to the copy that is
//! not shown and becomes visible by one store, so a classifier killed at any instant leaves the state before or the
//! state after. Readers treat what they find as another process's word: copied out, checksummed, parsed in private.
//!
//! The payload is opaque here but for [`PublicState`] at its front, which is what readers know. Which device has which
//! slot is left to the writer, who finds it out anew by reading all slots when it starts.

mod slots;
mod snapshot;
mod state;
mod sync;

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use slots::HEAD_BYTES;
pub use slots::{DEVICES_MAX, PAYLOAD_BYTES_MAX, SLOT_BYTES, TableError, TableReader, TableWriter};
pub use snapshot::{SnapshotError, SnapshotReport, SnapshotWriter, read_snapshot, write_snapshot};
pub use state::PublicState;

use crate::sys::region::{self, ReadRegion, WriteRegion};

/// Makes an empty table.
///
/// # Errors
/// What the kernel says; `InvalidInput` for zero or more than [`DEVICES_MAX`] devices.
pub fn create(devices_max: u32) -> io::Result<OwnedFd> {
    if !(1..=DEVICES_MAX).contains(&devices_max) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "cannot create state table for {devices_max} devices: not in 1..={DEVICES_MAX}"
            ),
        ));
    }
    let bytes = HEAD_BYTES + devices_max as usize * SLOT_BYTES;
    region::create("ringway-table", bytes)
}

impl TableWriter {
    /// Takes over a table, an empty one or a predecessor's.
    ///
    /// # Errors
    /// `Region` when it cannot be mapped, `Layout` when it is something else.
    pub fn attach(fd: BorrowedFd<'_>) -> Result<TableWriter, TableError> {
        TableWriter::over(WriteRegion::map(fd, HEAD_BYTES + SLOT_BYTES)?)
    }
}

impl TableReader {
    /// Maps a table; its writer need not have begun it yet.
    ///
    /// # Errors
    /// `Region` when it cannot be mapped, `Layout` when it is something else.
    pub fn attach(fd: BorrowedFd<'_>) -> Result<TableReader, TableError> {
        TableReader::over(ReadRegion::map(fd, HEAD_BYTES + SLOT_BYTES)?)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use std::sync::atomic::Ordering;

    use super::slots::{MAGIC, MAGIC_WORD, Place, USED_WORD};
    use super::*;
    use crate::sys::steps::killing::{at_every_step, killed_after};

    fn table(devices_max: u32) -> (TableWriter, TableReader, WriteRegion) {
        let fd = create(devices_max).unwrap();
        let reading = region::read_only(fd.as_fd()).unwrap();
        (
            TableWriter::attach(fd.as_fd()).unwrap(),
            TableReader::attach(reading.as_fd()).unwrap(),
            WriteRegion::map(fd.as_fd(), 0).unwrap(),
        )
    }

    #[test]
    fn a_slot_reads_as_what_was_written_last() {
        let (writer, reader, _) = table(3);
        let mut out = Vec::new();
        assert_eq!((writer.claim(), writer.claim()), (Some(0), Some(1)));
        assert_eq!(reader.used(), 2);
        assert!(!reader.read(1, &mut out).unwrap());
        for round in 0..10u8 {
            let payload = vec![round; usize::from(round) * 100];
            writer.write(1, &payload).unwrap();
            assert!(reader.read(1, &mut out).unwrap());
            assert_eq!(out, payload);
            assert!(writer.read(1, &mut out).unwrap());
            assert_eq!(out, payload);
            assert_eq!(reader.version(1), u64::from(round) + 1);
        }
    }

    #[test]
    fn a_full_table_hands_out_no_slot() {
        let (writer, _, _) = table(2);
        assert_eq!(
            [writer.claim(), writer.claim(), writer.claim()],
            [Some(0), Some(1), None]
        );
    }

    #[test]
    fn the_largest_payload_fits_and_a_larger_one_changes_nothing() {
        let (writer, reader, _) = table(2);
        writer.claim();
        writer.claim();
        let full = vec![0xff; PAYLOAD_BYTES_MAX];
        for _ in 0..4 {
            writer.write(0, &full).unwrap();
            writer.write(1, &full).unwrap();
        }
        let larger = vec![1; PAYLOAD_BYTES_MAX + 1];
        assert!(matches!(writer.write(0, &larger), Err(TableError::Large)));
        let mut out = Vec::new();
        for slot in 0..2 {
            assert!(reader.read(slot, &mut out).unwrap());
            assert_eq!(out, full);
        }
    }

    #[test]
    fn a_writer_killed_before_the_switch_leaves_the_state_before() {
        let (writer, reader, raw) = table(1);
        writer.claim();
        writer.write(0, b"before").unwrap();
        let hidden = Place::of(1, 0, 2);
        raw.copy_in(hidden.header, b"a torn write of the hidden copy");
        raw.copy_in(hidden.rest, b"and of its rest");
        let mut out = Vec::new();
        assert!(reader.read(0, &mut out).unwrap());
        assert_eq!(out, b"before");
        writer.write(0, b"after").unwrap();
        assert!(reader.read(0, &mut out).unwrap());
        assert_eq!(out, b"after");
    }

    #[test]
    fn a_writer_killed_before_any_of_its_stores_leaves_the_state_before_or_after() {
        let large = [b'n'; PAYLOAD_BYTES_MAX - 3];
        let deaths = at_every_step(|steps| {
            let fd = create(2).unwrap();
            let writer = TableWriter::attach(fd.as_fd()).unwrap();
            let reader = TableReader::attach(fd.as_fd()).unwrap();
            writer.claim();
            writer.write(0, b"before").unwrap();
            let killed = killed_after(steps, || {
                writer.write(0, &large).unwrap();
                writer.write(0, b"after").unwrap();
                let slot = writer.claim().unwrap();
                writer.write(slot, &large).unwrap();
            });
            let mut out = Vec::new();
            let states: [&[u8]; 3] = [b"before", &large, b"after"];
            assert!(reader.read(0, &mut out).unwrap());
            let state = states.iter().position(|state| *state == out);
            let state = state.unwrap_or_else(|| panic!("step {steps}: torn"));
            // What is handed out is empty or whole, and comes after what was written before.
            let handed_out = reader.used() == 2;
            assert!(!handed_out || state == 2);
            let second = reader.read(1, &mut out).unwrap();
            assert!(!second || handed_out && out == large);
            assert!(killed || second);
            // A successor goes on with it, whichever copy was half written.
            drop(writer);
            let successor = TableWriter::attach(fd.as_fd()).unwrap();
            assert!(successor.read(0, &mut out).unwrap());
            assert_eq!(states[state], out);
            for round in [&large[..], b"again"] {
                successor.write(0, round).unwrap();
                assert!(reader.read(0, &mut out).unwrap());
                assert_eq!(out, round);
            }
            killed
        });
        // The words of both payloads, a header and a switch each, the claim.
        assert!(
            deaths >= 2 * (PAYLOAD_BYTES_MAX as u32 / 8) + 8,
            "{deaths} deaths"
        );
    }

    #[test]
    fn a_successor_finds_all_slots() {
        let fd = create(4).unwrap();
        let first = TableWriter::attach(fd.as_fd()).unwrap();
        let slot = first.claim().unwrap();
        first.write(slot, b"state").unwrap();
        first.claim();
        let second = TableWriter::attach(fd.as_fd()).unwrap();
        let mut out = Vec::new();
        assert_eq!(second.used(), 2);
        assert!(second.read(0, &mut out).unwrap());
        assert_eq!(out, b"state");
        assert!(!second.read(1, &mut out).unwrap());
    }

    #[test]
    fn damage_is_found() {
        let (writer, reader, raw) = table(2);
        writer.claim();
        writer.claim();
        let mut out = Vec::new();
        let large = [b'x'; PAYLOAD_BYTES_MAX];
        let shown = |slot: u32| Place::of(2, slot, reader.version(slot));
        for damage in [&b"garbage!"[..], &[0; 8], &[0xff; 8]] {
            for part in [
                Place::front,
                |place: Place| place.header,
                |place: Place| place.rest,
            ] {
                writer.write(0, &large).unwrap();
                raw.copy_in(part(shown(0)), damage);
                assert!(matches!(
                    reader.read(0, &mut out),
                    Err(TableError::Damaged(0))
                ));
            }
        }
        // A copy of another slot does not pass for this one's.
        writer.write(1, b"elsewhere").unwrap();
        writer.write(0, b"here").unwrap();
        let mut copy = [0; 32];
        raw.copy_out(shown(1).header, &mut copy);
        raw.copy_in(shown(0).header, &copy);
        assert!(reader.read(0, &mut out).is_err());
    }

    #[test]
    fn readers_never_see_half_of_a_write() {
        let fd = create(1).unwrap();
        let writer = TableWriter::attach(fd.as_fd()).unwrap();
        let reader = TableReader::attach(fd.as_fd()).unwrap();
        writer.claim();
        writer.write(0, &[0; 900]).unwrap();
        let rounds = 20_000u32;
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..rounds {
                    let payload = [round as u8; 900];
                    writer
                        .write(0, &payload[..800 + round as usize % 100])
                        .unwrap();
                }
                done.store(true, Ordering::Release);
            });
            let mut out = Vec::new();
            while !done.load(Ordering::Acquire) {
                match reader.read(0, &mut out) {
                    Ok(_) => assert!(out.iter().all(|byte| *byte == out[0])),
                    Err(TableError::Busy(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
    }

    #[test]
    fn something_else_is_no_table() {
        let fd = region::create("test", HEAD_BYTES + SLOT_BYTES).unwrap();
        let raw = WriteRegion::map(fd.as_fd(), 0).unwrap();
        raw.store(MAGIC_WORD, 5, Ordering::Relaxed);
        assert!(matches!(
            TableWriter::attach(fd.as_fd()),
            Err(TableError::Layout)
        ));
        assert!(matches!(
            TableReader::attach(fd.as_fd()),
            Err(TableError::Layout)
        ));
        raw.store(MAGIC_WORD, MAGIC, Ordering::Relaxed);
        raw.store(USED_WORD, u64::MAX, Ordering::Relaxed);
        assert!(matches!(
            TableWriter::attach(fd.as_fd()),
            Err(TableError::Layout)
        ));
        assert_eq!(TableReader::attach(fd.as_fd()).unwrap().used(), 1);
    }

    #[test]
    fn sizes_that_no_table_can_have_are_refused() {
        for devices in [0, DEVICES_MAX + 1] {
            assert!(create(devices).is_err());
        }
    }
}
