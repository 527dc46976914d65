//! Running in the background, ending on a signal, and the file with the process number.
//!
//! Always true: the process that was started returns success only after the one in the
//! background has its sockets and its files.

use std::{
    env,
    fs::File,
    io::{self, BufRead as _, BufReader},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
};

use signal_hook::{consts, low_level::pipe};

const READY: &str = "ready";

/// Starts this program again in the background and waits until it is ready.
pub fn start() -> io::Result<ExitCode> {
    let mut child = Command::new(env::current_exe()?)
        .args(env::args_os().skip(1))
        .arg("--detached")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    if let Some(output) = child.stdout.take() {
        BufReader::new(output).read_line(&mut line)?;
    }
    if line.trim() == READY {
        return Ok(ExitCode::SUCCESS);
    }
    // It has said why on the standard error.
    child.wait()?;
    Ok(ExitCode::FAILURE)
}

/// The background process leaves its terminal and says that it is ready.
pub fn detach() -> io::Result<()> {
    // Fails only for the leader of a process group, which has no terminal to leave.
    let _ = rustix::process::setsid();
    println!("{READY}");
    let nowhere = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&nowhere)?;
    rustix::stdio::dup2_stdout(&nowhere)?;
    rustix::stdio::dup2_stderr(&nowhere)?;
    Ok(())
}

/// A descriptor that becomes readable when the process is asked to end.
pub fn stop_on_signal() -> io::Result<OwnedFd> {
    let (stop, signal) = UnixStream::pair()?;
    for number in [consts::SIGTERM, consts::SIGINT] {
        pipe::register(number, signal.try_clone()?)?;
    }
    Ok(stop.into())
}

/// A file with the process number, removed at the end.
pub struct PidFile(PathBuf);

impl PidFile {
    pub fn write(path: PathBuf) -> io::Result<Self> {
        std::fs::write(&path, format!("{}\n", std::process::id()))?;
        Ok(Self(path))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = std::fs::remove_file(&self.0);
    }
}
