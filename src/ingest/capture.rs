//! The recording of one sensor: what its devices said and were answered, on the way to a file that the supervisor
//! opened.
//!
//! The loop of the sensor never waits for a disk: it appends to a buffer with a limit, and a thread of its own, which
//! exists only while there is a recording, writes. What finds no room is counted and the file says so; a file that
//! cannot be written ends the recording and nothing else. Switched off, all of this is one comparison.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::connection::Closed;
use super::round::read_at;
use super::session::ReadAt;
use super::tally::Tally;
use crate::capture::{At, BUFFER_BYTES_MAX, Buffer, Fill, Mark, What};
use crate::role::Recording;

/// Longest time for which records are gathered before they are written: what a killed process loses of its recording.
const GATHER: Duration = Duration::from_millis(20);

/// With so many bytes there is no more gathering.
const GATHER_BYTES: usize = 64 * 1024;

/// How long the end of a process waits for its last records to be written.
const FINISH_WAIT: Duration = Duration::from_secs(1);

/// How long a panic waits for what is being written just now.
const LAST_WORDS_WAIT: Duration = Duration::from_millis(200);

/// What a panic of this process writes out: what was read last is what shows why it panicked.
static RECORDED: Mutex<Weak<Shared>> = Mutex::new(Weak::new());

/// Files that may still be written at a time: the one in use, and one before it on a disk that stands still.
const WRITERS_MAX: usize = 2;

/// The recording of a sensor, if it is switched on.
#[derive(Default)]
pub struct Capture {
    current: Option<Recorder>,
    /// Files that got their last record and are not written yet.
    leaving: Vec<Arc<Shared>>,
}

/// A file that is recorded in.
struct Recorder {
    mark: Mark,
    shared: Arc<Shared>,
    /// What was counted.
    fill: Fill,
}

/// Why a recording came to an end by itself.
#[derive(Debug)]
pub struct Failed {
    /// The mark of its file.
    pub mark: Mark,
    /// Why.
    pub why: String,
}

/// What the loop and the thread share.
struct Shared {
    queue: Mutex<Queue>,
    /// Held by whoever takes from the queue until it is written, so that records keep their order.
    file: Mutex<File>,
    /// There is something to write, or it was written.
    changed: Condvar,
}

struct Queue {
    buffer: Buffer,
    /// Nothing more will come.
    over: bool,
    /// Everything is written, or nothing more can be.
    written: bool,
    failed: Option<io::Error>,
}

impl Capture {
    /// From now on records go to this file, or nowhere.
    ///
    /// # Errors
    /// Why nothing is recorded now although it should be.
    pub fn switch(&mut self, recording: Option<Recording>) -> Result<(), Failed> {
        let at = read_at();
        if let Some(recorder) = self.current.take() {
            recorder.shared.end(at);
            self.leaving.push(recorder.shared);
        }
        let Some(Recording { file, mark, life }) = recording else {
            return Ok(());
        };
        self.leaving.retain(|shared| !shared.lock().written);
        let failed = |why: String| Failed { mark, why };
        if self.leaving.len() >= WRITERS_MAX {
            let why = format!("{WRITERS_MAX} files before it are still being written");
            return Err(failed(why));
        }
        let shared = Arc::new(Shared::new(mark, File::from(file)));
        let theirs = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("capture".into())
            .spawn(move || theirs.write())
            .map_err(|cause| failed(format!("cannot start thread: {cause}")))?;
        speak_when_dying(&shared);
        shared.push(at, What::Begun { life }, &[]);
        let fill = Fill::default();
        self.current = Some(Recorder { mark, shared, fill });
        Ok(())
    }

    /// A stream began.
    pub fn opened(&self, stream: u64, peer: impl Display) {
        if let Some(recorder) = &self.current {
            let peer = &peer.to_string();
            let what = What::Opened { stream, peer };
            recorder.shared.push(read_at(), what, &[]);
        }
    }

