//! The command line (swtpm(8)): options whose values are lists of `key=value`.

use std::{
    collections::BTreeMap,
    env, io,
    net::{IpAddr, Ipv4Addr},
    os::{fd::OwnedFd, unix::fs::PermissionsExt as _},
    path::PathBuf,
};

use clap::{Args, Parser, Subcommand};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use vtpm::server::{FILE, Options, Source, Stream};

/// What `--print-capabilities` prints: the features of swtpm that are here.
pub const CAPABILITIES: &str = concat!(
    r#"{ "type": "swtpm", "features": [ "tpm-2.0", "flags-opt-startup", "cmdarg-seccomp", "cmdarg-print-states", "#,
    r#""nvram-backend-dir", "rsa-keysize-1024", "rsa-keysize-2048", "rsa-keysize-3072" ], "version": ""#,
    env!("CARGO_PKG_VERSION"),
    r#"" }"#
);

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An option without which nothing works.
    #[error("{0}")]
    Usage(&'static str),
    /// A key or value that is not known.
    #[error("{option}: '{item}' is not supported")]
    Item { option: &'static str, item: String },
    /// The operating system said no.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A socket cannot be had.
    #[error("{option}: {error}")]
    Socket {
        option: &'static str,
        error: io::Error,
    },
}

#[derive(Parser)]
#[command(version, about = "TPM 2.0 server that speaks swtpm's protocols")]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Interface,
}

#[derive(Subcommand)]
pub enum Interface {
    /// Serve on sockets
    Socket(Socket),
}

#[derive(Args)]
pub struct Socket {
    /// Serve a TPM 2.0 (the only kind there is)
    #[arg(long)]
    tpm2: bool,
    /// Data channel: `[type=tcp,]port=N[,bindaddr=A][,disconnect]` | `type=tcp,fd=N` | `type=unixio,path=P` | `type=unixio,fd=N`
    #[arg(long)]
    server: Option<String>,
    /// Data channel on this TCP port
    #[arg(short, long, conflicts_with = "server")]
    port: Option<u16>,
    /// Data channel over this connected socket
    #[arg(short, long, conflicts_with_all = ["server", "port"])]
    fd: Option<i32>,
    /// Control channel: `type=tcp,port=N[,bindaddr=A]` | `type=unixio,path=P[,mode=0...]` | `type=unixio,fd=N` | `type=unixio,clientfd=N`
    #[arg(long)]
    ctrl: Option<String>,
    /// Where the state is: dir=D or backend-uri=dir://D; the environment variable TPM_PATH otherwise
    #[arg(long)]
    tpmstate: Option<String>,
    /// not-need-init, startup-clear, startup-state, startup-none
    #[arg(long)]
    flags: Option<String>,
    /// reject-locality-4, allow-set-locality
    #[arg(long)]
    locality: Option<String>,
    /// `file=F[,level=N][,truncate]` ('-' for none) or `fd=N`
    #[arg(long)]
    pub log: Option<String>,
    /// file=F
    #[arg(long)]
    pid: Option<String>,
    /// Accepted; there is no seccomp profile
    #[arg(long)]
    seccomp: Option<String>,
    /// End when a client has gone
    #[arg(short, long)]
    terminate: bool,
    /// Run in the background
    #[arg(short, long)]
    pub daemon: bool,
    /// The background process itself
    #[arg(long, hide = true)]
    pub detached: bool,
    /// Print what is supported, as JSON
    #[arg(long, visible_alias = "print-capabilites")]
    pub print_capabilities: bool,
    /// Print which states the state directory has, as JSON
    #[arg(long)]
    pub print_states: bool,
}

/// The `key=value` items of one option's value; a key alone has the value "".
struct Items<'a> {
    option: &'static str,
    items: BTreeMap<&'a str, &'a str>,
}

impl<'a> Items<'a> {
    fn parse(option: &'static str, value: &'a str) -> Self {
        let items = value
            .split(',')
            .map(|item| item.split_once('=').unwrap_or((item, "")))
            .collect();
        Self { option, items }
    }

    fn take(&mut self, key: &str) -> Option<&'a str> {
        self.items.remove(key)
    }

    fn unsupported(&self, item: &str) -> Error {
        Error::Item {
            option: self.option,
            item: item.into(),
        }
    }

    fn number<T: std::str::FromStr>(&mut self, key: &str) -> Result<Option<T>, Error> {
        self.take(key)
            .map(|text| {
                text.parse()
                    .map_err(|_| self.unsupported(&format!("{key}={text}")))
            })
            .transpose()
    }

    /// Fails when an item was not used.
    fn end(self) -> Result<(), Error> {
        match self.items.first_key_value() {
            Some((key, _)) => Err(self.unsupported(key)),
            None => Ok(()),
        }
    }
}

impl Socket {
    /// Checks what has to be given.
    pub fn check(&self) -> Result<(), Error> {
        if !self.tpm2 {
            return Err(Error::Usage("only TPM 2.0 is supported: give --tpm2"));
        }
        if self.server.is_none() && self.port.is_none() && self.fd.is_none() && self.ctrl.is_none()
        {
            return Err(Error::Usage("give --server, --port, --fd or --ctrl"));
        }
        Ok(())
    }

