//! The feed: live view and subscriptions behind one lock, and the wake-up of those who wait for news.
//!
//! One thread runs everything, so the lock is never waited for; it is there because handlers must be able to move
//! between threads in principle. It is never held across an await.

use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use tokio::sync::watch;

use super::live::LiveView;
use super::subscription::{SubscriberId, Subscriptions, Taken};

/// What subscribers wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wake {
    /// There may be something to take.
    News,
    /// The dispatcher will end: say so, and go on.
    Closing,
    /// There will be no more: take what is there, and close.
    Ended,
}

/// View and subscriptions.
pub struct Fleet {
    /// The latest of every vehicle.
    pub view: LiveView,
    /// Who must hear of it.
    pub subscriptions: Subscriptions,
    /// Handed out since the process began.
    pub taken: Taken,
}

/// Shared by the loop that reads the ring, the HTTP handlers and the streams.
pub struct Feed {
    fleet: Mutex<Fleet>,
    wake: watch::Sender<Wake>,
}

impl Feed {
    /// An empty feed.
    pub fn new(view: LiveView, subscriptions: Subscriptions) -> Feed {
        Feed {
            fleet: Mutex::new(Fleet {
                view,
                subscriptions,
                taken: Taken::default(),
            }),
            wake: watch::Sender::new(Wake::News),
        }
    }

    /// The fleet, for a moment.
    pub fn lock(&self) -> MutexGuard<'_, Fleet> {
        self.fleet
            .lock()
            .expect("nobody panics while holding the fleet")
    }

    /// Wakes every subscriber that waits.
    pub fn wake(&self, wake: Wake) {
        // There is no way back: news must not undo that the end was said.
        self.wake.send_modify(|last| *last = wake.max(*last));
    }

    /// Waits for wake-ups from now on.
    pub fn watch(&self) -> watch::Receiver<Wake> {
        self.wake.subscribe()
    }

    /// A new subscriber; `None` if there are as many as may be.
    pub fn subscribe(self: &Arc<Feed>) -> Option<Subscriber> {
        let wake = self.watch();
        let mut fleet = self.lock();
        let vehicles = fleet.view.len();
        let id = fleet.subscriptions.subscribe(vehicles)?;
        Some(Subscriber {
            feed: Arc::clone(self),
            id,
            wake,
        })
    }
}

/// A subscription that ends when this is dropped.
pub struct Subscriber {
    feed: Arc<Feed>,
    id: SubscriberId,
    wake: watch::Receiver<Wake>,
}

impl Subscriber {
    /// Puts the next messages into `out`; none if everything was told.
    pub fn take(&mut self, out: &mut Vec<Bytes>) {
        // What is pushed from here on is news again.
        self.wake.mark_unchanged();
        let Fleet {
            view,
            subscriptions,
            taken,
        } = &mut *self.feed.lock();
        let now = subscriptions.take(self.id, view, out);
        taken.tracks += now.tracks;
        taken.conflated += now.conflated;
        taken.alarms_dropped += now.alarms_dropped;
    }

    /// What was said last.
    pub fn wake(&self) -> Wake {
        *self.wake.borrow()
    }

    /// Waits until there may be something to take, or the dispatcher ends.
    pub async fn changed(&mut self) {
        self.wake
            .changed()
            .await
            .expect("the feed outlives its subscribers, who hold it");
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.feed.lock().subscriptions.unsubscribe(self.id);
    }
}
