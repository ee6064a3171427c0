//! How many descriptors this process may have: each device is a socket.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Takes as many as the system lets us, for this process and those that it starts; says how many that are. Refused, a
/// fleet is told by its connections.
pub fn raise_limit() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return 0;
    };
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    }
}
