//! The HTTP server: accepting connections, bounded in number and in patience.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};

use crate::api;
use crate::config::Config;
use crate::log::Log;

/// How many connections are served at once; more wait in the listener's queue.
const MAX_CONNECTIONS: usize = 128;

/// How long a client may take to send the header of its next request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// Pause after a failed accept, which happens when the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the server could not start.
#[derive(Debug, Error)]
#[error(
    "cannot listen on {address}: {source}; choose another address with --listen (port 0 picks a free \
     port)"
)]
pub struct BindError {
    address: SocketAddr,
    source: io::Error,
}

/// A server that has its port but does not serve yet.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    router: Router,
    log: Log,
}

impl Server {
    /// Takes the port. Port 0 picks a free one, see [`Server::local_addr`].
    pub async fn bind(address: SocketAddr, config: Config, log: Log) -> Result<Self, BindError> {
        let failed = |source| BindError { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        for warning in config.warnings() {
            log.event(&format!("warning: {warning}"));
        }
        Ok(Self {
            address: listener.local_addr().map_err(failed)?,
            listener,
            router: api::router(config, log.clone()),
            log,
        })
    }

    /// The address that clients connect to.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the future is dropped.
    pub async fn run(self) {
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        // The semaphore is never closed.
        while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(e) => {
                    self.log.event(&format!("cannot accept a connection: {e}"));
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let service = TowerToHyperService::new(self.router.clone());
            tokio::spawn(async move {
                // A connection that breaks or stalls concerns its client only.
                let _ = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEADER_TIMEOUT)
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
                drop(permit);
            });
        }
    }
}

/// A server in a thread of its own, for tests in the same process. Stops when dropped.
pub struct Running {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// Starts a server on a free port of the loopback interface.
    pub fn start(config: Config, log: Log) -> io::Result<Self> {
        let runtime = runtime()?;
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = runtime
            .block_on(Server::bind(any, config, log))
            .map_err(io::Error::other)?;
        let address = server.local_addr();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = server.run() => {}
                    _ = stopped => {}
                }
            });
        });
        Ok(Self {
            address,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// The address as a URL without a trailing slash.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The runtime the server needs: one thread, network and timers.
pub(crate) fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}
