//! The product's ring, through its public interface and as its roles use it: the writer gathers as an ingest does, one
//! commit a frame; the reader frees once a pass; who sleeps does so in the product's waiter.

use std::io;
use std::path::Path;

use ringway::ring::{
    BACKSTOP, Consumer, Geometry, Producer, RingFds, RingOwner, SLOT_HEADER_BYTES, Waiter,
};
use tokio::runtime::{Builder, Runtime};

use crate::transport::{Channel, End, Mode, Reader, SLOTS, Transport, Writer};

/// Bytes from slot to slot of the product's own rings.
const PRODUCT_STRIDE: usize = 512;

/// With slots as small as the frames allow. `URGENT`: every frame wakes a reader that sleeps, whatever that asked for.
/// `WIDE`: with the product's own stride.
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
        let mut count = 0;
        for frame in frames.chunks_exact(self.size) {
            if self.producer.try_publish(&[frame], self.urgent).is_err() {
                break;
            }
            count += 1;
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
            false => (size + SLOT_HEADER_BYTES).next_multiple_of(64),
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
