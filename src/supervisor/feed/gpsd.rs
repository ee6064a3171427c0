//! A client of gpsd: connected, told what to send, and handed over. Nothing that gpsd says is read here.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::role::Feed;

/// How long a look-up, and a connection to each address, may take.
const CONNECT_WAIT: Duration = Duration::from_secs(5);

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;

/// Asks gpsd for its reports, as JSON or as the sentences of its receivers.
pub struct Gpsd {
    /// A look-up that is not done: a name server that is silent must not have a thread for each try.
    lookup: Option<oneshot::Receiver<io::Result<Vec<SocketAddr>>>>,
}

impl Gpsd {
    /// Nothing is open.
    pub fn new() -> Gpsd {
        Gpsd { lookup: None }
    }

    /// Connects to the gpsd at `connect`, host and port.
    pub async fn open(
        &mut self,
        connect: &str,
        receiver: Option<&str>,
        sentences: bool,
        number: u64,
    ) -> io::Result<Feed> {
        let mut failed = io::Error::other("it has no address");
        for address in self.addresses(connect).await? {
            match timed(connected(address, &watch(receiver, sentences))).await {
                Ok(stream) => {
                    let input = stream.into_std()?;
                    return Ok(Feed {
                        number,
                        answers: Some(input.try_clone()?.into()),
                        input: input.into(),
                        log: None,
                    });
                }
                Err(cause) => failed = cause,
            }
        }
        Err(failed)
    }

    /// Looked up beside the supervisor, in a thread that does not hold up its end.
    async fn addresses(&mut self, connect: &str) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = connect.parse() {
            return Ok(vec![address]);
        }
        if self.lookup.is_none() {
            let (tell, told) = oneshot::channel();
            let name = connect.to_owned();
            std::thread::Builder::new()
                .name("gpsd-lookup".into())
                .spawn(move || {
                    let found = name.to_socket_addrs();
                    // The supervisor may be past listening.
                    let _ = tell.send(found.map(|all| all.take(ADDRESSES_MAX).collect()));
                })?;
            self.lookup = Some(told);
        }
        let Some(lookup) = &mut self.lookup else {
            return Ok(Vec::new());
        };
        match timeout(CONNECT_WAIT, lookup).await {
            Ok(told) => {
                self.lookup = None;
                told.unwrap_or_else(|_| Err(io::Error::other("its look-up failed")))
            }
            Err(_) => Err(io::Error::other("its name is not found in time")),
        }
    }
}

async fn timed<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = || io::Error::other(format!("nothing answers within {CONNECT_WAIT:?}"));
    timeout(CONNECT_WAIT, work)
        .await
        .unwrap_or_else(|_| Err(late()))
}

async fn connected(address: SocketAddr, watch: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(watch.as_bytes()).await?;
    Ok(stream)
}

/// What makes gpsd report, by gpsd_json(5).
fn watch(receiver: Option<&str>, sentences: bool) -> String {
    let form = if sentences { "nmea" } else { "json" };
    let mut watch = serde_json::json!({"enable": true});
    watch[form] = true.into();
    if let Some(receiver) = receiver {
        watch["device"] = receiver.into();
    }
    format!("?WATCH={watch};\n")
}
