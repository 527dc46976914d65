//! Sockets of both channels: TCP or UNIX, listening or connected.
//!
//! Always true: a write to a client that does not read ends after [`WRITE_LIMIT`].

use std::{
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    net::{IpAddr, TcpListener},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixListener,
    },
    path::{Path, PathBuf},
    time::Duration,
    vec::Vec,
};

use alloc::boxed::Box;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags,
    sockopt::{self, Timeout},
};

/// How long a client may leave its answer unread.
pub const WRITE_LIMIT: Duration = Duration::from_secs(10);

/// Where connections come from.
#[derive(Debug)]
pub enum Source {
    /// A TCP listener.
    Tcp(TcpListener),
    /// A UNIX listener, and the path it made.
    Unix(UnixListener, Option<Bound>),
    /// One connection that is there already.
    Connected(Stream),
}

impl Source {
    /// Listens on a TCP port.
    ///
    /// # Errors
    /// When the port cannot be had.
    pub fn tcp(address: IpAddr, port: u16) -> io::Result<Self> {
        TcpListener::bind((address, port)).map(Self::Tcp)
    }

    /// Listens on a path; a socket left there by an earlier process is replaced.
    ///
    /// # Errors
    /// When the path cannot be had.
    pub fn unix(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::FileTypeExt;
        if std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
            std::fs::remove_file(path)?;
        }
        Ok(Self::Unix(
            UnixListener::bind(path)?,
            Some(Bound(path.to_path_buf())),
        ))
    }

    /// The next connection of a listener.
    pub(super) fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                Ok(Stream::new(stream.into()))
            }
            Self::Unix(listener, _) => Ok(Stream::new(listener.accept()?.0.into())),
            Self::Connected(_) => Err(io::ErrorKind::InvalidInput.into()),
        }
    }
}

/// The path of a socket, removed when dropped.
#[derive(Debug)]
pub struct Bound(PathBuf);

impl Drop for Bound {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener, _) => listener.as_fd(),
            Self::Connected(stream) => stream.as_fd(),
        }
    }
}

/// One connection.
#[derive(Debug)]
pub struct Stream(OwnedFd);

impl Stream {
    /// A connection over an open socket.
    #[must_use]
    pub fn new(socket: OwnedFd) -> Self {
        // Fails only for what is no socket, which then has no such limit.
        let _ = sockopt::set_socket_timeout(&socket, Timeout::Send, Some(WRITE_LIMIT));
        Self(socket)
    }

    /// Reads what is there, with the file descriptors that came with it; no bytes at the end,
    /// and `WouldBlock` when nothing is there.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        let mut space = Box::new([MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))]);
        let mut control = RecvAncillaryBuffer::new(&mut *space);
        let received = rustix::net::recvmsg(
            &self.0,
            &mut [IoSliceMut::new(buffer)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
        )?;
        let descriptors = control
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
                _ => None,
            })
            .flatten()
            .collect();
        Ok((received.bytes, descriptors))
    }

    /// Writes all of `bytes`.
    pub(super) fn send(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let sent = rustix::io::write(&self.0, bytes)?;
            if sent == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            bytes = &bytes[sent..];
        }
        Ok(())
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
