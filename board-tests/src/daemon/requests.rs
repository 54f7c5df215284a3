//! Single requests to ctnetlink, for flows that the load generator does not make.

use std::io;
use std::os::fd::OwnedFd;

use firmware_ctd::wire::request::{self, CreateFlags};
use firmware_ctd::wire::{Conntrack, Full, Message, Messages, Writer};

use crate::lab::{Context, Netns};
use crate::load::sys;

/// Room for a request and for its answer.
const ROOM: usize = 4096;

/// A socket for requests in a namespace.
#[derive(Debug)]
pub struct Requests {
    socket: OwnedFd,
}

impl Requests {
    /// Opens it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn open(netns: &Netns) -> io::Result<Self> {
        let open = || -> io::Result<OwnedFd> {
            let socket = sys::netfilter_socket()?;
            sys::bind(&socket, 0)?;
            sys::receive_timeout(&socket, 10)?;
            Ok(socket)
        };
        let socket = netns.run(|| open().context("opening a netlink socket"));
        Ok(Self { socket: socket.map_err(io::Error::other)? })
    }

    /// Makes a flow.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn create(&self, ct: &Conntrack<'_>) -> io::Result<()> {
        let flags = CreateFlags { ack: true, exclusive: true };
        self.ask(|writer| request::create(writer, 1, flags, ct))
    }

    /// Changes a flow.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn update(&self, ct: &Conntrack<'_>) -> io::Result<()> {
        self.ask(|writer| request::update(writer, 1, true, ct))
    }

    fn ask(&self, write: impl FnOnce(&mut Writer<'_>) -> Result<(), Full>) -> io::Result<()> {
        let mut buffer = [0; ROOM];
        let mut writer = Writer::new(&mut buffer);
        write(&mut writer).map_err(|full| io::Error::other(full.to_string()))?;
        sys::send(&self.socket, writer.as_bytes())?;
        let length = sys::receive(&self.socket, &mut buffer)?;
        let answer = Messages::new(&buffer[..length]).flatten().find_map(|raw| {
            let Ok(Message::Response(response)) = Message::parse(&raw) else { return None };
            Some(response.errno)
        });
        match answer {
            Some(0) => Ok(()),
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None => Err(io::Error::other("the kernel gave no answer")),
        }
    }
}
