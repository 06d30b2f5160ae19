//! TCP streams as captures that tshark reads.

use std::path::Path;
use std::process::Command;

/// Writes one direction of a connection as a capture of raw IPv4 packets, one a segment.
pub(crate) fn write(path: &Path, segments: &[&[u8]], port: u16) {
    let mut out = Vec::new();
    // Magic, version 2.4, zone, accuracy, longest packet, LINKTYPE_RAW.
    for word in [0xa1b2_c3d4u32, 0x0002_0004, 0, 0, 65535, 101] {
        out.extend(word.to_be_bytes());
    }
    let mut sequence = 1u32;
    let syn: (&[u8], u8) = (&[], 0x02);
    let segments = segments.iter().map(|chunk| (*chunk, 0x18));
    for (index, (chunk, flags)) in std::iter::once(syn).chain(segments).enumerate() {
        let total = 40 + chunk.len();
        out.extend((index as u32).to_be_bytes());
        out.extend(0u32.to_be_bytes());
        out.extend((total as u32).to_be_bytes());
        out.extend((total as u32).to_be_bytes());
        let mut ip = vec![0x45, 0];
        ip.extend((total as u16).to_be_bytes());
        ip.extend([0, 0, 0x40, 0, 64, 6, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
        let mut sum: u32 = ip
            .chunks(2)
            .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
            .sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        ip[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
        out.extend(ip);
        out.extend(40000u16.to_be_bytes());
        out.extend(port.to_be_bytes());
        let at = if flags == 0x02 { 0 } else { sequence };
        out.extend(at.to_be_bytes());
        out.extend(0u32.to_be_bytes());
        out.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        out.extend(chunk);
        sequence = sequence.wrapping_add(chunk.len() as u32);
    }
    std::fs::write(path, out).unwrap();
}

/// What tshark has to say about a capture: its summary of the messages, without notes of TCP's own.
pub(crate) fn tshark(path: &Path, port: u16, arguments: &[&str]) -> String {
    let output = Command::new("tshark")
        .arg("-r")
        .arg(path)
        .args(["-d", &format!("tcp.port=={port},bmp")])
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}
