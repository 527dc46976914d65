//! The server as clients of swtpm's protocols see it, with a device that only remembers what
//! it was asked.
#![cfg(feature = "server")]

use std::{
    io::{self, IoSlice, Read, Write},
    net::{Ipv4Addr, TcpStream},
    os::{fd::AsFd, unix::net::UnixStream},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use vtpm::server::{Device, Options, Source, Stream, serve};

/// Answers every command with its locality and its bytes.
#[derive(Clone, Default)]
struct Echo {
    on: bool,
    established: bool,
    calls: Arc<Mutex<Vec<String>>>,
}

impl Echo {
    fn note(&self, what: impl Into<String>) {
        self.calls.lock().unwrap().push(what.into());
    }
}

impl Device for Echo {
    fn init(&mut self, delete_volatile: bool) -> io::Result<()> {
        self.note(format!("init {delete_volatile}"));
        self.on = true;
        Ok(())
    }
    fn stop(&mut self) -> io::Result<()> {
        self.note("stop");
        self.on = false;
        Ok(())
    }
    fn is_on(&self) -> bool {
        self.on
    }
    fn execute(&mut self, locality: u8, command: &[u8], response: &mut Vec<u8>) -> io::Result<()> {
        if command.get(6..10) == Some(&[0, 0, 1, 0x44]) {
            self.note("startup");
            *response = [&[0x80, 1, 0, 0, 0, 10][..], &[0; 4]].concat();
        } else {
            *response = [&[locality][..], command].concat();
        }
        Ok(())
    }
    fn established(&mut self) -> io::Result<bool> {
        Ok(self.established)
    }
    fn reset_established(&mut self, locality: u8) -> io::Result<bool> {
        self.established &= locality < 3;
        Ok(locality >= 3)
    }
    fn hash_start(&mut self) -> io::Result<()> {
        self.note("hash start");
        self.established = true;
        Ok(())
    }
    fn hash_data(&mut self, data: &[u8]) -> io::Result<()> {
        self.note(format!("hash {}", data.len()));
        Ok(())
    }
    fn hash_end(&mut self) -> io::Result<()> {
        self.note("hash end");
        Ok(())
    }
}

struct Running {
    thread: JoinHandle<io::Result<()>>,
    device: Echo,
    data: Option<u16>,
    control: UnixStream,
}

/// A server with a TCP data channel and a connected control channel.
fn start(change: impl FnOnce(&mut Options)) -> Running {
    let (mine, theirs) = UnixStream::pair().unwrap();
    mine.set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut options = Options {
        data: Some(Source::Tcp(listener)),
        control: Some(Source::Connected(Stream::new(theirs.into()))),
        power_on: false,
        ..Options::default()
    };
    change(&mut options);
    let device = Echo::default();
    let mut served = device.clone();
    let thread = thread::spawn(move || serve(&mut served, options));
    Running {
        thread,
        device,
        data: Some(port),
        control: mine,
    }
}

impl Running {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.data.unwrap())).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        stream
    }

    fn ask(&mut self, request: &[u8], answer: usize) -> Vec<u8> {
        self.control.write_all(request).unwrap();
        let mut bytes = vec![0; answer];
        self.control.read_exact(&mut bytes).unwrap();
        bytes
    }

    fn end(mut self) {
        assert_eq!(self.ask(&[0, 0, 0, 3], 4), [0; 4]);
        self.thread.join().unwrap().unwrap();
    }
}

fn command(size: u8) -> Vec<u8> {
    let mut bytes = vec![7; usize::from(size)];
    bytes[..10].copy_from_slice(&[0x80, 1, 0, 0, 0, size, 0, 0, 0, 1]);
    bytes
}

