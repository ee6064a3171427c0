//! The control socket: who runs the node, or root, may ask it how it does, or to record a sensor. One request a
//! connection, one answer in JSON.

use std::os::unix::fs::PermissionsExt;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{debug, warn};

use super::child::News;
use super::node::{Node, NodeError};
use super::report::{Reloaded, ReloadedCertificates, ReloadedList};
use super::request::{REQUEST_BYTES_MAX, Request};

/// Name of the socket in the state directory.
pub const SOCKET_NAME: &str = "control.sock";
/// How long ingests may take to read their lists, all together: less than a client waits.
const LIST_WAIT: Duration = Duration::from_millis(1_500);
/// How often it is looked whether they have.
const LIST_LOOK: Duration = Duration::from_millis(5);
/// How long a client may take.
const CLIENT_WAIT: Duration = Duration::from_secs(2);
/// Clients at a time: each is served at once, so more than one waits only by accident.
const CLIENTS_MAX: usize = 8;

/// Serves until the task is dropped.
pub fn serve(node: Rc<Node>, tell: mpsc::Sender<News>) -> Result<JoinHandle<()>, NodeError> {
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
            let (node, tell) = (Rc::clone(&node), tell.clone());
            tokio::task::spawn_local(async move {
                let Ok(_permit) = permit.try_acquire() else {
                    return;
                };
                match timeout(CLIENT_WAIT, answer(&node, &tell, stream)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(cause)) => debug!("control client: {cause}"),
                    Err(_) => debug!("control client: too slow"),
                }
            });
        }
    }))
}

async fn answer(
    node: &Node,
    tell: &mpsc::Sender<News>,
    mut stream: UnixStream,
) -> std::io::Result<()> {
    let peer = stream.peer_cred()?.uid();
    if peer != 0 && peer != nix::unistd::geteuid().as_raw() {
        warn!("control socket: user {peer} was refused");
        return Ok(());
    }
    let mut line = [0; REQUEST_BYTES_MAX];
    let mut length = 0;
    while length < line.len() && !line[..length].ends_with(b"\n") {
        match stream.read(&mut line[length..]).await? {
            0 => break,
            bytes => length += bytes,
        }
    }
    let request = Request::parse(&String::from_utf8_lossy(&line[..length]));
    let told = match request {
        Ok(Request::Status) => serde_json::to_vec(&node.report()).expect("a report is plain data"),
        Ok(Request::Record { sensor, on, lasts }) => {
            let said = record(node, &sensor, on, lasts);
            // The supervisor may be past listening.
            let _ = tell.send(News::Capture { sensor }).await;
            said.unwrap_or_else(wrong)
        }
        Ok(Request::Reload) => {
            serde_json::to_vec(&reload(node, tell).await).expect("a report is plain data")
        }
        Err(why) => wrong(why),
    };
    stream.write_all(&told).await
}

/// Has certificates and lists of devices read again, and waits for what their ingests make of the lists.
async fn reload(node: &Node, tell: &mpsc::Sender<News>) -> Reloaded {
    let (done, read) = oneshot::channel();
    // A node that drains reads nothing any more.
    let _ = tell.send(News::Reload(done)).await;
    let read = read.await.unwrap_or_default();
    let late = Instant::now() + LIST_WAIT;
    let mut device_lists = Vec::new();
    for list in read.lists {
        let outcome = match list.outcome {
            Ok(number) => {
                let judged = async {
                    loop {
                        match node.device_list_outcome(&list.name, number) {
                            Some(outcome) => break outcome,
                            None => sleep(LIST_LOOK).await,
                        }
                    }
                };
                let unread = "its ingest has not read it yet; the log says when it has";
                timeout_at(late, judged)
                    .await
                    .unwrap_or_else(|_| Err(unread.into()))
            }
            Err(cause) => Err(cause),
        };
        device_lists.push(ReloadedList {
            sensor: list.name.instance,
            path: list.path,
            devices: outcome.as_ref().ok().copied(),
            error: outcome.err(),
        });
    }
    let certificates = read.certificates.into_iter();
    let certificates = certificates.map(|read| ReloadedCertificates {
        sensor: read.name.instance,
        error: read.outcome.err(),
    });
    Reloaded {
        certificates: certificates.collect(),
        device_lists,
    }
}

/// Switches a recording and says where it is; `null` if there was none to end.
fn record(node: &Node, sensor: &str, on: bool, lasts: Option<Duration>) -> Result<Vec<u8>, String> {
    let mut captures = node.captures();
    let file = match on {
        true => captures.start(sensor, lasts).map(Some),
        false => captures.stop(sensor),
    };
    let file = file.map_err(|cause| cause.to_string())?;
    let file = file.map(|path| path.display().to_string());
    Ok(format!("{}\n", serde_json::json!({ "file": file })).into_bytes())
}

fn wrong(why: String) -> Vec<u8> {
    format!("{}\n", serde_json::json!({ "error": why })).into_bytes()
}
