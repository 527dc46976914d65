//! The command line.

mod admin;
mod serve;
mod values;

use anyhow::Result;
use clap::{Parser, Subcommand};

pub use admin::{
    DbArgs, KeyArgs, LedgerCommand, LedgerSetArgs, ListArgs, PolicyArgs, PrimeArgs, RegisterArgs,
    SetArgs, SignArgs, TestRootArgs, VolumeArgs,
};
pub use serve::ServeArgs;
pub use values::{SecretSource, SecretText, TcbText};

/// A small key broker server (KBS): it gives secrets to SVSMs that prove what they are.
///
/// It serves the KBS attestation protocol 0.4.0 over HTTP or HTTPS: it challenges an SVSM, checks the
/// evidence that comes back through aproxy, and releases the secret of a volume, encrypted so that
/// only that SVSM can read it, signed by the server's static key, and with what it knows about the
/// volume's disk.
///
/// Without a command it serves ("serve" may be left out).
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLE, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// How to serve.
    #[command(flatten)]
    pub serve: ServeArgs,
}

const EXAMPLE: &str = "\
Quick start, one volume in memory, for an SVSM under plain QEMU:
  SECRET=$(od -An -v -tx1 -N32 /dev/urandom | tr -d ' \\n')
  kbs-test --secret \"$SECRET\" --allow-sample
then start aproxy with --url http://127.0.0.1:8080.

Several volumes, kept in a database:
  kbs-test register default/sample/test --db kbs.db --generate-secret \\
      --measurement \"$(igvmmeasure bin/coconut-qemu.igvm measure -b)\" --ledger commit
  kbs-test show-key --db kbs.db > kbs-key.pem
  kbs-test serve --db kbs.db --audit kbs-audit.jsonl

See Documentation/KBS.md.";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve until Ctrl-C.
    Serve(ServeArgs),
    /// Add a volume: a name, a secret, and who may have it.
    Register(RegisterArgs),
    /// Change a volume.
    Set(SetArgs),
    /// Forget a volume and its secret. What is on its disk is lost with it.
    Remove(VolumeArgs),
    /// Allow one release of a volume that has clone protection.
    Prime(PrimeArgs),
    /// Look at, or correct, what is known of a volume's disk.
    #[command(subcommand)]
    Ledger(LedgerCommand),
    /// List the volumes. Secrets are not shown.
    List(ListArgs),
    /// Print the server's public key, PEM on standard output, its fingerprint on standard error.
    ShowKey(KeyArgs),
    /// Sign a secret for a KBS that cannot authenticate itself, such as Trustee.
    ///
    /// Prints a compact JWS (ES384), to be stored there as the resource.
    SignSecret(SignArgs),
    /// Make a test root for SNP reports without SNP hardware: ARK, ASK and VCEK in AMD's form.
    ///
    /// No server trusts it unless started with --root DIR/ark.pem. The private keys of ARK and ASK are
    /// thrown away.
    MakeTestRoot(TestRootArgs),
}

/// Carries out the command.
pub fn run(cli: Cli) -> Result<()> {
    match cli.command.unwrap_or(Command::Serve(cli.serve)) {
        Command::Serve(args) => serve::run(args),
        Command::Register(args) => admin::register(&args),
        Command::Set(args) => admin::set(&args),
        Command::Remove(args) => admin::remove(&args),
        Command::Prime(args) => admin::prime(&args),
        Command::Ledger(LedgerCommand::Show(args)) => admin::ledger_show(&args),
        Command::Ledger(LedgerCommand::Set(args)) => admin::ledger_set(&args),
        Command::List(args) => admin::list(&args),
        Command::ShowKey(args) => admin::show_key(&args),
        Command::SignSecret(args) => admin::sign_secret(&args),
        Command::MakeTestRoot(args) => admin::make_test_root(&args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serving_needs_no_command() {
        let bare = Cli::try_parse_from(["kbs-test", "--allow-sample", "--secret", "00"]).unwrap();
        assert!(bare.command.is_none() && bare.serve.allow_sample);
        let named = Cli::try_parse_from(["kbs-test", "serve", "--allow-sample"]).unwrap();
        assert!(matches!(named.command, Some(Command::Serve(a)) if a.allow_sample));
        assert!(Cli::try_parse_from(["kbs-test", "--allow-sample", "list"]).is_err());
    }

    #[test]
    fn secret_does_not_appear_in_messages() {
        for args in [
            &["kbs-test", "--secret", "5ec2e7zz"][..],
            &[
                "kbs-test", "register", "a/b/c", "--db", "x", "--secret", "5ec2e7zz",
            ],
        ] {
            let cli = Cli::try_parse_from(args).unwrap();
            assert!(!format!("{cli:?}").contains("5ec2e7"));
        }
    }
}
