//! Peers that a test plays itself: a proxy that misbehaves, a server that is ill.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

const LIMIT: Duration = Duration::from_secs(60);

/// A proxy whose whole behaviour is one function over the connection.
pub struct ScriptedProxy {
    socket: PathBuf,
    thread: JoinHandle<Result<()>>,
}

impl ScriptedProxy {
    /// Listens on a socket in `dir` and runs `script` over the first connection.
    pub fn start(
        dir: &Path,
        script: impl FnOnce(&mut UnixStream) -> Result<()> + Send + 'static,
    ) -> Result<Self> {
        let socket = dir.join("hostile.sock");
        let listener = UnixListener::bind(&socket)?;
        listener.set_nonblocking(true)?;
        let thread = std::thread::spawn(move || {
            let deadline = Instant::now() + LIMIT;
            let mut stream = loop {
                match listener.accept() {
                    Ok((stream, _)) => break stream,
                    Err(e) if e.kind() == ErrorKind::WouldBlock && Instant::now() < deadline => {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    Err(e) => return Err(e).context("nobody connected"),
                }
            };
            stream.set_nonblocking(false)?;
            stream.set_read_timeout(Some(LIMIT))?;
            script(&mut stream)
        });
        Ok(Self { socket, thread })
    }

    /// The socket for `launch_guest.sh --aproxy`.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Ends it and tells whether the script got to its end.
    pub fn finish(self) -> Result<()> {
        match self.thread.join() {
            Ok(result) => result,
            Err(_) => bail!("the scripted proxy panicked"),
        }
    }
}

/// An HTTP server that answers every request with the same status and body.
pub struct ScriptedServer {
    url: String,
}

impl ScriptedServer {
    /// Listens on a port that the system chooses. Runs until the test ends.
    pub fn start(status: &'static str, body: &'static [u8]) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}", listener.local_addr()?);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that goes away in the middle is none of our business.
                let _ = answer(stream, status, body);
            }
        });
        Ok(Self { url })
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }
}

fn answer(mut stream: std::net::TcpStream, status: &str, body: &[u8]) -> Result<()> {
    stream.set_read_timeout(Some(LIMIT))?;
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && request.len() < 1 << 16 {
        stream.read_exact(&mut byte)?;
        request.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&request).to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|l| l.strip_prefix("content-length:"))
        .map_or(Ok(0), |l| l.trim().parse::<u64>())?;
    std::io::copy(&mut (&stream).take(length), &mut std::io::sink())?;
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    )?;
    stream.write_all(body)?;
    Ok(())
}

/// A URL at which nobody listens.
pub fn nowhere() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    Ok(format!("http://{}", listener.local_addr()?))
}