    /// The state directory; it must exist.
    pub fn state_directory(&self) -> Result<Option<PathBuf>, Error> {
        let Some(text) = &self.tpmstate else {
            return match env::var_os("TPM_PATH") {
                Some(path) => Ok(Some(path.into())),
                None => Err(Error::Usage(
                    "give --tpmstate dir=D, or the environment variable TPM_PATH",
                )),
            };
        };
        let mut items = Items::parse("--tpmstate", text);
        let uri = items
            .take("backend-uri")
            .map(|uri| match uri.strip_prefix("dir://") {
                Some(directory) => Ok(directory),
                None => Err(items.unsupported(uri)),
            });
        let directory = match (items.take("dir"), uri) {
            (Some(directory), None) => directory,
            (None, Some(directory)) => directory?,
            _ => {
                return Err(Error::Usage(
                    "--tpmstate needs dir=D or backend-uri=dir://D",
                ));
            }
        };
        // The state file is readable to its owner only, whatever was asked for.
        items.take("mode");
        items.end()?;
        Ok(Some(directory.into()))
    }

    /// What `--print-states` prints: the permanent state under swtpm's name for it.
    pub fn states(&self) -> Result<&'static str, Error> {
        let there = self
            .state_directory()?
            .is_some_and(|directory| directory.join(FILE).exists());
        Ok(if there {
            r#"{ "type": "swtpm", "states": [ "permall" ] }"#
        } else {
            r#"{ "type": "swtpm", "states": [ ] }"#
        })
    }

    /// The file for the process number.
    pub fn pid_file(&self) -> Result<Option<PathBuf>, Error> {
        let Some(text) = &self.pid else {
            return Ok(None);
        };
        let mut items = Items::parse("--pid", text);
        let file = items.take("file").map(PathBuf::from);
        items.end()?;
        file.map(Some).ok_or(Error::Usage("--pid needs file=F"))
    }

    /// What to serve, with open sockets.
    pub fn options(&self) -> Result<Options, Error> {
        let mut options = Options {
            terminate: self.terminate,
            ..Options::default()
        };
        if let Some(text) = &self.ctrl {
            options.control = Some(source(&mut Items::parse("--ctrl", text), "clientfd")?);
        }
        if let Some(text) = &self.server {
            let mut items = Items::parse("--server", text);
            options.disconnect = items
                .take("disconnect")
                .is_some_and(|value| !matches!(value, "off" | "no" | "false"));
            options.data = Some(source(&mut items, "fd")?);
        }
        if let Some(port) = self.port {
            options.data = Some(tcp("--port", IpAddr::V4(Ipv4Addr::LOCALHOST), port)?);
        }
        if let Some(fd) = self.fd {
            options.data = Some(Source::Connected(Stream::new(inherited("--fd", fd)?)));
        }
        options.power_on = options.control.is_none();
        if let Some(text) = &self.flags {
            let mut items = Items::parse("--flags", text);
            let no_init = items.take("not-need-init").is_some();
            for (name, kind) in [
                ("startup-clear", Some(0)),
                ("startup-state", Some(1)),
                ("startup-none", None),
            ] {
                if items.take(name).is_some() {
                    options.startup = kind;
                    // A TPM that is started has been powered on.
                    options.power_on |= kind.is_some();
                }
            }
            options.power_on |= no_init;
            items.end()?;
        }
        if let Some(text) = &self.locality {
            let mut items = Items::parse("--locality", text);
            options.reject_locality_4 = items.take("reject-locality-4").is_some();
            items.take("allow-set-locality");
            items.end()?;
        }
        Ok(options)
    }
}

fn tcp(option: &'static str, address: IpAddr, port: u16) -> Result<Source, Error> {
    Source::tcp(address, port).map_err(|error| Error::Socket { option, error })
}

/// A channel's socket. `connected` is the key of a descriptor that is a connection.
fn source(items: &mut Items<'_>, connected: &str) -> Result<Source, Error> {
    let option = items.option;
    let kind = items.take("type").unwrap_or("tcp");
    let socket = |error| Error::Socket { option, error };
    let source = if let Some(fd) = items.number(connected)? {
        Source::Connected(Stream::new(inherited(option, fd)?))
    } else if let Some(fd) = items.number("fd")? {
        let descriptor = inherited(option, fd)?;
        match kind {
            "tcp" => Source::Tcp(descriptor.into()),
            _ => Source::Unix(descriptor.into(), None),
        }
    } else {
        match kind {
            "tcp" => {
                let address = items
                    .number("bindaddr")?
                    .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
                let port = items
                    .number("port")?
                    .ok_or(Error::Usage("a TCP channel needs port=N"))?;
                tcp(option, address, port)?
            }
            "unixio" => {
                let path = items
                    .take("path")
                    .ok_or(Error::Usage("a UNIX channel needs path=P"))?;
                let source = Source::unix(path.as_ref()).map_err(socket)?;
                if let Some(mode) = items.take("mode") {
                    let mode = u32::from_str_radix(mode, 8).map_err(|_| items.unsupported(mode))?;
                    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
                        .map_err(socket)?;
                }
                source
            }
            other => return Err(items.unsupported(other)),
        }
    };
    match items.items.first_key_value() {
        Some((key, _)) => Err(items.unsupported(key)),
        None => Ok(source),
    }
}

/// A descriptor that this process was started with, by its number.
fn inherited(option: &'static str, number: i32) -> Result<OwnedFd, Error> {
    let socket = |error: rustix::io::Errno| Error::Socket {
        option,
        error: error.into(),
    };
    let this: Pid = getpid();
    let process = pidfd_open(this, PidfdFlags::empty()).map_err(socket)?;
    pidfd_getfd(process, number, PidfdGetfdFlags::empty()).map_err(socket)
}
