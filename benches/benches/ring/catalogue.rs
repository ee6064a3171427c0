//! Which transports there are, and how each is driven.

use std::io;
use std::path::Path;

use crate::iceoryx::Iceoryx;
use crate::ours::Ours;
use crate::packet::UnixPacket;
use crate::shared::{MutexFile, SystemVShared, Trusting};
use crate::side::{self, Spec};
use crate::stream::{Fifo, Pipe, UnixStream};
use crate::transport::{Channel, Mode, Transport};

/// A transport in the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    /// How its ends wait while throughput is measured: as it is fastest. Who has a system call in every frame anyway
    /// waits in it.
    pub pouring: Mode,
    /// Whether it is a variant of ours, shown for the frame size of the goals only.
    pub variant: bool,
}

const fn kind(name: &'static str, pouring: Mode) -> Kind {
    Kind {
        name,
        pouring,
        variant: false,
    }
}

const fn variant(name: &'static str, pouring: Mode) -> Kind {
    Kind {
        name,
        pouring,
        variant: true,
    }
}

/// All of them, in the order of the tables.
pub const KINDS: &[Kind] = &[
    kind("pipe", Mode::Sleep),
    kind("fifo", Mode::Sleep),
    kind("unix stream", Mode::Sleep),
    kind("unix seqpacket", Mode::Sleep),
    kind("system v", Mode::Sleep),
    kind("mutex file", Mode::Sleep),
    kind("iceoryx2", Mode::Poll),
    kind("trusting ring", Mode::Poll),
    kind("ours", Mode::Poll),
    variant("ours, urgent", Mode::Sleep),
    variant("ours, stride 512", Mode::Poll),
];

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
        "ours, urgent" => job.with::<Ours<true, false>>(),
        "ours, stride 512" => job.with::<Ours<false, true>>(),
        _ => Err(io::Error::other(format!("there is no transport {name:?}"))),
    }
}
