//! The loop that serves both channels.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
    vec,
    vec::Vec,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{
    Device, Source, Stream,
    control::{self, Control, Effect},
};

/// How long the rest of a message may be under way. Then what came is handled as it is.
const PARTIAL: Duration = Duration::from_millis(500);

/// What is served, and how.
#[derive(Debug)]
pub struct Options {
    /// Where commands come from; none when `SET_DATAFD` will say.
    pub data: Option<Source>,
    /// Where control requests come from.
    pub control: Option<Source>,
    /// Power the device on at once, without waiting for `INIT`.
    pub power_on: bool,
    /// Send `TPM2_Startup` of this type (0 CLEAR, 1 STATE) after every power-on.
    pub startup: Option<u16>,
    /// End when a client of either channel has gone.
    pub terminate: bool,
    /// Close the data connection after every response.
    pub disconnect: bool,
    /// Refuse locality 4.
    pub reject_locality_4: bool,
    /// The server ends when this becomes readable.
    pub stop: Option<OwnedFd>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            data: None,
            control: None,
            power_on: true,
            startup: None,
            terminate: false,
            disconnect: false,
            reject_locality_4: false,
            stop: None,
        }
    }
}

/// One channel: where connections come from, and the one that is being served.
struct Channel {
    source: Option<Source>,
    stream: Option<Stream>,
    /// What has come of the next message, with the descriptors that came with it.
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
    since: Option<Instant>,
}

/// What a ready channel has to say.
enum Event {
    Nothing,
    Connected,
    Message(Vec<u8>, Vec<OwnedFd>),
    Gone,
}

impl Channel {
    fn new(source: Option<Source>) -> Self {
        let (source, stream) = match source {
            Some(Source::Connected(stream)) => (None, Some(stream)),
            other => (other, None),
        };
        Self {
            source,
            stream,
            bytes: Vec::new(),
            descriptors: Vec::new(),
            since: None,
        }
    }

    fn is_over(&self) -> bool {
        self.source.is_none() && self.stream.is_none()
    }

    fn close(&mut self) {
        self.stream = None;
        self.bytes.clear();
        self.descriptors.clear();
        self.since = None;
    }

    /// Takes what is ready; `complete` says whether the bytes so far are a whole message.
    fn ready(&mut self, complete: impl Fn(&[u8]) -> bool) -> Event {
        let Some(stream) = &self.stream else {
            return match self.source.as_ref().map(Source::accept) {
                Some(Ok(stream)) => {
                    self.stream = Some(stream);
                    Event::Connected
                }
                // The client went away between connecting and now.
                _ => Event::Nothing,
            };
        };
        let mut buffer = vec![0; 2 * control::BUFFER as usize];
        match stream.receive(&mut buffer) {
            Ok((0, _)) => Event::Gone,
            Ok((count, descriptors)) => {
                self.bytes.extend_from_slice(&buffer[..count]);
                self.descriptors.extend(descriptors);
                if complete(&self.bytes) {
                    self.take()
                } else {
                    self.since.get_or_insert_with(Instant::now);
                    Event::Nothing
                }
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
                ) =>
            {
                Event::Nothing
            }
            Err(error) => {
                log::debug!("a connection ended: {error}");
                Event::Gone
            }
        }
    }

    fn take(&mut self) -> Event {
        self.since = None;
        Event::Message(
            core::mem::take(&mut self.bytes),
            core::mem::take(&mut self.descriptors),
        )
    }

    /// What came of a message whose rest did not come in time.
    fn overdue(&mut self) -> Event {
        if self.since.is_some_and(|since| since.elapsed() >= PARTIAL) {
            self.take()
        } else {
            Event::Nothing
        }
    }
}

struct Server<'a> {
    device: &'a mut dyn Device,
    state: Control,
    data: Channel,
    control: Channel,
    options: Options,
}

/// Serves until a client ends it, nothing is left to serve, or [`Options::stop`] says so.
///
/// # Errors
/// When the device does not come up at the start, or waiting for clients fails.
pub fn serve(device: &mut dyn Device, mut options: Options) -> io::Result<()> {
    let mut server = Server {
        state: Control {
            locality: 0,
            allow_locality_4: !options.reject_locality_4,
        },
        data: Channel::new(options.data.take()),
        control: Channel::new(options.control.take()),
        device,
        options,
    };
    if server.options.power_on {
        server.device.init(false)?;
        server.powered_on()?;
    }
    while server.step()? {}
    Ok(())
}

