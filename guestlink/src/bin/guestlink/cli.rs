//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use uefivars::Guid;

/// Makes SVSM calls over COM4 of an SVSM on the native platform, as a guest would make
/// them on hardware with isolation.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
pub struct Arguments {
    /// The socket that `launch_guest.sh --guestlink SOCKET` makes
    #[arg(long, value_name = "SOCKET")]
    pub link: PathBuf,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Serve the vTPM to clients that speak swtpm's protocols
    Tpm(TpmOptions),
    /// Fetch the services manifest
    Manifest {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Make one call and show registers and memory after it
    Call(CallOptions),
    /// Ask the SVSM to stop serving
    Shutdown,
    /// Look at UEFI variables and change them
    Efivar {
        #[command(subcommand)]
        command: EfivarCommand,
    },
}

#[derive(Args)]
pub struct TpmOptions {
    /// Data channel on TCP, such as 127.0.0.1:2321
    #[arg(long, value_name = "ADDRESS:PORT", conflicts_with = "unix")]
    pub tcp: Option<SocketAddr>,
    /// Data channel on a UNIX socket
    #[arg(long, value_name = "SOCKET")]
    pub unix: Option<PathBuf>,
    /// Control channel on TCP; swtpm's clients expect the next port
    #[arg(long, value_name = "ADDRESS:PORT", conflicts_with = "ctrl_unix")]
    pub ctrl: Option<SocketAddr>,
    /// Control channel on a UNIX socket, which is all that QEMU's -tpmdev emulator needs
    #[arg(long, value_name = "SOCKET")]
    pub ctrl_unix: Option<PathBuf>,
    /// End when the first client has gone
    #[arg(long)]
    pub terminate: bool,
}

#[derive(Args)]
pub struct CallOptions {
    /// Number of the protocol
    #[arg(value_parser = number)]
    pub protocol: u64,
    /// Number of the call
    #[arg(value_parser = number)]
    pub call: u64,
    /// Argument; where there is memory and this is left out, its address
    #[arg(long, value_parser = number)]
    pub rcx: Option<u64>,
    /// Argument; where there is memory and this is left out, its size
    #[arg(long, value_parser = number)]
    pub rdx: Option<u64>,
    /// Argument
    #[arg(long, value_parser = number, default_value = "0")]
    pub r8: u64,
    /// Argument
    #[arg(long, value_parser = number, default_value = "0")]
    pub r9: u64,
    /// What the guest's memory holds
    #[arg(long, value_name = "FILE")]
    pub buffer: Option<PathBuf>,
    /// Size of the guest's memory, zeros behind the file
    #[arg(long, value_parser = number)]
    pub size: Option<u64>,
    /// Address of the guest's memory
    #[arg(long, value_parser = number, default_value = "0x100000")]
    pub base: u64,
    /// Write the memory after the call to a file instead of showing it
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

#[derive(Subcommand)]
pub enum EfivarCommand {
    /// Show all variables
    List {
        /// As JSON, with their values
        #[arg(long)]
        json: bool,
    },
    /// Show one variable
    Get {
        #[command(flatten)]
        name: Name,
        /// As JSON
        #[arg(long, conflicts_with = "output")]
        json: bool,
        /// Write the value to a file
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Create a variable or replace its value
    Set {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        value: Value,
        /// Attributes: nv, bs, rt joined by commas, or a number
        #[arg(long, value_parser = attributes, default_value = "nv,bs,rt")]
        attributes: u32,
    },
    /// Add to the value of a variable
    Append {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        value: Value,
        /// Attributes of the variable
        #[arg(long, value_parser = attributes, default_value = "nv,bs,rt")]
        attributes: u32,
    },
    /// Remove a variable
    Delete {
        #[command(flatten)]
        name: Name,
    },
    /// Write an authenticated variable from a file as sign-efi-sig-list makes it
    Authset {
        #[command(flatten)]
        name: Name,
        /// EFI_VARIABLE_AUTHENTICATION_2 and the new value
        file: PathBuf,
        /// Add to the value instead of replacing it
        #[arg(long)]
        append: bool,
        /// Attributes of the variable
        #[arg(long, value_parser = attributes, default_value = "nv,bs,rt,at")]
        attributes: u32,
    },
    /// Send what a recorded firmware boot sent, and compare the answers
    BootReplay {
        /// A recording of MM communication (pcap, compressed with gzip)
        file: PathBuf,
        /// Show each answer that differs
        #[arg(long)]
        verbose: bool,
    },
    /// Write all non-volatile variables to a file for other tools
    Export {
        #[arg(long, value_enum)]
        format: ExportFormat,
        /// The file
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
    },
}

#[derive(Clone, Copy, ValueEnum)]
pub enum ExportFormat {
    /// QEMU's format, which virt-fw-vars reads
    Json,
    /// A flash image as OVMF has it
    Fd,
}

#[derive(Args)]
pub struct Name {
    /// Name of the variable
    pub name: String,
    /// Its namespace; that of the variables UEFI defines when left out
    #[arg(long, value_parser = guid, default_value = "8be4df61-93ca-11d2-aa0d-00e098032b8c")]
    pub guid: Guid,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
pub struct Value {
    /// Value in hex
    #[arg(long, value_name = "HEX")]
    pub hex: Option<String>,
    /// Value as text
    #[arg(long, value_name = "TEXT")]
    pub text: Option<String>,
    /// Value from a file
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

impl Value {
    /// The bytes.
    pub fn bytes(&self) -> anyhow::Result<Vec<u8>> {
        Ok(match (&self.hex, &self.text, &self.file) {
            (Some(digits), _, _) => {
                hex::decode(digits).map_err(|error| anyhow::anyhow!("--hex: {error}"))?
            }
            (_, Some(text), _) => text.clone().into_bytes(),
            (_, _, Some(path)) => read(path)?,
            _ => Vec::new(),
        })
    }
}

/// Reads a file, and names it where that fails.
pub fn read(path: &std::path::Path) -> anyhow::Result<Vec<u8>> {
    use anyhow::Context;
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Writes a file, and names it where that fails.
pub fn write(path: &std::path::Path, bytes: &[u8]) -> anyhow::Result<()> {
    use anyhow::Context;
    std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

fn number(text: &str) -> Result<u64, String> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    }
    .map_err(|error| error.to_string())
}

fn guid(text: &str) -> Result<Guid, String> {
    text.parse().map_err(|_| "not a GUID".to_owned())
}

fn attributes(text: &str) -> Result<u32, String> {
    if text.starts_with(|first: char| first.is_ascii_digit()) {
        return number(text)?.try_into().map_err(|_| "too large".into());
    }
    text.split(',').try_fold(0, |bits, name| {
        let bit = match name {
            "nv" => 0x01,
            "bs" => 0x02,
            "rt" => 0x04,
            "at" => 0x20,
            _ => return Err(format!("attribute {name:?}; known are nv, bs, rt, at")),
        };
        Ok(bits | bit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn attributes_are_names_or_a_number() {
        assert_eq!(attributes("nv,bs,rt"), Ok(7));
        assert_eq!(attributes("nv,bs,rt,at"), Ok(0x27));
        assert_eq!(attributes("0x47"), Ok(0x47));
        for bad in ["", "nv,", "NV", "0x1_0000_0000", "4294967296"] {
            assert!(attributes(bad).is_err(), "{bad}");
        }
    }
}
