//! A UNIX stream socket: the proxy listens, QEMU connects a serial port of the VM to it.
//!
//! The file belongs to the [`UnixTransport`] from a successful bind until its removal, and nothing
//! else is ever removed: neither a file that is no socket, nor a socket that somebody put in its place.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use super::{Stream, Transport};

/// Why the socket could not be created.
#[derive(Debug, Error)]
pub enum BindError {
    /// Something is there, and `--force` was not given.
    #[error("{0} exists: remove it, or pass --force to replace a socket left by an earlier run")]
    Exists(PathBuf),
    /// Something is there that is no socket.
    #[error("{0} exists and is not a socket: it is left alone, choose another path")]
    NotASocket(PathBuf),
    /// The file system refused.
    #[error("cannot create the socket {path}: {source}; check the directory and its permissions")]
    Io {
        /// The path of the socket.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// A listening socket and the file it owns.
pub struct UnixTransport {
    listener: UnixListener,
    file: SocketFile,
}

impl UnixTransport {
    /// Creates a socket at `path`. With `force`, a socket that exists there is removed first.
    pub fn bind(path: &Path, force: bool) -> Result<Self, BindError> {
        let failed = |source| BindError::Io {
            path: path.to_owned(),
            source,
        };
        match fs::symlink_metadata(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(failed(e)),
            Ok(_) if !force => return Err(BindError::Exists(path.to_owned())),
            Ok(found) if !found.file_type().is_socket() => {
                return Err(BindError::NotASocket(path.to_owned()));
            }
            Ok(_) => fs::remove_file(path).map_err(failed)?,
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        let made = fs::symlink_metadata(path).map_err(failed)?;
        Ok(Self {
            listener,
            file: SocketFile {
                path: path.to_owned(),
                device: made.dev(),
                inode: made.ino(),
            },
        })
    }

    /// The file, for whoever has to remove it at exit.
    pub fn file(&self) -> SocketFile {
        self.file.clone()
    }
}

impl Transport for UnixTransport {
    type Stream = UnixStream;

    fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().map(|(stream, _)| stream)
    }
}

impl Stream for UnixStream {
    fn limit_read(&self, limit: Option<Duration>) -> io::Result<()> {
        self.set_read_timeout(limit)
    }

    fn limit_write(&self, limit: Option<Duration>) -> io::Result<()> {
        self.set_write_timeout(limit)
    }
}

/// The socket's file, identified so that a successor's file at the same path is not mistaken for it.
#[derive(Clone, Debug)]
pub struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// Removes the file if it is still the one that was created.
    pub fn remove(&self) -> io::Result<()> {
        let found = fs::symlink_metadata(&self.path)?;
        if (found.dev(), found.ino()) == (self.device, self.inode) {
            fs::remove_file(&self.path)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn existing_path_is_refused_without_force() {
        let dir = directory();
        let path = dir.path().join("s");
        let _first = UnixTransport::bind(&path, false).unwrap();
        let second = UnixTransport::bind(&path, false);
        assert!(matches!(second, Err(BindError::Exists(_))));
    }

    #[test]
    fn force_replaces_a_socket_only() {
        let dir = directory();
        let path = dir.path().join("s");
        drop(UnixTransport::bind(&path, false).unwrap());
        assert!(UnixTransport::bind(&path, true).is_ok());

        let file = dir.path().join("file");
        fs::write(&file, "precious").unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        for other in [&file, &link, &dir.path().to_owned()] {
            let refused = UnixTransport::bind(other, true);
            assert!(matches!(refused, Err(BindError::NotASocket(_))));
        }
        assert_eq!(fs::read(&file).unwrap(), b"precious");
    }

    #[test]
    fn missing_directory_is_named() {
        let dir = directory();
        let path = dir.path().join("no/such/s");
        let Err(e) = UnixTransport::bind(&path, false) else {
            panic!();
        };
        assert!(e.to_string().contains("no/such/s"));
    }

    #[test]
    fn only_the_own_socket_is_removed() {
        let dir = directory();
        let path = dir.path().join("s");
        let first = UnixTransport::bind(&path, false).unwrap();
        // Held until the end, so that the second socket cannot get the same inode.
        let second = UnixTransport::bind(&path, true).unwrap();
        if first.file().inode != second.file().inode {
            first.file().remove().unwrap();
            assert!(path.exists());
        }
        second.file().remove().unwrap();
        assert!(!path.exists());
    }
}