impl Server<'_> {
    fn powered_on(&mut self) -> io::Result<()> {
        let Some(kind) = self.options.startup else {
            return Ok(());
        };
        let mut command = vec![0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x44];
        command.extend_from_slice(&kind.to_be_bytes());
        let mut response = Vec::new();
        self.device.execute(0, &command, &mut response)?;
        match response.get(6..10) {
            Some([0, 0, 0, 0]) => Ok(()),
            Some(&[a, b, c, d]) => {
                let code = u32::from_be_bytes([a, b, c, d]);
                Err(io::Error::other(std::format!(
                    "TPM2_Startup gave {code:#05x}"
                )))
            }
            _ => Err(io::Error::other("TPM2_Startup gave no answer")),
        }
    }

    /// Waits for the next event and handles it; `false` at the end.
    fn step(&mut self) -> io::Result<bool> {
        if self.data.is_over() && self.control.is_over() {
            return Ok(false);
        }
        let [stop, control, data] = self.wait()?;
        if stop {
            return Ok(false);
        }
        let event = if control {
            self.control
                .ready(|bytes| bytes.len() >= control::size(bytes))
        } else {
            self.control.overdue()
        };
        if !self.on_control(event)? {
            return Ok(false);
        }
        let event = if data {
            self.data.ready(is_whole_command)
        } else {
            self.data.overdue()
        };
        self.on_data(event)
    }

    /// Which of stop, control and data are ready.
    fn wait(&self) -> io::Result<[bool; 3]> {
        let descriptors = [
            self.options.stop.as_ref().map(AsFd::as_fd),
            descriptor(&self.control),
            descriptor(&self.data),
        ];
        let mut polled: Vec<_> = descriptors
            .iter()
            .flatten()
            .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
            .collect();
        let partial = self.control.since.is_some() || self.data.since.is_some();
        // Half the limit: a message is then overdue at the next look but one.
        let limit = Timespec {
            tv_sec: 0,
            tv_nsec: 250_000_000,
        };
        match poll(&mut polled, partial.then_some(&limit)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut results = polled.iter().map(|fd| !fd.revents().is_empty());
        Ok(descriptors.map(|fd| fd.is_some() && results.next().unwrap_or(false)))
    }

    fn on_control(&mut self, event: Event) -> io::Result<bool> {
        match event {
            Event::Nothing | Event::Connected => Ok(true),
            Event::Gone => {
                self.control.close();
                Ok(!self.options.terminate)
            }
            Event::Message(request, mut descriptors) => {
                let descriptor = descriptors.pop();
                let (reply, effect) =
                    control::handle(&mut self.state, self.device, &request, descriptor.is_some());
                if control::number(&request) == Some(control::SET_DATAFD)
                    && let Some(descriptor) = descriptor
                {
                    self.data.close();
                    self.data.stream = Some(Stream::new(descriptor));
                    self.device.client_connected();
                }
                if effect == Effect::PoweredOn
                    && let Err(error) = self.powered_on()
                {
                    log::error!("{error}");
                }
                if self
                    .control
                    .stream
                    .as_ref()
                    .is_some_and(|stream| stream.send(&reply).is_err())
                {
                    self.control.close();
                }
                Ok(effect != Effect::End)
            }
        }
    }

    fn on_data(&mut self, event: Event) -> io::Result<bool> {
        match event {
            Event::Nothing => Ok(true),
            Event::Connected => {
                self.device.client_connected();
                Ok(true)
            }
            Event::Gone => {
                self.data.close();
                self.device.client_gone();
                Ok(!self.options.terminate)
            }
            Event::Message(command, _) => {
                let mut response = Vec::new();
                let executed = if self.device.is_on() {
                    self.device
                        .execute(self.state.locality, &command, &mut response)
                } else {
                    response = FAILURE.to_vec();
                    Ok(())
                };
                let sent = executed.and_then(|()| match &self.data.stream {
                    Some(stream) => stream.send(&response),
                    None => Ok(()),
                });
                if let Err(error) = &sent {
                    log::error!("data channel: {error}");
                }
                if sent.is_err() || self.options.disconnect {
                    return self.on_data(Event::Gone);
                }
                Ok(true)
            }
        }
    }
}

/// `TPM_RC_FAILURE`, as a TPM that is off answers.
const FAILURE: [u8; 10] = [0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x01, 0x01];

/// Whether as many bytes are there as the header says; a header that cannot be right is
/// for the TPM to answer.
fn is_whole_command(bytes: &[u8]) -> bool {
    match bytes.get(2..6).and_then(<[u8]>::first_chunk) {
        Some(size) => {
            let size = u32::from_be_bytes(*size);
            size > control::BUFFER || bytes.len() >= size.max(10) as usize
        }
        None => false,
    }
}

fn descriptor(channel: &Channel) -> Option<std::os::fd::BorrowedFd<'_>> {
    match (&channel.stream, &channel.source) {
        (Some(stream), _) => Some(stream.as_fd()),
        (None, Some(source)) => Some(source.as_fd()),
        (None, None) => None,
    }
}
