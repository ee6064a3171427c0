//! A crowd on a thread of its own, so that it does not hold up the devices whose latency is measured.

use std::thread::JoinHandle;

use device_sim::crowd::{Crowd, Options, Report, Watch};
use tokio::sync::oneshot;

use crate::stand::block_on;

/// Runs until it is dropped.
pub struct Aside {
    watch: Watch,
    thread: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Aside {
    pub fn start(options: Options) -> Aside {
        let (stop, stopped) = oneshot::channel::<()>();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            block_on(async move {
                let crowd =
                    Crowd::start(options).expect("the case asks for a crowd that there can be");
                tell.send(crowd.watch()).unwrap();
                let _ = stopped.await;
            });
        });
        Aside {
            watch: told.recv().expect("a crowd says where it is watched"),
            thread: Some((stop, thread)),
        }
    }

    /// What happened so far.
    pub fn report(&self) -> Report {
        self.watch.report()
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.thread.take() {
            let _ = stop.send(());
            let _ = thread.join();
        }
    }
}
