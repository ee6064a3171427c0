//! The control socket: who runs the node, or root, may ask it how it does. One request a connection, one answer.

use std::os::unix::fs::PermissionsExt;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::node::{Node, NodeError};

/// Name of the socket in the state directory.
pub const SOCKET_NAME: &str = "control.sock";
/// Asks for a report.
pub const REQUEST_STATUS: &[u8] = b"status\n";
/// Most bytes of a request.
const REQUEST_BYTES_MAX: usize = 64;
/// How long a client may take.
const CLIENT_WAIT: Duration = Duration::from_secs(2);
/// Clients at a time: each is served at once, so more than one waits only by accident.
const CLIENTS_MAX: usize = 8;

/// Serves until the task is dropped.
pub fn serve(node: Rc<Node>) -> Result<JoinHandle<()>, NodeError> {
    let path = node.config().state_dir.join(SOCKET_NAME);
    let open = || {
        // What is left of a run that was killed; the lock says that nobody uses it.
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    };
    let listener = open().map_err(|cause| NodeError::Control(path.clone(), cause))?;
    let clients = Rc::new(tokio::sync::Semaphore::new(CLIENTS_MAX));
    Ok(tokio::task::spawn_local(async move {
        loop {
            let permit = Rc::clone(&clients);
            let Ok((stream, _)) = listener.accept().await else {
                // Out of descriptors: the next try comes when one is free.
                tokio::time::sleep(CLIENT_WAIT).await;
                continue;
            };
            let node = Rc::clone(&node);
            tokio::task::spawn_local(async move {
                let Ok(_permit) = permit.try_acquire() else {
                    return;
                };
                match timeout(CLIENT_WAIT, answer(&node, stream)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(cause)) => debug!("control client: {cause}"),
                    Err(_) => debug!("control client: too slow"),
                }
            });
        }
    }))
}

async fn answer(node: &Node, mut stream: UnixStream) -> std::io::Result<()> {
    let peer = stream.peer_cred()?.uid();
    if peer != 0 && peer != nix::unistd::geteuid().as_raw() {
        warn!("control socket: user {peer} was refused");
        return Ok(());
    }
    let mut request = [0; REQUEST_BYTES_MAX];
    let read = stream.read(&mut request).await?;
    if &request[..read] != REQUEST_STATUS {
        return stream.write_all(b"{\"error\":\"unknown request\"}\n").await;
    }
    let report = serde_json::to_vec(&node.report()).expect("a report is plain data");
    stream.write_all(&report).await
}
