//! The 16550 UART with its FIFOs, polled.
//!
//! Registers as in the PC16550D data sheet, section 8. The line settings matter to
//! no virtual machine; they are set all the same so that a real one would work.

use super::stream::ByteStream;
use crate::platform::PortIo;

/// Port of the first register of each COM port.
pub const COM1: u16 = 0x3f8;
/// COM3: the attestation proxy.
pub const COM3: u16 = 0x3e8;
/// COM4: the guest link.
pub const COM4: u16 = 0x2e8;

/// Bytes that the transmit FIFO takes when it is empty.
const FIFO_SIZE: usize = 16;

const DATA: u16 = 0;
const INTERRUPT_ENABLE: u16 = 1;
const FIFO_CONTROL: u16 = 2;
const LINE_CONTROL: u16 = 3;
const MODEM_CONTROL: u16 = 4;
const LINE_STATUS: u16 = 5;
const SCRATCH: u16 = 7;

const LINE_DIVISOR_ACCESS: u8 = 0x80;
const LINE_8N1: u8 = 0x03;
/// FIFOs on and emptied; 14 bytes in the receiver before it would interrupt. Nothing here
/// interrupts, but QEMU takes from its back end only what is missing until then: one byte
/// a turn of its main loop with the lowest setting.
const FIFO_RESET: u8 = 0xc7;
/// Data terminal ready, request to send.
const MODEM_READY: u8 = 0x03;
const STATUS_DATA_READY: u8 = 0x01;
const STATUS_TRANSMIT_EMPTY: u8 = 0x20;

/// A UART.
pub struct Uart<'a> {
    ports: &'a dyn PortIo,
    base: u16,
}

impl<'a> Uart<'a> {
    /// Sets up the UART at `base` (115200 baud, 8N1, FIFOs on, no interrupts), or
    /// none where there is no such device.
    pub fn open(ports: &'a dyn PortIo, base: u16) -> Option<Self> {
        let uart = Self { ports, base };
        for probe in [0x5a, 0xa5] {
            uart.write(SCRATCH, probe);
            if uart.read(SCRATCH) != probe {
                return None;
            }
        }
        uart.write(INTERRUPT_ENABLE, 0);
        uart.write(LINE_CONTROL, LINE_DIVISOR_ACCESS);
        uart.write(DATA, 1);
        uart.write(INTERRUPT_ENABLE, 0);
        uart.write(LINE_CONTROL, LINE_8N1);
        uart.write(FIFO_CONTROL, FIFO_RESET);
        uart.write(MODEM_CONTROL, MODEM_READY);
        Some(uart)
    }

    fn read(&self, register: u16) -> u8 {
        self.ports.read8(self.base + register)
    }

    fn write(&self, register: u16, value: u8) {
        self.ports.write8(self.base + register, value);
    }
}

impl ByteStream for Uart<'_> {
    fn read_some(&mut self, buffer: &mut [u8]) -> usize {
        let mut count = 0;
        for byte in buffer {
            if self.read(LINE_STATUS) & STATUS_DATA_READY == 0 {
                break;
            }
            *byte = self.read(DATA);
            count += 1;
        }
        count
    }

    fn write_some(&mut self, data: &[u8]) -> usize {
        if data.is_empty() || self.read(LINE_STATUS) & STATUS_TRANSMIT_EMPTY == 0 {
            return 0;
        }
        let count = data.len().min(FIFO_SIZE);
        for &byte in &data[..count] {
            self.write(DATA, byte);
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::VecDeque;
    use alloc::vec::Vec;
    use spin::Mutex;

    /// A UART that loops what it sends back to its receiver.
    #[derive(Default)]
    struct Loopback {
        scratch: Mutex<u8>,
        line_control: Mutex<u8>,
        fifo: Mutex<VecDeque<u8>>,
    }

    impl PortIo for Loopback {
        fn read8(&self, port: u16) -> u8 {
            match port - COM3 {
                DATA => self.fifo.lock().pop_front().unwrap_or(0xff),
                LINE_STATUS if self.fifo.lock().is_empty() => STATUS_TRANSMIT_EMPTY,
                LINE_STATUS => STATUS_DATA_READY,
                SCRATCH => *self.scratch.lock(),
                _ => 0,
            }
        }

        fn write8(&self, port: u16, value: u8) {
            match port - COM3 {
                DATA if *self.line_control.lock() & LINE_DIVISOR_ACCESS == 0 => {
                    let mut fifo = self.fifo.lock();
                    assert!(fifo.len() < FIFO_SIZE, "FIFO overrun");
                    fifo.push_back(value);
                }
                LINE_CONTROL => *self.line_control.lock() = value,
                SCRATCH => *self.scratch.lock() = value,
                _ => {}
            }
        }

        fn write16(&self, _port: u16, _value: u16) {}

        fn write32(&self, _port: u16, _value: u32) {}
    }

    /// Ports with nothing behind.
    struct Nothing;

    impl PortIo for Nothing {
        fn read8(&self, _port: u16) -> u8 {
            0xff
        }

        fn write8(&self, _port: u16, _value: u8) {}

        fn write16(&self, _port: u16, _value: u16) {}

        fn write32(&self, _port: u16, _value: u32) {}
    }

    #[test]
    fn absent_uart_is_noticed() {
        assert!(Uart::open(&Nothing, COM3).is_none());
    }

    #[test]
    fn bytes_go_through_in_fifo_sized_pieces() {
        let ports = Loopback::default();
        let mut uart = Uart::open(&ports, COM3).unwrap();
        let data: Vec<u8> = (0..100).collect();
        let (mut sent, mut received) = (0, Vec::new());
        while received.len() < data.len() {
            sent += uart.write_some(&data[sent..]);
            let mut buffer = [0; 7];
            let count = uart.read_some(&mut buffer);
            received.extend_from_slice(&buffer[..count]);
        }
        assert_eq!(received, data);
        assert_eq!(uart.read_some(&mut [0; 4]), 0);
    }
}
