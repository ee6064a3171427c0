//! Both ends of a transport in one process: what the instructions of a frame cost when no cache line has to travel.

use std::io;
use std::path::Path;

use benches::clock::{self, Nanos};

use crate::frame::{self, Checker};
use crate::transport::{BATCH_FRAMES, Channel, End, Mode, Reader, Transport, Writer};

/// Nanoseconds of a frame, writing and reading, in the quickest tenth of the passes: the slower ones were disturbed.
///
/// # Errors
/// When the transport fails.
pub fn run<T: Transport>(folder: &Path, size: usize, passes: usize) -> io::Result<(f64, f64)> {
    let Channel {
        writer,
        reader,
        text,
        keep,
    } = T::create(folder, size)?;
    let end = |fds| End {
        fds,
        text: text.clone(),
        size,
        mode: Mode::Poll,
    };
    let mut reader = T::reader(end(reader))?;
    let mut writer = T::writer(end(writer))?;
    let mut frames = vec![0x5a; size * BATCH_FRAMES];
    let mut checker = Checker::default();
    let (mut writing, mut reading) = (Vec::new(), Vec::new());
    let mut seq = 0;
    for _ in 0..passes {
        for frame in frames.chunks_exact_mut(size) {
            frame::write(frame, seq, 0);
            seq += 1;
        }
        let began = clock::now();
        let mut sent = 0;
        while sent < BATCH_FRAMES {
            sent += writer.send(&frames[sent * size..])?;
            check(began)?;
        }
        let sent_at = clock::now();
        let mut came = 0;
        while came < BATCH_FRAMES {
            came += reader.receive(BATCH_FRAMES, &mut |frame| {
                checker.see(frame);
            })?;
            check(began)?;
        }
        writing.push(sent_at - began);
        reading.push(clock::now() - sent_at);
    }
    drop(keep);
    Ok((quick(writing), quick(reading)))
}

/// A transport that takes a second for a batch has stopped: nobody else is there to make room or frames.
fn check(began: Nanos) -> io::Result<()> {
    match clock::now() - began {
        0..1_000_000_000 => Ok(()),
        _ => Err(io::Error::other("both ends in one process: it hangs")),
    }
}

fn quick(mut times: Vec<Nanos>) -> f64 {
    times.sort_unstable();
    times[times.len() / 10] as f64 / BATCH_FRAMES as f64
}
