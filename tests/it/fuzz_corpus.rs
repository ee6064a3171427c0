//! The inputs kept for the fuzz targets, on the stable toolchain: the targets compile, and none of the inputs fails.

#[path = "../../fuzz/harness/mod.rs"]
#[allow(dead_code)]
mod harness;

use std::path::PathBuf;

use ringway::protocol::Protocol;

fn replay(target: &str, run: impl Fn(&[u8])) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let mut inputs: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "no input in {}", folder.display());
    for input in inputs {
        // The name is the last line before a panic.
        println!("{}", input.display());
        run(&std::fs::read(&input).unwrap());
    }
}

#[test]
fn the_validator_agrees_with_its_judge_on_every_kept_image() {
    replay("ring_validator", |bytes| {
        harness::ring_validator::run(bytes);
    });
}

#[test]
fn both_sides_of_a_ring_keep_to_the_model_in_every_kept_order() {
    replay("ring_peer", |bytes| {
        harness::ring_peer::run(bytes);
    });
}

#[test]
fn the_state_table_agrees_with_its_judge_on_every_kept_input() {
    replay("state_table", |bytes| {
        harness::state_table::run(bytes);
    });
}

#[test]
fn captures_of_every_kept_kind_are_read_to_their_end() {
    replay("capture_reader", |bytes| {
        harness::capture::run(bytes);
    });
}

/// Every decoder on its kept inputs, and on other people's messages, where they are: those stay where they are.
#[test]
fn decoders_keep_their_promises_on_every_kept_input() {
    for &protocol in Protocol::ALL {
        replay(&format!("decode_{}", protocol.name()), |bytes| {
            harness::decoder::run(protocol, bytes, None);
        });
    }
    replay("decode_http", |bytes| {
        harness::decoder::run_requests(bytes, None);
    });
}
