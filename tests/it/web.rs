//! A node's HTTP and WebSocket as a visitor uses them.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;
use tokio_tungstenite::tungstenite;

use crate::dispatched::Socket;
use crate::node::DEADLINE;

/// Answer to a GET: status and body.
pub fn get(address: &str, path: &str) -> (u16, String) {
    try_get(address, path).unwrap()
}

/// Answer to a GET, or why there is none.
pub fn try_get(address: &str, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    // HTTP/1.0, so that the body ends with the connection and never comes in chunks.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok((status.ok_or(std::io::ErrorKind::InvalidData)?, body.into()))
}

/// The JSON that a GET gives.
pub fn get_json(address: &str, path: &str) -> Value {
    let (status, body) = get(address, path);
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

/// A subscriber of the live stream.
pub fn subscribe(address: &str) -> Socket {
    subscribe_as(TcpStream::connect(address).unwrap(), address, None).unwrap()
}

/// A subscriber on this socket whose page comes from `origin`, or the status that it was refused with.
pub fn subscribe_as(stream: TcpStream, address: &str, origin: Option<&str>) -> Result<Socket, u16> {
    let url = format!("ws://{address}/v1/stream").parse().unwrap();
    let mut request = tungstenite::client::ClientRequestBuilder::new(url);
    if let Some(origin) = origin {
        request = request.with_header("Origin", origin);
    }
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    match tungstenite::client(request, stream) {
        Ok((socket, _)) => Ok(socket),
        Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(refusal))) => {
            Err(refusal.status().as_u16())
        }
        Err(other) => panic!("{other}"),
    }
}
