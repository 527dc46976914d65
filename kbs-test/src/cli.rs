//! The command line.

use std::convert::Infallible;
use std::fmt;
use std::io::Write;
use std::net::SocketAddr;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use zeroize::Zeroizing;

use crate::config::{Config, Measurement, Policy};
use crate::log::Log;
use crate::server::{Server, runtime};

/// A small key broker server (KBS) for development, CI and demos.
///
/// It serves the KBS attestation protocol 0.4.0 over HTTP: it challenges an SVSM, checks the evidence
/// that comes back through aproxy, and releases one secret, encrypted so that only that SVSM can read
/// it, as resource default/sample/test.
///
/// When it is ready it prints the line "listening on http://ADDR:PORT" on standard output; everything
/// else goes to standard error. Stop it with Ctrl-C.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLE)]
pub struct Args {
    /// Launch measurement that the evidence must show: 96 hex digits, as igvmmeasure prints them.
    ///
    /// Without it every measurement is accepted. On a mismatch the server prints the expected and the
    /// found measurement and releases nothing.
    #[arg(short, long, value_name = "HEX")]
    pub measurement: Option<Measurement>,

    /// The secret to release, in hex. An SVSM wants at least 32 bytes: 64 hex digits.
    ///
    /// Other users of this machine can see it in the process list: use secrets made for tests.
    #[arg(short, long, value_name = "HEX")]
    pub secret: Option<SecretText>,

    /// Address and port to listen on; port 0 picks a free port.
    #[arg(
        short,
        long,
        value_name = "ADDR:PORT",
        default_value = "127.0.0.1:8080"
    )]
    pub listen: SocketAddr,

    /// Accept sample evidence, which an SVSM without confidential hardware sends.
    ///
    /// It proves nothing: with this option anyone who can reach the server gets the secret.
    #[arg(long)]
    pub allow_sample: bool,

    /// Accept SEV-SNP reports without verifying their signature. For development only.
    ///
    /// This version cannot verify signatures; without this option it refuses SNP evidence. Size,
    /// version, policy, VMPL, REPORT_DATA and measurement are checked in any case.
    #[arg(long)]
    pub insecure_no_snp_signature: bool,
}

const EXAMPLE: &str = "\
Example, for an SVSM under plain QEMU:
  SECRET=$(od -An -v -tx1 -N32 /dev/urandom | tr -d ' \\n')
  kbs-test --secret \"$SECRET\" --allow-sample
then start aproxy with --url http://127.0.0.1:8080. See Documentation/KBS.md.";

/// The value of `--secret`, not yet read: the command-line parser repeats what it cannot read in its
/// message, and this value must not appear in one.
#[derive(Clone)]
pub struct SecretText(Zeroizing<String>);

impl FromStr for SecretText {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(Zeroizing::new(text.to_owned())))
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(redacted)")
    }
}

impl Args {
    fn config(self) -> Result<Config> {
        let Some(secret) = self.secret else {
            bail!(
                "no secret to release: pass --secret HEX; make one with \
                 od -An -v -tx1 -N32 /dev/urandom | tr -d ' \\n'"
            );
        };
        let secret = secret.0.parse().context("cannot use --secret")?;
        Ok(Config {
            policy: Policy {
                measurement: self.measurement,
                allow_sample: self.allow_sample,
                insecure_no_snp_signature: self.insecure_no_snp_signature,
            },
            secret,
        })
    }
}

/// Runs the server until SIGINT or SIGTERM.
pub fn run(args: Args) -> Result<()> {
    let address = args.listen;
    let config = args.config()?;
    runtime()
        .context("cannot start the runtime")?
        .block_on(async {
            let mut interrupt = signal(SignalKind::interrupt()).context("cannot catch SIGINT")?;
            let mut terminate = signal(SignalKind::terminate()).context("cannot catch SIGTERM")?;
            let server = Server::bind(address, config, Log::stderr()).await?;
            // Scripts wait for this line. A script that reads one line and closes the pipe is fine.
            let mut out = std::io::stdout();
            let _ = writeln!(out, "listening on http://{}", server.local_addr());
            let _ = out.flush();
            tokio::select! {
                () = server.run() => {}
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            Ok(())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Args, clap::Error> {
        Args::try_parse_from([&["kbs-test"], args].concat())
    }

    #[test]
    fn no_secret_is_invented() {
        let e = parse(&["--allow-sample"]).unwrap().config().unwrap_err();
        assert!(e.to_string().contains("pass --secret HEX; make one with"));
    }

    #[test]
    fn server_is_strict_unless_told_otherwise() {
        let config = parse(&["--secret", "00"]).unwrap().config().unwrap();
        assert!(!config.policy.allow_sample && !config.policy.insecure_no_snp_signature);
    }

    #[test]
    fn wrong_values_are_refused_with_a_reason() {
        let e = parse(&["--measurement", "00"]).unwrap_err().to_string();
        assert!(e.contains("96 hex digits"), "{e}");
        assert!(parse(&["--listen", "localhost"]).is_err());
    }

    #[test]
    fn secret_that_cannot_be_read_is_not_repeated() {
        let args = parse(&["--secret", "5ec2e7x"]).unwrap();
        assert!(!format!("{args:?}").contains("5ec2e7"));
        let e = format!("{:#}", args.config().unwrap_err());
        assert!(e.contains("cannot use --secret: not hexadecimal"), "{e}");
        assert!(!e.contains("5ec2e7"));
    }

    #[test]
    fn help_is_complete() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }
}
