//! Which transports there are, and how each is driven.

use std::io;
use std::path::Path;

use crate::alone;
use crate::commit::{self, Commit};
use crate::handoff::Line;
use crate::iceoryx::Iceoryx;
use crate::ours::Ours;
use crate::packet::UnixPacket;
use crate::shared::{MutexFile, Nothing, SystemVShared, Trusting};
use crate::side::{self, Spec};
use crate::stream::{Fifo, Pipe, UnixStream};
use crate::transport::{Channel, Mode, Transport};

/// A transport in the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    /// How its ends wait while throughput is measured: as it is fastest. Who has a system call in every frame anyway
    /// waits in it. `None`: throughput is not measured.
    pub pouring: Option<Mode>,
    /// Whether hops are measured.
    pub hops: bool,
    /// Whether it is paced.
    pub paced: bool,
    /// Whether it is shown for the frame size of the goals only: variants.
    pub one_size: bool,
}

impl Kind {
    /// Whether it is something that one might use: neither a form that was only tried nor a control.
    pub fn is_transport(&self) -> bool {
        !self.one_size || self.name.starts_with("ours")
    }
}

const fn peer(name: &'static str, pouring: Mode) -> Kind {
    Kind {
        name,
        pouring: Some(pouring),
        hops: true,
        paced: true,
        one_size: false,
    }
}

const fn commit(name: &'static str) -> Kind {
    Kind {
        name,
        pouring: Some(Mode::Poll),
        hops: true,
        paced: true,
        one_size: true,
    }
}

/// All of them, in the order of the tables.
pub const KINDS: &[Kind] = &[
    peer("pipe", Mode::Sleep),
    peer("fifo", Mode::Sleep),
    peer("unix stream", Mode::Sleep),
    peer("unix seqpacket", Mode::Sleep),
    peer("system v", Mode::Sleep),
    peer("mutex file", Mode::Sleep),
    peer("iceoryx2", Mode::Poll),
    peer("trusting ring", Mode::Poll),
    peer("ours", Mode::Poll),
    Kind {
        pouring: None,
        hops: true,
        paced: true,
        one_size: true,
        name: "ours, urgent",
    },
    Kind {
        pouring: Some(Mode::Poll),
        hops: true,
        paced: false,
        one_size: true,
        name: "ours, stride 512",
    },
    commit("commit: tail"),
    commit("commit: slot word"),
    commit("commit: tail, touching"),
    commit("commit: tail, slot hint"),
    Kind {
        pouring: None,
        hops: false,
        paced: true,
        one_size: true,
        name: "pacing alone",
    },
];

/// The machine itself: no transport, but measured like one.
pub const LINE: Kind = Kind {
    pouring: None,
    hops: true,
    paced: false,
    one_size: true,
    name: "one cache line",
};

/// Makes a channel of the transport of that name.
///
/// # Errors
/// What the kernel says, or that there is no such transport.
pub fn create(name: &str, folder: &Path, size: usize) -> io::Result<Channel> {
    with(name, Create { folder, size })
}

/// Does one side of a case.
///
/// # Errors
/// When the transport fails, or there is no such one.
pub fn run(spec: &Spec) -> io::Result<()> {
    with(&spec.transport, Run { spec })
}

/// Something to be done with a transport that is known by its name only.
trait Job {
    type Made;
    fn with<T: Transport>(self) -> io::Result<Self::Made>;
}

struct Create<'a> {
    folder: &'a Path,
    size: usize,
}

impl Job for Create<'_> {
    type Made = Channel;
    fn with<T: Transport>(self) -> io::Result<Channel> {
        T::create(self.folder, self.size)
    }
}

/// Both ends in this process: nanoseconds of a frame, writing and reading.
///
/// # Errors
/// When the transport fails, or there is no such one.
pub fn alone(name: &str, folder: &Path, size: usize, passes: usize) -> io::Result<(f64, f64)> {
    with(
        name,
        Alone {
            folder,
            size,
            passes,
        },
    )
}

struct Alone<'a> {
    folder: &'a Path,
    size: usize,
    passes: usize,
}

impl Job for Alone<'_> {
    type Made = (f64, f64);
    fn with<T: Transport>(self) -> io::Result<(f64, f64)> {
        alone::run::<T>(self.folder, self.size, self.passes)
    }
}

struct Run<'a> {
    spec: &'a Spec,
}

impl Job for Run<'_> {
    type Made = ();
    fn with<T: Transport>(self) -> io::Result<()> {
        side::run::<T>(self.spec)
    }
}

fn with<J: Job>(name: &str, job: J) -> io::Result<J::Made> {
    match name {
        "pipe" => job.with::<Pipe>(),
        "fifo" => job.with::<Fifo>(),
        "unix stream" => job.with::<UnixStream>(),
        "unix seqpacket" => job.with::<UnixPacket>(),
        "system v" => job.with::<SystemVShared>(),
        "mutex file" => job.with::<MutexFile>(),
        "iceoryx2" => job.with::<Iceoryx>(),
        "trusting ring" => job.with::<Trusting>(),
        "ours" => job.with::<Ours<false, false>>(),
        "one cache line" => job.with::<Line>(),
        "commit: tail" => job.with::<Commit<{ commit::TAIL }>>(),
        "commit: slot word" => job.with::<Commit<{ commit::SLOT }>>(),
        "commit: tail, touching" => job.with::<Commit<{ commit::TOUCH }>>(),
        "commit: tail, slot hint" => job.with::<Commit<{ commit::HINT }>>(),
        "pacing alone" => job.with::<Nothing>(),
        "ours, urgent" => job.with::<Ours<true, false>>(),
        "ours, stride 512" => job.with::<Ours<false, true>>(),
        _ => Err(io::Error::other(format!("there is no transport {name:?}"))),
    }
}
