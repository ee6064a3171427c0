//! A slot that is read while it is written. There is no checksum here: what is read is whole by order alone.

use std::sync::Arc;

use loom::thread::spawn;

use super::slots::{
    HEAD_BYTES, MAGIC_WORD, Place, SLOT_BYTES, TableReader, TableWriter, USED_WORD,
};
use super::sync::{Memory, ReadRegion, WORD_BYTES, WriteRegion};
use crate::fuse::killed_after;
use crate::search::{Model, all, killed_at_every_step};

/// Words of a payload. They lie in the fronts of the copies; a longer one goes on in the rests, between the same fences.
const PAYLOAD_WORDS: usize = 2;

pub fn models() -> Vec<Model> {
    vec![
        Model {
            name: "a_slot_is_never_read_torn",
            search: a_slot_is_never_read_torn,
        },
        Model {
            name: "a_killed_writer_leaves_the_state_before_or_after",
            search: a_killed_writer_leaves_the_state_before_or_after,
        },
        Model {
            name: "a_slot_that_is_handed_out_is_empty_or_whole",
            search: a_slot_that_is_handed_out_is_empty_or_whole,
        },
    ]
}

/// A table of one slot.
fn table() -> Arc<Memory> {
    let copies = [1, 2].map(|switch| Place::of(1, 0, switch));
    let mut control = vec![MAGIC_WORD, USED_WORD, HEAD_BYTES / WORD_BYTES];
    for place in copies {
        let header = place.header / WORD_BYTES;
        control.extend(header..=header + PAYLOAD_WORDS);
    }
    Memory::new(HEAD_BYTES + SLOT_BYTES, &control, 0..0)
}

fn payload(version: u64) -> Vec<u8> {
    version.to_ne_bytes().repeat(PAYLOAD_WORDS)
}

/// The version that a slot shows; 0: none.
fn version(reader: &TableReader) -> u64 {
    let mut out = Vec::new();
    if !reader.read(0, &mut out).unwrap() {
        return 0;
    }
    assert_eq!(out.len(), 8 * PAYLOAD_WORDS, "torn");
    let version = u64::from_ne_bytes(out[..8].try_into().unwrap());
    assert_eq!(out, payload(version), "torn");
    version
}

fn a_slot_is_never_read_torn() {
    all(|| {
        let memory = table();
        let writer = TableWriter::over(WriteRegion(memory.clone())).unwrap();
        let reader = TableReader::over(ReadRegion(memory)).unwrap();
        writer.claim().unwrap();
        writer.write(0, &payload(1)).unwrap();
        let writing = spawn(move || {
            for version in 2..=3 {
                writer.write(0, &payload(version)).unwrap();
            }
        });
        assert!(version(&reader) >= 1);
        writing.join().unwrap();
        assert_eq!(version(&reader), 3);
    });
}

fn a_killed_writer_leaves_the_state_before_or_after() {
    killed_at_every_step(None, |steps| {
        let memory = table();
        let writer = TableWriter::over(WriteRegion(memory.clone())).unwrap();
        let reader = TableReader::over(ReadRegion(memory.clone())).unwrap();
        writer.claim().unwrap();
        writer.write(0, &payload(1)).unwrap();
        let supervising = spawn(move || {
            let life = spawn(move || killed_after(steps, || writer.write(0, &payload(2)).unwrap()));
            let killed = life.join().unwrap();
            let successor = TableWriter::over(WriteRegion(memory)).unwrap();
            let mut out = Vec::new();
            assert!(successor.read(0, &mut out).unwrap());
            assert!(out == payload(1) || out == payload(2));
            successor.write(0, &payload(3)).unwrap();
            killed
        });
        let first = version(&reader);
        assert!(first >= 1);
        let killed = supervising.join().unwrap();
        assert_eq!(version(&reader), 3);
        killed
    });
}

fn a_slot_that_is_handed_out_is_empty_or_whole() {
    all(|| {
        let memory = table();
        let reader = TableReader::over(ReadRegion(memory.clone())).unwrap();
        let writing = spawn(move || {
            let writer = TableWriter::over(WriteRegion(memory)).unwrap();
            let slot = writer.claim().unwrap();
            writer.write(slot, &payload(1)).unwrap();
        });
        for _ in 0..reader.used() {
            version(&reader);
        }
        writing.join().unwrap();
        assert_eq!((reader.used(), version(&reader)), (1, 1));
    });
}