    /// A device sent bytes, which were read at `at`.
    #[inline]
    pub fn bytes(&self, stream: u64, bytes: &[u8], at: ReadAt) {
        if let Some(recorder) = &self.current {
            recorder.shared.push(at, What::Bytes { stream }, bytes);
        }
    }

    /// A stream fell silent, or will say no more: what was known of a moment was taken.
    pub fn quiet(&self, stream: u64, at: ReadAt) {
        if let Some(recorder) = &self.current {
            recorder.shared.push(at, What::Quiet { stream }, &[]);
        }
    }

    /// A device was answered.
    #[inline]
    pub fn sent(&self, stream: u64, bytes: &[u8]) {
        if let Some(recorder) = &self.current {
            recorder
                .shared
                .push(read_at(), What::Sent { stream }, bytes);
        }
    }

    /// A stream is over.
    pub fn closed(&self, stream: u64, why: Closed) {
        if let Some(recorder) = &self.current {
            let why = why.name();
            let what = What::Closed { stream, why };
            recorder.shared.push(read_at(), what, &[]);
        }
    }

    /// Counts what was recorded since the last call; says that the recording failed, once.
    pub fn report(&mut self, tally: &Tally) -> Option<Failed> {
        let recorder = self.current.as_mut()?;
        let queue = recorder.shared.lock();
        let fill = queue.buffer.fill();
        let before = std::mem::replace(&mut recorder.fill, fill);
        let failed = queue.failed.as_ref().map(ToString::to_string);
        drop(queue);
        tally.captured(
            fill.records - before.records,
            fill.lost_records - before.lost_records,
        );
        let why = failed?;
        let mark = recorder.mark;
        self.current = None;
        Some(Failed { mark, why })
    }

    /// Ends the recording and waits for a moment until it is written.
    pub fn finish(mut self) {
        if let Some(recorder) = self.current.take() {
            recorder.shared.end(read_at());
            let queue = recorder.shared.lock();
            let waits = |queue: &mut Queue| !queue.written;
            let changed = &recorder.shared.changed;
            // Whoever drains is not held up for ever by a disk that stands still.
            drop(changed.wait_timeout_while(queue, FINISH_WAIT, waits));
        }
    }
}

impl Shared {
    fn new(mark: Mark, file: File) -> Shared {
        Shared {
            file: Mutex::new(file),
            queue: Mutex::new(Queue {
                buffer: Buffer::new(mark, BUFFER_BYTES_MAX),
                over: false,
                written: false,
                failed: None,
            }),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing that is done under the lock leaves it half done.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, at: ReadAt, what: What<'_>, data: &[u8]) {
        let mut queue = self.lock();
        let before = queue.buffer.len();
        queue.buffer.push(time(at), what, data);
        let full = before < GATHER_BYTES && queue.buffer.len() >= GATHER_BYTES;
        if before == 0 || full {
            self.changed.notify_all();
        }
    }

    /// Nothing more will come.
    fn end(&self, at: ReadAt) {
        let mut queue = self.lock();
        queue.buffer.say_lost(time(at));
        queue.buffer.push(time(at), What::Ended, &[]);
        queue.over = true;
        self.changed.notify_all();
    }

    /// Writes until nothing more comes, or it cannot.
    fn write(&self) {
        let mut spare = Vec::new();
        loop {
            self.gather();
            let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
            let mut queue = self.lock();
            let (bytes, over) = (queue.buffer.take(spare), queue.over);
            drop(queue);
            let written = file.write_all(&bytes);
            drop(file);
            let failed = written.err();
            if over || failed.is_some() {
                let mut queue = self.lock();
                queue.failed = failed;
                queue.written = true;
                self.changed.notify_all();
                return;
            }
            spare = bytes;
        }
    }

    /// Waits until it is worth writing.
    fn gather(&self) {
        let waits = |queue: &mut Queue| queue.buffer.is_empty() && !queue.over;
        let queue = self.changed.wait_while(self.lock(), waits);
        let queue = queue.unwrap_or_else(PoisonError::into_inner);
        let few = |queue: &mut Queue| queue.buffer.len() < GATHER_BYTES && !queue.over;
        drop(self.changed.wait_timeout_while(queue, GATHER, few));
    }

    /// Writes what is there, from a process that is about to die.
    fn last_words(&self) {
        let give_up = Instant::now() + LAST_WORDS_WAIT;
        while Instant::now() < give_up {
            if let (Ok(mut file), Ok(mut queue)) = (self.file.try_lock(), self.queue.try_lock()) {
                // If it cannot be written, there is nobody left to be told.
                let _ = file.write_all(&queue.buffer.take(Vec::new()));
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Has a panic of this process write out what was recorded by then.
fn speak_when_dying(shared: &Arc<Shared>) {
    static HOOK: Once = Once::new();
    *RECORDED.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(shared);
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let recorded = RECORDED.try_lock().ok().and_then(|weak| weak.upgrade());
            if let Some(shared) = recorded {
                shared.last_words();
            }
            before(panic);
        }));
    });
}