fn exchange(stream: &mut (impl Read + Write), command: &[u8], answer: usize) -> Vec<u8> {
    stream.write_all(command).unwrap();
    let mut bytes = vec![0; answer];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

#[test]
fn commands_fail_until_the_power_is_on_and_again_when_it_is_off() {
    let mut server = start(|_| {});
    let mut data = server.connect();
    let failure = [0x80, 1, 0, 0, 0, 10, 0, 0, 1, 1];
    assert_eq!(exchange(&mut data, &command(12), 10), failure);
    assert_eq!(server.ask(&[0, 0, 0, 2, 0, 0, 0, 1], 4), [0; 4]);
    assert_eq!(exchange(&mut data, &command(12), 13)[1..], command(12));
    assert_eq!(server.ask(&[0, 0, 0, 0xE], 4), [0; 4]);
    assert_eq!(exchange(&mut data, &command(12), 10), failure);
    assert_eq!(*server.device.calls.lock().unwrap(), ["init true", "stop"]);
    server.end();
}

#[test]
fn the_control_channel_answers_as_documented() {
    let mut server = start(|_| {});
    let capabilities = server.ask(&[0, 0, 0, 1], 8);
    assert_eq!(capabilities[..4], [0; 4]);
    // What QEMU insists on: init, shutdown, flag and its reset, locality, stop, descriptor, size.
    let needed = 1 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 7 | 1 << 10 | 1 << 12 | 1 << 13;
    let given = u32::from_be_bytes(capabilities[4..].try_into().unwrap());
    assert_eq!(given & needed, needed);
    let sizes = server.ask(&[0, 0, 0, 0x11, 0, 0, 0x10, 0], 16);
    assert_eq!(
        sizes,
        [0u32, 4096, 4096, 4096].map(u32::to_be_bytes).concat()
    );
    assert_eq!(server.ask(&[0, 0, 0, 2, 0, 0, 0, 0], 4), [0; 4]);
    assert_eq!(server.ask(&[0, 0, 0, 4], 8), [0; 8]);
    assert_eq!(server.ask(&[0, 0, 0, 6], 4), [0; 4]);
    assert_eq!(server.ask(&[0, 0, 0, 7, 0, 0, 0, 3, 1, 2, 3], 4), [0; 4]);
    assert_eq!(server.ask(&[0, 0, 0, 8], 4), [0; 4]);
    assert_eq!(server.ask(&[0, 0, 0, 4], 8), [0, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(server.ask(&[0, 0, 0, 0xB, 2, 0, 0, 0], 4), [0, 0, 0, 61]);
    assert_eq!(server.ask(&[0, 0, 0, 0xB, 3], 4), [0; 4]);
    assert_eq!(server.ask(&[0, 0, 0, 4], 8), [0; 8]);
    assert_eq!(server.ask(&[0, 0, 0, 9], 4), [0; 4]);
    assert_eq!(server.ask(&[0, 0, 0, 0x77], 4), [0, 0, 0, 10]);
    assert_eq!(
        *server.device.calls.lock().unwrap(),
        ["init false", "hash start", "hash 3", "hash end"]
    );
    server.end();
}

#[test]
fn commands_carry_the_locality_that_was_set() {
    let mut server = start(|options| {
        options.power_on = true;
        options.reject_locality_4 = true;
    });
    let mut data = server.connect();
    assert_eq!(exchange(&mut data, &command(10), 11)[0], 0);
    // The size of QEMU's request, and that of tpm2-tss.
    assert_eq!(server.ask(&[0, 0, 0, 5, 3, 0, 0, 0], 4), [0; 4]);
    assert_eq!(exchange(&mut data, &command(10), 11)[0], 3);
    assert_eq!(server.ask(&[0, 0, 0, 5, 1], 4), [0; 4]);
    assert_eq!(server.ask(&[0, 0, 0, 5, 4], 4), [0, 0, 0, 61]);
    assert_eq!(server.ask(&[0, 0, 0, 5, 5], 4), [0, 0, 0, 61]);
    assert_eq!(exchange(&mut data, &command(10), 11)[0], 1);
    server.end();
}

#[test]
fn pieces_are_put_together_and_wrong_sizes_are_left_to_the_tpm() {
    let server = start(|options| options.power_on = true);
    let mut data = server.connect();
    let whole = command(40);
    data.write_all(&whole[..4]).unwrap();
    thread::sleep(Duration::from_millis(50));
    assert_eq!(exchange(&mut data, &whole[4..], 41)[1..], whole);
    // Less than its header says: executed after a time, as it is.
    assert_eq!(exchange(&mut data, &whole[..20], 21)[1..], whole[..20]);
    // More, or a size that cannot be: at once.
    let longer = [&whole[..], &[1; 5]].concat();
    assert_eq!(exchange(&mut data, &longer, 46)[1..], longer);
    let mut huge = whole.clone();
    huge[2] = 0xFF;
    assert_eq!(exchange(&mut data, &huge, 41)[1..], huge);
    server.end();
}

#[test]
fn clients_are_served_one_after_the_other() {
    let server = start(|options| options.power_on = true);
    let mut first = server.connect();
    let mut second = server.connect();
    assert_eq!(exchange(&mut first, &command(10), 11).len(), 11);
    second.write_all(&command(12)).unwrap();
    assert_eq!(exchange(&mut first, &command(10), 11).len(), 11);
    drop(first);
    let mut answer = [0; 13];
    second.read_exact(&mut answer).unwrap();
    server.end();
}

#[test]
fn a_data_connection_can_come_over_the_control_channel() {
    let mut server = start(|options| options.data = None);
    let (mut mine, theirs) = UnixStream::pair().unwrap();
    mine.set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [theirs.as_fd()];
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
    sendmsg(
        &server.control,
        &[IoSlice::new(&[0, 0, 0, 0x10])],
        &mut ancillary,
        SendFlags::empty(),
    )
    .unwrap();
    let mut answer = [9; 4];
    server.control.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [0; 4]);
    assert_eq!(server.ask(&[0, 0, 0, 2, 0, 0, 0, 0], 4), [0; 4]);
    assert_eq!(exchange(&mut mine, &command(10), 11)[1..], command(10));
    // Without a descriptor the request fails and changes nothing.
    assert_eq!(server.ask(&[0, 0, 0, 0x10], 4), [0, 0, 0, 9]);
    assert_eq!(exchange(&mut mine, &command(10), 11)[1..], command(10));
    server.end();
}

#[test]
fn startup_is_sent_when_asked_for() {
    let server = start(|options| {
        options.power_on = true;
        options.startup = Some(0);
    });
    let mut data = server.connect();
    assert_eq!(exchange(&mut data, &command(10), 11).len(), 11);
    assert_eq!(
        *server.device.calls.lock().unwrap(),
        ["init false", "startup"]
    );
    server.end();
}

#[test]
fn the_server_ends_with_its_client_when_told_to() {
    let server = start(|options| {
        options.power_on = true;
        options.terminate = true;
    });
    let mut data = server.connect();
    assert_eq!(exchange(&mut data, &command(10), 11).len(), 11);
    drop(data);
    server.thread.join().unwrap().unwrap();
}

#[test]
fn the_server_ends_when_the_stop_descriptor_says_so_and_removes_its_socket() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("control");
    let (stop, mut signal) = UnixStream::pair().unwrap();
    let server = start(|options| {
        options.control = Some(Source::unix(&path).unwrap());
        options.stop = Some(stop.into());
    });
    let mut control = UnixStream::connect(&path).unwrap();
    assert_eq!(exchange(&mut control, &[0, 0, 0, 1], 8)[..4], [0; 4]);
    signal.write_all(b"x").unwrap();
    server.thread.join().unwrap().unwrap();
    assert!(!path.exists());
}
