//! A server of JT/T 808 for the fleet to talk to.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use device_sim::jt808::{Edition, Terminal};
use device_sim::random::Random;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Registers everybody and answers everything, with faults.
#[derive(Clone, Default)]
pub struct Server {
    /// Location bodies of singles and batches, with repeats left out.
    pub taken: Arc<Mutex<HashSet<Vec<u8>>>>,
    /// One answer in this many is not given; 0: all are.
    pub silent_one_in: usize,
    /// One message in this many ends the connection; 0: none.
    pub close_one_in: usize,
}

impl Server {
    /// Accepts on a free port.
    pub async fn listen(self, seed: u64) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            for connection in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let random = Random::part(seed, connection);
                tokio::spawn(self.clone().serve(stream, random));
            }
        });
        address
    }

    /// Serves one connection to its end.
    pub async fn serve(self, mut stream: TcpStream, mut random: Random) {
        let (mut bytes, mut room) = (Vec::new(), [0; 4096]);
        while let Ok(count @ 1..) = stream.read(&mut room).await {
            bytes.extend_from_slice(&room[..count]);
            while let Some(end) = bytes.iter().skip(1).position(|&byte| byte == 0x7e) {
                let message: Vec<u8> = bytes.drain(..end + 2).collect();
                let plain = unescape(&message[1..message.len() - 1]);
                if self.close_one_in > 0 && random.one_in(self.close_one_in) {
                    return;
                }
                let answer = self.answer(&plain);
                let login = plain[0] == 1;
                let told = login || self.silent_one_in == 0 || !random.one_in(self.silent_one_in);
                if told && stream.write_all(&answer).await.is_err() {
                    return;
                }
            }
        }
    }

    /// The answer to a message without its flags and escapes.
    fn answer(&self, plain: &[u8]) -> Vec<u8> {
        assert_eq!(
            plain.iter().fold(0, |sum, byte| sum ^ byte),
            0,
            "check byte"
        );
        let new = plain[2] & 0x40 != 0;
        let header = if new { 17 } else { 12 };
        let body = &plain[header..plain.len() - 1];
        match (plain[0], plain[1]) {
            (2, 0) => self.take(body),
            (7, 4) => {
                let mut rest = &body[3..];
                while !rest.is_empty() {
                    self.take(&rest[2..42]);
                    rest = &rest[42..];
                }
            }
            _ => {}
        }
        let edition = if new { Edition::Y2019 } else { Edition::Y2013 };
        let terminal = Terminal { edition, phone: 1 };
        let serial = &plain[header - 2..header];
        let mut out = Vec::new();
        if plain[..2] == [1, 0] {
            terminal.message(&mut out, 0x8100, 0, &[serial, b"\0CODE"].concat());
        } else {
            terminal.message(&mut out, 0x8001, 0, &[serial, &plain[..2], &[0]].concat());
        }
        out
    }

    fn take(&self, body: &[u8]) {
        self.taken.lock().unwrap().insert(body.to_vec());
    }
}

fn unescape(bytes: &[u8]) -> Vec<u8> {
    let (mut plain, mut escaped) = (Vec::new(), false);
    for &byte in bytes {
        match (byte, escaped) {
            (0x7d, false) => escaped = true,
            (code, true) => {
                plain.push(0x7c + code);
                escaped = false;
            }
            (byte, false) => plain.push(byte),
        }
    }
    plain
}