fn time(at: ReadAt) -> At {
    At {
        wall_ms: at.wall_ms,
        monotonic_ns: at.monotonic_ns,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::{Header, Item, Reader};
    use crate::role::Role;
    use crate::stats;
    use std::fs::OpenOptions;
    use std::os::fd::OwnedFd;

    const MARK: Mark = [9; 8];
    const DEADLINE: Duration = Duration::from_secs(20);

    fn header() -> Header {
        Header {
            node: ("depot".into(), "gw1".into()),
            sensor: "t".into(),
            input: "tcp".into(),
            protocol: "h02".into(),
            device: None,
            zone_minutes: None,
            lenient: false,
            errors_max: 16,
            node_key: [0; 16],
            series: 1,
            number: 1,
            created_ms: 0,
        }
    }

    fn file() -> (tempfile::NamedTempFile, Recording) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), header().encode(MARK)).unwrap();
        let append = OpenOptions::new().append(true).open(file.path()).unwrap();
        let recording = Recording {
            file: append.into(),
            mark: MARK,
            life: 3,
        };
        (file, recording)
    }

    fn told(file: &tempfile::NamedTempFile) -> Vec<String> {
        let mut reader = Reader::new(File::open(file.path()).unwrap());
        let mut told = Vec::new();
        loop {
            match reader.next_item().unwrap() {
                Item::Header(_) => {}
                Item::Record(record) => {
                    let data = String::from_utf8_lossy(record.data);
                    told.push(format!("{:?} {data}", record.what));
                }
                Item::End { cut: 0, .. } => return told,
                other => panic!("{other:?}"),
            }
        }
    }

    fn tally() -> Tally {
        let page = stats::create().unwrap();
        let page = stats::Stats::attach(std::os::fd::AsFd::as_fd(&page), Role::Ingest.name(), 0);
        Tally::new(page.unwrap(), crate::protocol::Protocol::H02)
    }

    #[test]
    fn both_sides_of_a_conversation_are_in_the_file_in_their_order() {
        let (file, recording) = file();
        let mut capture = Capture::default();
        capture.bytes(1, b"before", read_at());
        capture.switch(Some(recording)).unwrap();
        capture.opened(1, "192.0.2.1:7");
        capture.bytes(1, b"hello", read_at());
        capture.sent(1, b"you");
        capture.quiet(1, read_at());
        capture.closed(1, Closed::Idle);
        capture.finish();
        let expected = [
            "Begun { life: 3 } ",
            "Opened { stream: 1, peer: \"192.0.2.1:7\" } ",
            "Bytes { stream: 1 } hello",
            "Sent { stream: 1 } you",
            "Quiet { stream: 1 } ",
            "Closed { stream: 1, why: \"idle\" } ",
            "Ended ",
        ];
        assert_eq!(told(&file), expected);
    }

    #[test]
    fn a_file_in_the_place_of_another_ends_that_one_in_order_and_misses_nothing() {
        let ((first, one), (second, other)) = (file(), file());
        let mut capture = Capture::default();
        capture.switch(Some(one)).unwrap();
        capture.bytes(1, b"a", read_at());
        capture.switch(Some(other)).unwrap();
        capture.bytes(1, b"b", read_at());
        capture.finish();
        let words = |file| told(file).split_off(1).join("|");
        assert_eq!(words(&second), "Bytes { stream: 1 } b|Ended ");
        let give_up = Instant::now() + DEADLINE;
        let words = |file| told(file).get(1..).unwrap_or_default().join("|");
        while words(&first) != "Bytes { stream: 1 } a|Ended " {
            assert!(Instant::now() < give_up, "{}", words(&first));
        }
    }

    /// `/dev/full` refuses every write as a full disk does (full(4)).
    #[test]
    fn a_full_disk_ends_the_recording_is_told_once_and_holds_up_nobody() {
        let full = OpenOptions::new().append(true).open("/dev/full").unwrap();
        let recording = Recording {
            file: OwnedFd::from(full),
            mark: MARK,
            life: 3,
        };
        let mut capture = Capture::default();
        capture.switch(Some(recording)).unwrap();
        let tally = tally();
        let give_up = Instant::now() + DEADLINE;
        let failed = loop {
            capture.bytes(1, b"x", read_at());
            if let Some(failed) = capture.report(&tally) {
                break failed;
            }
            assert!(Instant::now() < give_up);
        };
        assert_eq!(failed.mark, MARK);
        assert!(failed.why.contains("No space left"), "{}", failed.why);
        assert!(capture.current.is_none());
        assert!(capture.report(&tally).is_none());
    }

    /// Where the process of the next test that is to die records.
    const DYING: &str = "RINGWAY_TEST_DYING_CAPTURE";

    /// The message that a process dies of is the one that is looked for. A process of its own, since one that panics in
    /// a release ends at once.
    #[test]
    fn what_was_read_before_a_panic_is_in_the_file() {
        if let Some(path) = std::env::var_os(DYING) {
            let append = OpenOptions::new().append(true).open(path).unwrap();
            let mut capture = Capture::default();
            let recording = Recording {
                file: append.into(),
                mark: MARK,
                life: 3,
            };
            capture.switch(Some(recording)).unwrap();
            let died = std::panic::catch_unwind(|| {
                capture.bytes(1, b"poison", read_at());
                panic!("as a decoder would");
            });
            assert!(died.is_err());
            std::process::abort();
        }
        let (file, _) = file();
        let name = "ingest::capture::tests::what_was_read_before_a_panic_is_in_the_file";
        let ended = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name])
            .env(DYING, file.path())
            .output()
            .unwrap();
        assert!(!ended.status.success());
        assert_eq!(told(&file).last().unwrap(), "Bytes { stream: 1 } poison");
    }

    /// A pipe that nobody reads stands still as a disk may.
    #[test]
    fn a_disk_that_stands_still_costs_records_and_no_memory_or_time() {
        let (ours, theirs) = std::io::pipe().unwrap();
        let stuck = || Recording {
            file: theirs.try_clone().unwrap().into(),
            mark: MARK,
            life: 3,
        };
        let mut capture = Capture::default();
        capture.switch(Some(stuck())).unwrap();
        let bytes = [7; 16 * 1024];
        let rounds = 4 * BUFFER_BYTES_MAX / bytes.len();
        for _ in 0..rounds {
            capture.bytes(1, &bytes, read_at());
        }
        let fill = capture
            .current
            .as_ref()
            .unwrap()
            .shared
            .lock()
            .buffer
            .fill();
        assert!(fill.lost_records > 0, "{fill:?}");
        assert_eq!(fill.records + fill.lost_records, 1 + rounds as u64);
        capture.switch(Some(stuck())).unwrap();
        capture.bytes(1, &bytes, read_at());
        capture.switch(Some(stuck())).unwrap_err();
        assert!(capture.current.is_none());
        drop(ours);
    }
}
