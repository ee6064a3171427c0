//! A serial line: raw, eight data bits, no parity, one stop bit, at a given rate.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::termios::{
    BaudRate, ControlFlags, FlushArg, SetArg, SpecialCharacterIndices, cfgetospeed, cfmakeraw,
    cfsetspeed, tcflush, tcgetattr, tcsetattr,
};

use crate::role::Feed;

/// Opens the line. It does not wait for a modem's carrier and never becomes the controlling terminal: a hang-up of the
/// line would end the node.
pub fn open(path: &str, baud: u32, number: u64) -> io::Result<Feed> {
    let line = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits())
        .open(path)?;
    // Who else reads takes bytes away. TIOCEXCL needs `unsafe`, and does not keep root out; programs for serial lines
    // honour the lock.
    match line.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(io::Error::other("another program has locked it"));
        }
        Err(TryLockError::Error(cause)) => return Err(cause),
    }
    set(&line, baud)?;
    Ok(Feed {
        number,
        answers: Some(line.try_clone()?.into()),
        input: line.into(),
        log: None,
    })
}

/// Throws away what was to be sent on a line that is given up: its last close waits until all is sent, up to 30 s, and
/// it may be us who closes last.
pub fn discard_output(feed: &Feed) {
    // A line that was unplugged has nothing to send.
    let _ = tcflush(&feed.input, FlushArg::TCOFLUSH);
}

fn set(line: &File, baud: u32) -> io::Result<()> {
    let mut settings = tcgetattr(line).map_err(|errno| match errno {
        Errno::ENOTTY => io::Error::other("it is no serial line"),
        errno => errno.into(),
    })?;
    // No echo, no signals, no translation of line ends, eight data bits, no parity.
    cfmakeraw(&mut settings);
    settings
        .control_flags
        .insert(ControlFlags::CLOCAL | ControlFlags::CREAD);
    // Without HUPCL the line keeps DTR when it is closed to be opened at another rate: some receivers reset on it.
    settings
        .control_flags
        .remove(ControlFlags::CSTOPB | ControlFlags::CRTSCTS | ControlFlags::HUPCL);
    // With VMIN = 0 a read of an idle line would give 0, which is what an unplugged one gives.
    settings.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
    settings.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
    let rate = rate(baud)?;
    cfsetspeed(&mut settings, rate)?;
    tcsetattr(line, SetArg::TCSANOW, &settings)?;
    // It succeeds when it could set anything at all.
    if cfgetospeed(&tcgetattr(line)?) != rate {
        return Err(io::Error::other(format!("it has no rate of {baud}")));
    }
    // What came before, at whatever rate.
    Ok(tcflush(line, FlushArg::TCIFLUSH)?)
}

fn rate(baud: u32) -> io::Result<BaudRate> {
    Ok(match baud {
        1_200 => BaudRate::B1200,
        2_400 => BaudRate::B2400,
        4_800 => BaudRate::B4800,
        9_600 => BaudRate::B9600,
        19_200 => BaudRate::B19200,
        38_400 => BaudRate::B38400,
        57_600 => BaudRate::B57600,
        115_200 => BaudRate::B115200,
        230_400 => BaudRate::B230400,
        460_800 => BaudRate::B460800,
        500_000 => BaudRate::B500000,
        921_600 => BaudRate::B921600,
        // The configuration lists those above.
        other => return Err(io::Error::other(format!("{other} is no rate"))),
    })
}
