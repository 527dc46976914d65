//! `kbs-test serve`.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::admin;
use super::values::SecretText;
use crate::audit::Audit;
use crate::config::{Config, Measurement, Policy, SVSM_MIN_SECRET, Secret};
use crate::fault::Fault;
use crate::log::Log;
use crate::server::{Server, Setup, runtime};
use crate::snp::Roots;
use crate::store::{Store, StoreError};
use crate::tls::Tls;
use crate::volume::{DEFAULT_NAME, Volume, VolumeName};

/// How to serve.
///
/// When it is ready it prints the line "listening on http://ADDR:PORT" on standard output; everything
/// else goes to standard error. Stop it with Ctrl-C.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Serve the volumes in this database; made with "kbs-test register".
    ///
    /// Without it there is one volume, default/sample/test, in memory.
    #[arg(long, value_name = "FILE")]
    pub db: Option<PathBuf>,

    /// The secret of default/sample/test, in hex. An SVSM wants at least 32 bytes: 64 hex digits.
    ///
    /// Other users of this machine can see it in the process list: use secrets made for tests.
    #[arg(short, long, value_name = "HEX")]
    pub secret: Option<SecretText>,

    /// Launch measurement that the evidence must show: 96 hex digits, as igvmmeasure prints them.
    ///
    /// Without it every measurement is accepted. On a mismatch the server prints the expected and the
    /// found measurement and releases nothing.
    #[arg(short, long, value_name = "HEX", requires = "secret")]
    pub measurement: Option<Measurement>,

    /// Accept sample evidence, which an SVSM without confidential hardware sends.
    ///
    /// It proves nothing: with this option anyone who can reach the server gets the secret.
    #[arg(long)]
    pub allow_sample: bool,

    /// Trust this root certificate (ARK, PEM) instead of AMD's; may be given more than once.
    ///
    /// For test roots of "kbs-test make-test-root": reports under them come from no hardware.
    #[arg(long, value_name = "FILE")]
    pub root: Vec<PathBuf>,

    /// Address and port to listen on; port 0 picks a free port.
    #[arg(
        short,
        long,
        value_name = "ADDR:PORT",
        default_value = "127.0.0.1:8080"
    )]
    pub listen: SocketAddr,

    /// Serve HTTPS with this certificate chain (PEM, the server's certificate first).
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// Private key of the certificate (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// Append what is asked, decided and reported to FILE, one JSON object a line.
    #[arg(long, value_name = "FILE")]
    pub audit: Option<PathBuf>,

    /// Write the server's public key to FILE (PEM), for igvmbuilder --trusted-kbs-key.
    #[arg(long, value_name = "FILE")]
    pub public_key: Option<PathBuf>,

    /// For tests: end the process at this point, as if it had been killed.
    #[arg(long, value_name = "POINT", help_heading = "Options for tests")]
    pub test_fault: Option<Fault>,
}

impl ServeArgs {
    fn config(&self, secret: Secret) -> Config {
        Config {
            policy: Policy {
                measurement: self.measurement,
                allow_sample: self.allow_sample,
            },
            secret,
        }
    }

    fn store(&self, audit: &Audit) -> Result<Store> {
        let secret = self.secret.as_ref().map(SecretText::read).transpose()?;
        let store = match &self.db {
            Some(path) => Store::open(path, secret.is_some())?,
            None => Store::in_memory()?,
        };
        match (secret, &self.db) {
            (Some(secret), _) => quick_start(&store, &self.config(secret), audit)?,
            (None, Some(_)) if self.allow_sample => bail!(
                "what a registered volume accepts is part of it: leave out --allow-sample and use \
                 kbs-test set VOLUME"
            ),
            (None, Some(_)) => {}
            (None, None) => bail!(
                "no secret to release: pass --secret HEX; make one with \
                 od -An -v -tx1 -N32 /dev/urandom | tr -d ' \\n'; or name a database with --db FILE"
            ),
        }
        Ok(store)
    }
}

/// Registers the default volume. In a database it may be there already, with the same secret.
fn quick_start(store: &Store, config: &Config, audit: &Audit) -> Result<()> {
    let name = VolumeName::default();
    let registered = store.write(|tables| -> Result<bool> {
        let volume = match (tables.volume(&name)?, tables.secret(&name)?) {
            (Some(volume), Some(secret)) if secret == config.secret => Volume {
                policy: config.volume().policy,
                ..volume
            },
            (None, None) => config.volume(),
            _ => return Ok(false),
        };
        tables.put_volume(&name, &volume)?;
        tables.put_secret(&name, &config.secret)?;
        admin::record(audit, "admin.quick-start", &name, admin::settings(&volume))?;
        Ok(true)
    })?;
    if !registered {
        bail!(
            "volume {DEFAULT_NAME} is in the database with another secret: leave out --secret, or \
             change it with kbs-test set"
        );
    }
    Ok(())
}

