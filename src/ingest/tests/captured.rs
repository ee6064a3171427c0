//! What is recorded of an ingest, replayed by another one: the same frames with the same times of reception.

use std::fs::{File, OpenOptions};

use super::*;
use crate::capture::{Header, Item, Reader, What};
use crate::frame::Attribute;
use crate::role::Recording;

const MARK: [u8; 8] = *b"\xd1frames!";

/// A file with the header of a sensor.
fn file(settings: &SensorSettings) -> tempfile::NamedTempFile {
    let header = Header {
        node: ("test".into(), "node".into()),
        sensor: settings.name.clone(),
        input: settings.input.name().into(),
        protocol: settings.protocol.name().into(),
        device: settings.device.clone(),
        zone_minutes: settings.zone_minutes,
        lenient: settings.lenient,
        errors_max: settings.errors_max,
        node_key: [0; 16],
        series: 1,
        number: 1,
        created_ms: 0,
    };
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), header.encode(MARK)).unwrap();
    file
}

/// Tells an ingest to record in that file from now on.
fn record(running: &Running, file: &tempfile::NamedTempFile) {
    let append = OpenOptions::new().append(true).open(file.path()).unwrap();
    let (message, fds) = Recording::into_message(Some(Recording {
        file: append.into(),
        mark: MARK,
        life: 0,
    }));
    running.control.send(&message, &[fds[0].as_fd()]).unwrap();
}

/// All of a frame that does not say when it passed here.
fn content(frame: &Frame) -> impl PartialEq + std::fmt::Debug + use<> {
    let attributes: Vec<Attribute> = frame.attributes.clone();
    (
        (frame.device, frame.fix, frame.received_ms, frame.digest),
        (frame.held, frame.momentary, attributes),
        frame.flags.has(FrameFlags::BACKLOG),
    )
}

/// Bytes of devices in the file.
fn bytes_in(file: &tempfile::NamedTempFile) -> u64 {
    let mut reader = Reader::new(File::open(file.path()).unwrap());
    let mut total = 0;
    loop {
        match reader.next_item().unwrap() {
            Item::Record(record) if matches!(record.what, What::Bytes { .. }) => {
                total += record.data.len() as u64;
            }
            Item::End { cut, ended, .. } => {
                assert!(ended && cut == 0);
                return total;
            }
            _ => {}
        }
    }
}

/// Replays the file to its end: so many frames come, and none more.
fn replayed(file: &tempfile::NamedTempFile, settings: SensorSettings, count: usize) -> Vec<Frame> {
    let mut site = Site::with_input(ROOM, File::open(file.path()).unwrap().into());
    let running = site.start(SensorSettings {
        input: Input::File {
            path: String::new(),
            speed: 0.0,
        },
        ..settings
    });
    let frames = site.frames(count);
    site.counted(IngestMetric::Bytes, bytes_in(file));
    running.drain();
    assert_eq!(site.consumer.available().unwrap(), 0, "none more");
    frames.into_iter().map(|(_, frame)| frame).collect()
}

#[test]
fn frames_of_trackers_come_again_as_they_were() {
    let mut site = Site::listening(ROOM);
    let running = site.start(settings());
    let file = file(&settings());
    record(&running, &file);
    site.counted(IngestMetric::CaptureKept, 1);
    let mut devices: Vec<_> = (0..3).map(|_| site.connect()).collect();
    let mut frames = Vec::new();
    for serial in 0..30_u16 {
        let device = &mut devices[usize::from(serial % 3)];
        let wire = message_of(
            0x5670 + serial % 3,
            0x0200,
            serial,
            &location(u32::from(serial % 2), (serial % 60) as u8),
        );
        let (head, tail) = wire.split_at(1 + usize::from(serial) % (wire.len() - 1));
        device.write_all(head).unwrap();
        device.write_all(tail).unwrap();
        let (_, frame) = site.frames(1).remove(0);
        site.settle(&frame, Outcome::Accepted);
        assert_eq!(answered(device), serial);
        frames.push(frame);
    }
    running.drain();
    let again = replayed(&file, settings(), frames.len());
    let contents = |frames: &[Frame]| frames.iter().map(content).collect::<Vec<_>>();
    assert_eq!(contents(&again), contents(&frames));
}

/// What ends a moment is silence, which is in no byte that was read.
#[test]
fn moments_of_receivers_end_where_they_ended() {
    let listening = Listening {
        listen: String::new(),
        connections_max: 10,
        idle_ms: 60_000,
        tls: None,
    };
    let settings = || receiver(Input::Tcp(listening.clone()));
    let mut site = Site::listening(ROOM);
    let running = site.start(settings());
    let file = file(&settings());
    record(&running, &file);
    site.counted(IngestMetric::CaptureKept, 1);
    let mut device = site.connect();
    let mut frames = Vec::new();
    for second in 1..4 {
        device.write_all(rmc(second).as_bytes()).unwrap();
        // It comes only once the receiver is silent.
        frames.extend(site.frames(1).into_iter().map(|(_, frame)| frame));
    }
    device.write_all(rmc(4).as_bytes()).unwrap();
    drop(device);
    frames.extend(site.frames(1).into_iter().map(|(_, frame)| frame));
    running.drain();
    let again = replayed(&file, settings(), frames.len());
    let contents = |frames: &[Frame]| frames.iter().map(content).collect::<Vec<_>>();
    assert_eq!(contents(&again), contents(&frames));
}
