//! `BPF_PROG_TEST_RUN`, raw sockets.
#![expect(unsafe_code, reason = "raw system calls")]

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

const BPF_PROG_TEST_RUN: libc::c_int = 10;
const SKB_BYTES: usize = 192;

#[repr(C)]
#[derive(Default)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    padding: u32,
}

/// The program of an id.
pub fn program(id: u32) -> OwnedFd {
    let info = aya::programs::loaded_programs()
        .flatten()
        .find(|info| info.id() == id)
        .unwrap();
    info.fd().unwrap().as_fd().try_clone_to_owned().unwrap()
}

/// Runs a packet through a program as if at an interface: (return code, nanoseconds a run).
pub fn test_run(program: &OwnedFd, frame: &[u8], ifindex: u32, ingress: u32, repeat: u32) -> (i32, u32) {
    let mut skb = [0u8; SKB_BYTES];
    skb[36..40].copy_from_slice(&ingress.to_ne_bytes());
    skb[40..44].copy_from_slice(&ifindex.to_ne_bytes());
    let mut attr = TestRun {
        prog_fd: program.as_raw_fd() as u32,
        data_in: frame.as_ptr() as u64,
        data_size_in: frame.len() as u32,
        ctx_in: skb.as_ptr() as u64,
        ctx_size_in: SKB_BYTES as u32,
        repeat,
        ..TestRun::default()
    };
    // SAFETY: the buffers live as long as the call.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_TEST_RUN,
            &raw mut attr,
            size_of::<TestRun>(),
        )
    };
    assert_eq!(outcome, 0, "{}", std::io::Error::last_os_error());
    (attr.retval as i32, attr.duration)
}
