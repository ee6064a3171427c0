//! iceoryx2: publish and subscribe on a slice of bytes, without overflow, so that it may not drop frames. Polling: the
//! subscriber is asked again and again. Sleeping: an event service beside it, notified after each call of the writer.

use std::error::Error;
use std::io;
use std::path::Path as StdPath;

use iceoryx2::node::Node;
use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;
use iceoryx2::service::port_factory::event::PortFactory as EventFactory;
use iceoryx2::service::port_factory::publish_subscribe::PortFactory as DataFactory;

use crate::transport::{Channel, End, Mode, Reader, SLOTS, Transport, Writer};

/// What the names of its shared memory begin with, so that what it leaves behind can be told from other people's.
pub const PREFIX: &str = "ringway_bench_";

/// iceoryx2's inter-process service.
pub struct Iceoryx;

/// The writing end.
pub struct IceoryxWriter {
    publisher: Publisher<ipc::Service, [u8], ()>,
    notifier: Option<Notifier<ipc::Service>>,
    size: usize,
    _services: Services,
}

/// The reading end.
pub struct IceoryxReader {
    subscriber: Subscriber<ipc::Service, [u8], ()>,
    listener: Option<Listener<ipc::Service>>,
    copy: Vec<u8>,
    _services: Services,
}

struct Services {
    data: DataFactory<ipc::Service, [u8], ()>,
    events: EventFactory<ipc::Service>,
    _node: Node<ipc::Service>,
}

fn refused(error: impl Error) -> io::Error {
    io::Error::other(error.to_string())
}

impl Services {
    /// The text names the folder for named state and the channel.
    fn open(end: &End) -> io::Result<Services> {
        set_log_level(LogLevel::Fatal);
        let (folder, name) = end
            .text
            .split_once(' ')
            .ok_or_else(|| io::Error::other("a folder and a name are needed"))?;
        let mut config = Config::default();
        let root = Path::new(folder.as_bytes()).map_err(|_| io::Error::other("no such folder"))?;
        config.global.set_root_path(&root);
        config.global.prefix =
            FileName::new(PREFIX.as_bytes()).map_err(|_| io::Error::other("no such prefix"))?;
        let node = NodeBuilder::new()
            .config(&config)
            .signal_handling_mode(SignalHandlingMode::Disabled)
            .create::<ipc::Service>()
            .map_err(refused)?;
        let data = node
            .service_builder(&ServiceName::new(name).map_err(refused)?)
            .publish_subscribe::<[u8]>()
            .enable_safe_overflow(false)
            .history_size(0)
            .subscriber_max_buffer_size(SLOTS)
            .max_publishers(1)
            .max_subscribers(1)
            .open_or_create()
            .map_err(refused)?;
        let events = node
            .service_builder(&ServiceName::new(name).map_err(refused)?)
            .event()
            .open_or_create()
            .map_err(refused)?;
        Ok(Services {
            data,
            events,
            _node: node,
        })
    }
}

impl Writer for IceoryxWriter {
    fn send(&mut self, frames: &[u8]) -> io::Result<usize> {
        for frame in frames.chunks_exact(self.size) {
            let sample = self
                .publisher
                .loan_slice_uninit(self.size)
                .map_err(refused)?;
            sample.write_from_slice(frame).send().map_err(refused)?;
        }
        if let Some(notifier) = &self.notifier {
            notifier.notify().map_err(refused)?;
        }
        Ok(frames.len() / self.size)
    }
}

impl Reader for IceoryxReader {
    fn receive(&mut self, most: usize, each: &mut impl FnMut(&[u8])) -> io::Result<usize> {
        let mut count = 0;
        while count < most {
            match self.subscriber.receive().map_err(refused)? {
                Some(sample) => {
                    // A private copy, as everybody else's reader has one.
                    self.copy.clear();
                    self.copy.extend_from_slice(sample.payload());
                    each(&self.copy);
                    count += 1;
                }
                None if count > 0 => break,
                None => match &self.listener {
                    Some(listener) => listener.blocking_wait(|_| {}).map(drop).map_err(refused)?,
                    None => break,
                },
            }
        }
        Ok(count)
    }
}

impl Transport for Iceoryx {
    type Writer = IceoryxWriter;
    type Reader = IceoryxReader;

    fn create(folder: &StdPath, _: usize) -> io::Result<Channel> {
        // A name that nobody has; the folder that it is taken from goes at once.
        let unique = tempfile::Builder::new()
            .prefix("service")
            .tempdir_in(folder)?;
        let name = unique.path().file_name().unwrap_or_default();
        let name = name.to_string_lossy().into_owned();
        Ok(Channel {
            text: format!("{} {name}", folder.display()),
            ..Channel::default()
        })
    }

    fn writer(end: End) -> io::Result<IceoryxWriter> {
        let services = Services::open(&end)?;
        let publisher = services
            .data
            .publisher_builder()
            .initial_max_slice_len(end.size)
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .create()
            .map_err(refused)?;
        let notifier = match end.mode {
            Mode::Poll => None,
            Mode::Sleep => Some(
                services
                    .events
                    .notifier_builder()
                    .create()
                    .map_err(refused)?,
            ),
        };
        Ok(IceoryxWriter {
            publisher,
            notifier,
            size: end.size,
            _services: services,
        })
    }

    fn reader(end: End) -> io::Result<IceoryxReader> {
        let services = Services::open(&end)?;
        let subscriber = services
            .data
            .subscriber_builder()
            .create()
            .map_err(refused)?;
        let listener = match end.mode {
            Mode::Poll => None,
            Mode::Sleep => Some(
                services
                    .events
                    .listener_builder()
                    .create()
                    .map_err(refused)?,
            ),
        };
        Ok(IceoryxReader {
            subscriber,
            listener,
            copy: Vec::with_capacity(end.size),
            _services: services,
        })
    }
}
