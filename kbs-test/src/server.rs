//! The HTTP server: accepting connections, bounded in number and in patience.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};

use crate::api;
use crate::audit::Audit;
use crate::config::Config;
use crate::fault::Fault;
use crate::log::Log;
use crate::snp::Roots;
use crate::store::{Store, StoreError};
use crate::tls::Tls;
use crate::volume::VolumeName;

/// How many connections are served at once; more wait in the listener's queue.
const MAX_CONNECTIONS: usize = 128;

/// How long a client may take to send the header of its next request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// Largest header of a request, in bytes.
const MAX_HEADER: usize = 16 * 1024;

/// How long requests under way may take to end when the server stops.
const STOP_LIMIT: Duration = Duration::from_secs(5);

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

/// Everything a server works with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Its volumes and its key.
    pub store: Arc<Store>,
    /// Who may vouch for SNP reports.
    pub roots: Roots,
    /// Messages for people.
    pub log: Log,
    /// Records for auditors.
    pub audit: Audit,
    /// Speak TLS.
    pub tls: Option<Tls>,
    /// A test wants it to end somewhere.
    pub fault: Option<Fault>,
}

impl Setup {
    /// A server for these volumes that writes no audit log and trusts `roots`.
    pub fn new(store: Store, roots: Roots, log: Log) -> Self {
        Self {
            store: Arc::new(store),
            roots,
            log,
            audit: Audit::default(),
            tls: None,
            fault: None,
        }
    }

    /// A server for one volume, the default one, that forgets everything when it ends.
    pub fn in_memory(config: &Config, roots: Roots, log: Log) -> Result<Self, StoreError> {
        let store = Store::in_memory()?;
        store.write(|tables| {
            let name = VolumeName::default();
            tables.put_volume(&name, &config.volume())?;
            tables.put_secret(&name, &config.secret)
        })?;
        Ok(Self::new(store, roots, log))
    }
}

/// A server that has its port but does not serve yet.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    router: Router,
    tls: Option<Tls>,
    log: Log,
}

impl Server {
    /// Takes the port. Port 0 picks a free one, see [`Server::local_addr`].
    pub async fn bind(address: SocketAddr, setup: Setup) -> Result<Self, BindError> {
        let failed = |source| BindError { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        Ok(Self {
            address: listener.local_addr().map_err(failed)?,
            listener,
            log: setup.log.clone(),
            tls: setup.tls.clone(),
            router: api::router(setup),
        })
    }

    /// The address that clients connect to.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The address as a URL without a trailing slash.
    pub fn url(&self) -> String {
        let scheme = self.tls.as_ref().map_or("http", |_| "https");
        format!("{scheme}://{}", self.address)
    }

    /// Serves until `stop` is ready; requests that are under way then have [`STOP_LIMIT`] to end.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let connections = GracefulShutdown::new();
        tokio::select! {
            () = self.accept(&connections) => {}
            () = stop => {}
        }
        // Who takes longer is cut off.
        let _ = tokio::time::timeout(STOP_LIMIT, connections.shutdown()).await;
    }

    async fn accept(self, connections: &GracefulShutdown) {
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
            let router = self.router.clone();
            let watcher = connections.watcher();
            let tls = self.tls.clone();
            tokio::spawn(async move {
                // A connection that breaks or stalls concerns its client only.
                match tls {
                    None => serve(stream, router, watcher).await,
                    Some(tls) => {
                        let handshake = tokio::time::timeout(HEADER_TIMEOUT, tls.accept(stream));
                        if let Ok(Ok(stream)) = handshake.await {
                            serve(stream, router, watcher).await;
                        }
                    }
                }
                drop(permit);
            });
        }
    }
}

async fn serve<S>(stream: S, router: Router, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let _ = watcher.watch(connection).await;
}

/// A server in a thread of its own, for tests in the same process. Stops when dropped.
pub struct Running {
    url: String,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// Starts a server for one volume on a free port of the loopback interface.
    pub fn start(config: Config, log: Log) -> io::Result<Self> {
        let roots = Roots::amd().map_err(io::Error::other)?;
        Self::with(Setup::in_memory(&config, roots, log).map_err(io::Error::other)?)
    }

    /// Starts a server on a free port of the loopback interface.
    pub fn with(setup: Setup) -> io::Result<Self> {
        let runtime = runtime()?;
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = runtime
            .block_on(Server::bind(any, setup))
            .map_err(io::Error::other)?;
        let url = server.url();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            runtime.block_on(server.run(async {
                // Dropping the sender stops the server too.
                let _ = stopped.await;
            }));
        });
        Ok(Self {
            url,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// The address as a URL without a trailing slash.
    pub fn url(&self) -> String {
        self.url.clone()
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