/// One line per setting that weakens the server, for its log at start.
fn warnings(args: &ServeArgs, store: &Store) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for (name, volume) in store.volumes()? {
        // A quick start names its options.
        let quick = args.secret.is_some() && name == VolumeName::default();
        let option = |option: &str| match quick {
            true => option.to_owned(),
            false => format!("volume {name} registered with {option}"),
        };
        if volume.policy.measurements.is_empty() {
            let given = match quick {
                true => "no --measurement given".to_owned(),
                false => format!("volume {name} has no measurement"),
            };
            lines.push(format!("{given}: any launch measurement earns the secret"));
        }
        if volume.policy.allow_sample {
            lines.push(format!(
                "{}: sample evidence proves nothing, anyone can get the secret",
                option("--allow-sample")
            ));
        }
        let length = store.write(|t| -> Result<usize, StoreError> {
            Ok(t.secret(&name)?.map_or(0, |s| s.as_bytes().len()))
        })?;
        if length < SVSM_MIN_SECRET {
            let of = match quick {
                true => String::new(),
                false => format!(" of volume {name}"),
            };
            lines.push(format!(
                "the secret{of} has {length} bytes: an SVSM refuses fewer than {SVSM_MIN_SECRET}"
            ));
        }
    }
    Ok(lines)
}

/// Runs the server until SIGINT or SIGTERM.
pub(super) fn run(args: ServeArgs) -> Result<()> {
    let audit = match &args.audit {
        Some(path) => Audit::open(path)
            .with_context(|| format!("cannot open the audit log {}", path.display()))?,
        None => Audit::default(),
    };
    let store = args.store(&audit)?;
    let log = Log::stderr();
    for warning in warnings(&args, &store)? {
        log.event(&format!("warning: {warning}"));
    }
    log.event(&format!("static key {}", store.key().fingerprint()));
    if let Some(path) = &args.public_key {
        fs::write(path, store.key().public_pem()?)
            .with_context(|| format!("cannot write the public key to {}", path.display()))?;
    }
    let tls = match (&args.tls_cert, &args.tls_key) {
        (Some(certificate), Some(key)) => Some(Tls::open(certificate, key)?),
        _ => None,
    };
    let roots = match args.root.as_slice() {
        [] => Roots::amd()?,
        paths => Roots::from_files(paths)?,
    };
    if !args.root.is_empty() {
        log.event(&format!(
            "warning: --root: SNP reports are verified up to {} and not to AMD",
            roots.names().join(", ")
        ));
    }
    let setup = Setup {
        store: Arc::new(store),
        roots,
        log,
        audit,
        tls,
        fault: args.test_fault,
    };
    runtime()
        .context("cannot start the runtime")?
        .block_on(async {
            let mut interrupt = signal(SignalKind::interrupt()).context("cannot catch SIGINT")?;
            let mut terminate = signal(SignalKind::terminate()).context("cannot catch SIGTERM")?;
            let server = Server::bind(args.listen, setup).await?;
            // Scripts wait for this line. A script that reads one line and closes the pipe is fine.
            let mut out = std::io::stdout();
            let _ = writeln!(out, "listening on {}", server.url());
            let _ = out.flush();
            let stop = async {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            };
            server.run(stop).await;
            Ok(())
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::Parser;

    fn parse(args: &[&str]) -> ServeArgs {
        let args = [&["kbs-test"], args].concat();
        Cli::try_parse_from(args).unwrap().serve
    }

    #[test]
    fn no_secret_is_invented() {
        let e = parse(&["--allow-sample"])
            .store(&Audit::default())
            .unwrap_err();
        assert!(e.to_string().contains("pass --secret HEX; make one with"));
    }

    #[test]
    fn server_is_strict_unless_told_otherwise() {
        let store = parse(&["--secret", "00"]).store(&Audit::default()).unwrap();
        let policy = store.volumes().unwrap().remove(0).1.policy;
        assert!(!policy.allow_sample);
        let store = parse(&["--secret", "00", "--allow-sample"])
            .store(&Audit::default())
            .unwrap();
        assert!(store.volumes().unwrap()[0].1.policy.allow_sample);
    }

    #[test]
    fn secret_that_cannot_be_used_is_not_repeated() {
        let e = parse(&["--secret", "5ec2e7zz"])
            .store(&Audit::default())
            .unwrap_err();
        let text = format!("{e:#}");
        assert!(text.contains("cannot use --secret") && !text.contains("5ec2"));
    }

    #[test]
    fn quick_start_does_not_replace_a_registered_secret() {
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path().join("db");
        let db = db.to_str().unwrap();
        drop(
            parse(&["--db", db, "--secret", "00"])
                .store(&Audit::default())
                .unwrap(),
        );
        drop(
            parse(&["--db", db, "--secret", "00"])
                .store(&Audit::default())
                .unwrap(),
        );
        let e = parse(&["--db", db, "--secret", "01"])
            .store(&Audit::default())
            .unwrap_err();
        assert!(e.to_string().contains("with another secret"), "{e}");
        drop(parse(&["--db", db]).store(&Audit::default()).unwrap());
    }
}
