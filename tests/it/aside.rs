//! Servers of the simulator beside a test that waits: a broker, a collector of traces.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::mpsc::channel;

use device_sim::broker;
use device_sim::sink::{self, Traces};

/// Runs what `start` starts on a thread of its own until the program ends.
fn aside<T: Send + 'static>(start: impl Future<Output = T> + Send + 'static) -> T {
    let (tx, rx) = channel();
    std::thread::spawn(move || {
        block_on(async {
            tx.send(start.await)
                .expect("the test waits for what it starts");
            std::future::pending::<()>().await;
        });
    });
    rx.recv().unwrap()
}

/// Runs a future on a runtime of its own.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// A collector of traces on a free port.
pub fn collector() -> (SocketAddr, Traces) {
    aside(sink::start("127.0.0.1:0")).unwrap()
}

/// The simulator's broker on a free port.
pub fn broker() -> broker::Handle {
    broker_with(broker::Options::default())
}

/// The simulator's broker, as told.
pub fn broker_with(options: broker::Options) -> broker::Handle {
    aside(broker::start(options)).unwrap()
}
