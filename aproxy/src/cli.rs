//! The command line.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use libaproxy::v0_2::VolumeName;

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

    /// URL of the attestation server, for instance `http://127.0.0.1:8080` or `https://kbs.example.org`.
    #[arg(short, long, value_name = "URL")]
    pub url: String,

    /// Certificates to trust for an https URL, in PEM form: those of the server's CA, or its own. No
    /// others are trusted.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,

    /// Path of the secret at the server: repository/type/tag. At kbs-test it is the name of the volume.
    #[arg(long, value_name = "PATH", default_value = "default/sample/test", value_parser = resource)]
    pub resource: VolumeName,

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
    /// The server kbs-test: it signs its answers and takes reports.
    KbsTest,
    /// A KBS of protocol version 0.4.0, such as Trustee. It takes evidence of SVSMs of version 0.2.0;
    /// what version 0.1.0 can send it refuses, and aproxy logs why.
    Kbs,
}

fn resource(text: &str) -> Result<VolumeName, String> {
    VolumeName::new(text).map_err(|error| error.to_string())
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
    let roots = match &args.ca {
        Some(file) => Some(
            std::fs::read(file).with_context(|| format!("cannot read --ca {}", file.display()))?,
        ),
        None => None,
    };
    let limits = ServerLimits::default();
    let backend = Kbs::new(&args.url, flavour, args.resource, roots.as_deref(), limits)
        .with_context(|| format!("cannot use the server {}", args.url))?;
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
        assert!(args.force && args.ca.is_none());
        assert_eq!(&*args.resource, "default/sample/test");
    }

    #[test]
    fn resource_is_three_parts() {
        let with = |resource: &str| {
            let args = ["aproxy", "-p", "kbs", "-u", "https://h", "--unix", "s"];
            Args::try_parse_from(args.into_iter().chain(["--resource", resource]))
        };
        assert_eq!(&*with("a/b/c").unwrap().resource, "a/b/c");
        for bad in ["", "a/b", "a/b/c/d", "a/../c", "a/b/c?d"] {
            assert!(with(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn help_is_complete() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }
}
