//! A blocking peer that speaks layers.

use super::PATIENCE;
use doorkeeper::Layer;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

/// A blocking client that speaks a stack of layers, the lowest first.
pub struct Speaker {
    pub stream: TcpStream,
    layers: Vec<Box<dyn Layer>>,
    /// What each layer has not consumed.
    left: Vec<Vec<u8>>,
    plain: Vec<u8>,
    eof: bool,
}

impl Speaker {
    pub fn connect(address: SocketAddr, layers: Vec<Box<dyn Layer>>) -> Speaker {
        Speaker::new(super::client(address), layers)
    }

    pub fn new(stream: TcpStream, layers: Vec<Box<dyn Layer>>) -> Speaker {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let left = vec![Vec::new(); layers.len()];
        let mut speaker = Speaker {
            stream,
            layers,
            left,
            plain: Vec::new(),
            eof: false,
        };
        speaker.decode(0, &[]);
        speaker
    }

    /// Gives bytes from the wire to the layers from this one upwards.
    fn decode(&mut self, from: usize, new: &[u8]) {
        if from == self.layers.len() {
            self.plain.extend(new);
            return;
        }
        let mut left = std::mem::take(&mut self.left[from]);
        left.extend(new);
        let (mut plain, mut wire) = (Vec::new(), Vec::new());
        let mut start = 0;
        loop {
            let rest = &left[start..];
            let consumed = self.layers[from].read(rest, &mut plain, &mut wire);
            let consumed = consumed.unwrap();
            start += consumed;
            if consumed == 0 || start == left.len() {
                break;
            }
        }
        self.left[from] = left.split_off(start);
        self.send_below(from, wire);
        self.decode(from + 1, &plain);
    }

    /// Sends what a layer wrote through those below it.
    fn send_below(&mut self, from: usize, mut bytes: Vec<u8>) {
        for below in (0..from).rev() {
            while !self.layers[below].is_open() {
                self.hear();
            }
            let mut wire = Vec::new();
            self.layers[below].write(&bytes, &mut wire).unwrap();
            bytes = wire;
        }
        self.stream.write_all(&bytes).unwrap();
    }

    /// Reads once.
    fn hear(&mut self) {
        let mut buffer = [0; 65_536];
        let count = self.stream.read(&mut buffer).unwrap();
        self.eof = count == 0;
        self.decode(0, &buffer[..count]);
    }

    pub fn send(&mut self, bytes: &[u8]) {
        while self.layers.iter().any(|layer| !layer.is_open()) {
            self.hear();
        }
        self.send_below(self.layers.len(), bytes.to_vec());
    }

    /// Reads so many plain bytes.
    pub fn read_exactly(&mut self, count: usize) -> Vec<u8> {
        while self.plain.len() < count {
            self.hear();
            assert!(!self.eof, "{} bytes of {count}", self.plain.len());
        }
        self.plain.drain(..count).collect()
    }

    /// The end of every layer, and the FIN.
    pub fn end(&mut self) {
        for layer in (0..self.layers.len()).rev() {
            let mut wire = Vec::new();
            self.layers[layer].end(&mut wire).unwrap();
            self.send_below(layer, wire);
        }
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Reads to the FIN. What is left, and whether every layer was ended.
    pub fn read_to_end(&mut self) -> (Vec<u8>, Vec<bool>) {
        while !self.eof {
            self.hear();
        }
        let ended = self.layers.iter().map(|layer| layer.has_ended()).collect();
        (std::mem::take(&mut self.plain), ended)
    }
}
