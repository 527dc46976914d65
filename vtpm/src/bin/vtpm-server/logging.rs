//! Log lines: to the standard error, or where `--log` says.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    sync::Mutex,
};

use log::{LevelFilter, Log, Metadata, Record};

use crate::cli::Error;

struct Lines(Option<Mutex<File>>);

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = format!(
            "swtpm: {}: {}\n",
            record.level().as_str().to_lowercase(),
            record.args()
        );
        // A line that cannot be written has no other place to go.
        let _ = match &self.0 {
            Some(file) => match file.lock() {
                Ok(mut file) => file.write_all(line.as_bytes()),
                Err(_) => Ok(()),
            },
            None => std::io::stderr().write_all(line.as_bytes()),
        };
    }

    fn flush(&self) {}
}

/// Starts logging as the value of `--log` says.
pub fn start(option: Option<&str>) -> Result<(), Error> {
    let mut file = None;
    let mut level = LevelFilter::Warn;
    let mut truncate = false;
    for item in option
        .unwrap_or_default()
        .split(',')
        .filter(|item| !item.is_empty())
    {
        match item.split_once('=').unwrap_or((item, "")) {
            ("file", "-") => level = LevelFilter::Off,
            ("file", path) => file = Some(path.to_owned()),
            ("fd", number) => file = Some(format!("/dev/fd/{number}")),
            ("level", number) => {
                level = match number.parse::<u8>() {
                    Ok(0) => LevelFilter::Off,
                    Ok(1..5) => LevelFilter::Info,
                    _ => LevelFilter::Trace,
                }
            }
            ("truncate", _) => truncate = true,
            ("prefix", _) => {}
            _ => {
                return Err(Error::Item {
                    option: "--log",
                    item: item.to_owned(),
                });
            }
        }
    }
    let file = file
        .map(|path| {
            OpenOptions::new()
                .create(true)
                .write(true)
                .append(!truncate)
                .truncate(truncate)
                .open(path)
        })
        .transpose()?;
    log::set_max_level(level);
    // Fails only when a logger is there already; this is the only place that sets one.
    let _ = log::set_boxed_logger(Box::new(Lines(file.map(Mutex::new))));
    Ok(())
}
