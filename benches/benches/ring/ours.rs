//! The product's ring, through its public interface and as its roles use it: the writer gathers as an ingest does; who
//! has several frames at hand commits up to 64 of them by one store, as a message of several reports is; the reader
//! frees once a pass; who sleeps does so in the product's waiter.

use std::io;
use std::path::Path;

use ringway::ring::{
    BACKSTOP, Consumer, Geometry, Producer, RingFds, RingOwner, SLOT_HEADER_BYTES, Waiter,
};
use tokio::runtime::{Builder, Runtime};

use crate::transport::{Channel, End, Mode, Reader, SLOTS, Transport, Writer};

/// Most frames of one commit.
const COMMIT_FRAMES: usize = 64;

/// Bytes from slot to slot of the product's own rings.
const PRODUCT_STRIDE: usize = 512;

/// With slots of as few pairs of cache lines as the frames allow: processors fetch lines in pairs, and a slot that shares
/// a pair with the next one halves what goes through (measured: 20 instead of 40 million frames a second).
/// `URGENT`: every frame wakes a reader that sleeps, whatever that asked for. `WIDE`: with the product's own stride.
pub struct Ours<const URGENT: bool, const WIDE: bool>;

/// The writing end.
pub struct OurWriter {
    producer: Producer,
    size: usize,
    urgent: bool,
}

/// The reading end.
pub struct OurReader {
    consumer: Consumer,
    record: Vec<u8>,
    sleep: Option<(Runtime, Waiter)>,
}

impl Writer for OurWriter {
    fn send(&mut self, frames: &[u8]) -> io::Result<usize> {
        if frames.len() == self.size {
            let published = self.producer.try_publish(&[frames], self.urgent);
            self.producer.hand_over();
            return Ok(usize::from(published.is_ok()));
        }
        let mut count = 0;
        for together in frames.chunks(self.size * COMMIT_FRAMES) {
            let mut records = [&[][..]; COMMIT_FRAMES];
            let mut filled = 0;
            for (record, frame) in records.iter_mut().zip(together.chunks_exact(self.size)) {
                *record = frame;
                filled += 1;
            }
            if self
                .producer
                .try_publish(&records[..filled], self.urgent)
                .is_err()
            {
                break;
            }
            count += filled;
        }
        self.producer.hand_over();
        Ok(count)
    }
}

impl Reader for OurReader {
    fn receive(&mut self, most: usize, each: &mut impl FnMut(&[u8])) -> io::Result<usize> {
        let count = loop {
            let available = self.consumer.available().map_err(io::Error::other)?;
            if available > 0 {
                break available.min(most as u64);
            }
            if self.consumer.closed() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let Some((runtime, waiter)) = &mut self.sleep else {
                return Ok(0);
            };
            runtime.block_on(waiter.wait(BACKSTOP));
        };
        let head = self.consumer.head();
        for seq in head..head + count {
            let read = self.consumer.read(seq, &mut self.record);
            read.map_err(io::Error::other)?;
            each(&self.record);
        }
        self.consumer.advance(head + count);
        self.consumer.wake_producer();
        Ok(count as usize)
    }
}

fn ring_fds(end: &mut End) -> io::Result<RingFds> {
    let mut fds = std::mem::take(&mut end.fds).into_iter();
    RingFds::take(&mut fds).ok_or_else(|| io::Error::other("five descriptors are needed"))
}

impl<const URGENT: bool, const WIDE: bool> Transport for Ours<URGENT, WIDE> {
    type Writer = OurWriter;
    type Reader = OurReader;

    fn create(_: &Path, size: usize) -> io::Result<Channel> {
        let stride = match WIDE {
            true => PRODUCT_STRIDE,
            false => (size + SLOT_HEADER_BYTES).next_multiple_of(128),
        };
        let geometry = Geometry {
            slots: SLOTS as u32,
            stride: stride as u32,
            answers: 0,
        };
        let owner = RingOwner::create(geometry, 1, 1).map_err(io::Error::other)?;
        let list = |fds: RingFds| {
            let RingFds {
                supervisor_page,
                producer_region,
                consumer_region,
                consumer_bell,
                producer_bell,
            } = fds;
            vec![
                supervisor_page,
                producer_region,
                consumer_region,
                consumer_bell,
                producer_bell,
            ]
        };
        Ok(Channel {
            writer: list(owner.producer_fds().map_err(io::Error::other)?),
            reader: list(owner.consumer_fds().map_err(io::Error::other)?),
            text: String::new(),
            keep: Some(Box::new(owner)),
        })
    }

    fn writer(mut end: End) -> io::Result<OurWriter> {
        let mut producer = Producer::attach(&ring_fds(&mut end)?).map_err(io::Error::other)?;
        producer.gather();
        Ok(OurWriter {
            producer,
            size: end.size,
            urgent: URGENT,
        })
    }

    fn reader(mut end: End) -> io::Result<OurReader> {
        let consumer = Consumer::attach(&ring_fds(&mut end)?).map_err(io::Error::other)?;
        let sleep = match end.mode {
            Mode::Poll => None,
            Mode::Sleep => {
                let runtime = Builder::new_current_thread().enable_all().build()?;
                let inside = runtime.enter();
                let mut waiter = Waiter::new()?;
                waiter.add_consumer(&consumer)?;
                drop(inside);
                Some((runtime, waiter))
            }
        };
        Ok(OurReader {
            consumer,
            record: Vec::with_capacity(end.size),
            sleep,
        })
    }
}
