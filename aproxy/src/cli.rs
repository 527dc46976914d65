//! The command line.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::backend::kbs::{Flavour, Kbs, ServerLimits};
use crate::peer::PeerLimits;
use crate::server::{self, Log};
use crate::transport::unix::UnixTransport;

/// Host proxy between an SVSM and an attestation server.
///
/// An SVSM has no network. It sends its evidence over a serial port, which QEMU connects to a UNIX
/// socket; aproxy listens there, passes the evidence to the attestation server and the encrypted secret
/// back. Only the SVSM can decrypt it.
///
/// It serves any number of SVSMs, one after the other and at the same time, and prints one line per
/// session on standard error. Stop it with Ctrl-C; it removes its socket.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLE)]
pub struct Args {
    /// Protocol of the attestation server.
    #[arg(short, long, value_enum)]
    pub protocol: Protocol,

    /// URL of the attestation server, for instance http://127.0.0.1:8080.
    #[arg(short, long, value_name = "URL")]
    pub url: String,

    /// UNIX socket to create; start QEMU when it is there.
    #[arg(long, value_name = "PATH")]
    pub unix: PathBuf,

    /// Replace a socket that an earlier run left at PATH. Other files are never removed.
    #[arg(short, long)]
    pub force: bool,
}

/// Attestation protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// The test server kbs-test.
    KbsTest,
    /// A KBS of protocol version 0.4.0, such as Trustee. It will refuse what an SVSM of version 0.1.0
    /// can send; aproxy logs why.
    Kbs,
}

const EXAMPLE: &str = "\
Example, with kbs-test on the same machine:
  aproxy --protocol kbs-test --url http://127.0.0.1:8080 --unix svsm-proxy.sock --force
then start the VM with scripts/launch_guest.sh --aproxy svsm-proxy.sock. See Documentation/KBS.md.";

/// Runs the proxy until SIGINT or SIGTERM.
pub fn run(args: Args) -> Result<()> {
    let flavour = match args.protocol {
        Protocol::KbsTest => Flavour::KbsTest,
        Protocol::Kbs => Flavour::Kbs,
    };
    let backend = Kbs::new(&args.url, flavour, ServerLimits::default())
        .with_context(|| format!("cannot use the URL {}", args.url))?;
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("cannot catch signals")?;
    let transport = UnixTransport::bind(&args.unix, args.force)?;
    let file = transport.file();

    let log: Log = Arc::new(|line| {
        let _ = writeln!(std::io::stderr().lock(), "aproxy: {line}");
    });
    log(&format!(
        "listening on {}, attestation server {}",
        args.unix.display(),
        args.url
    ));
    thread::Builder::new()
        .spawn(move || server::run(&transport, Arc::new(backend), PeerLimits::default(), log))
        .context("cannot start a thread")?;

    signals.forever().next();
    file.remove()
        .with_context(|| format!("cannot remove the socket {}", args.unix.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documented_command_line_is_accepted() {
        let args = "aproxy --protocol kbs-test --url http://h:1 --unix s --force";
        let args = Args::try_parse_from(args.split(' ')).unwrap();
        assert_eq!(args.protocol, Protocol::KbsTest);
        assert!(args.force);
    }

    #[test]
    fn help_is_complete() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }
}
