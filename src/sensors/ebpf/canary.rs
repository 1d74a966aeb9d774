//! A small child that does everything the recorder must see, so that a hook which attached
//! but never fires is found before the job starts.
#![expect(unsafe_code, reason = "fork and raw system calls, one for each hook")]

use std::ffi::{CStr, CString};
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nix::libc;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};

/// The name in the answer; `.invalid` never resolves.
pub(super) const NAME: &str = "canary.edamame-guard.invalid";

/// Everything the child needs, made before the fork: afterwards it may not allocate.
#[derive(Debug)]
pub(super) struct Canary {
    folder: PathBuf,
    names: Names,
    listener: TcpListener,
    image: Option<OwnedFd>,
}

#[derive(Debug)]
struct Names {
    first: CString,
    second: CString,
    third: CString,
    fourth: CString,
    folder: CString,
}

impl Canary {
    pub(super) fn new() -> io::Result<Self> {
        let folder = new_folder()?;
        let name = |name: &str| CString::new(folder.join(name).as_os_str().as_bytes());
        Ok(Self {
            names: Names {
                first: name("1")?,
                second: name("2")?,
                third: name("3")?,
                fourth: name("4")?,
                folder: name("folder")?,
            },
            listener: TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?,
            image: image().ok(),
            folder,
        })
    }

    /// The port that nobody but the child connects to; tells its records from others.
    pub(super) fn port(&self) -> io::Result<u16> {
        Ok(self.listener.local_addr()?.port())
    }

    /// Runs the child to its end.
    pub(super) fn run(&self) -> io::Result<()> {
        let port = self.port()?;
        // SAFETY: The child calls `act` alone, which makes system calls on values made above and
        // never returns; it takes no lock and does not allocate.
        match unsafe { fork() }? {
            ForkResult::Child => act(&self.names, port, self.image.as_ref().map_or(-1, AsRawFd::as_raw_fd)),
            ForkResult::Parent { child } => waitpid(child, None).map(|_| ())?,
        }
        Ok(())
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Sends one DNS answer over loopback. Fails when this host's own name server holds the port.
pub(super) fn answer() -> io::Result<()> {
    // Any loopback address will do; a server on 127.0.0.1 or 127.0.0.53 is not in the way.
    let server = UdpSocket::bind((Ipv4Addr::new(127, 83, 53, 83), 53))?;
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut message = vec![0, 1, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
    for label in NAME.split('.') {
        message.push(u8::try_from(label.len()).unwrap_or_default());
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
    server.send_to(&message, client.local_addr()?)?;
    Ok(())
}

/// A folder of our own, where a rename can succeed.
fn new_folder() -> io::Result<PathBuf> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for parent in [std::env::temp_dir().as_path(), Path::new("/dev/shm"), Path::new("/run"), Path::new(".")] {
        let parent = parent.canonicalize().unwrap_or_else(|_| parent.to_owned());
        match nix::unistd::mkdtemp(&parent.join("edamame-guard-canary-XXXXXX")) {
            Ok(folder) => return Ok(folder),
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}

/// A program of a hundred bytes in memory: it needs no file on the host and ends at once.
fn image() -> io::Result<OwnedFd> {
    const EXECUTABLE: libc::c_uint = 0x10; // MFD_EXEC, since 6.3.
    const LOAD_ADDRESS: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    #[cfg(target_arch = "x86_64")]
    const MACHINE: u16 = 62;
    #[cfg(target_arch = "x86_64")]
    const CODE: &[u8] = &[0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05]; // exit(0)
    #[cfg(target_arch = "aarch64")]
    const MACHINE: u16 = 183;
    #[cfg(target_arch = "aarch64")]
    const CODE: &[u8] = &[0, 0, 0x80, 0xd2, 0xa8, 0x0b, 0x80, 0xd2, 1, 0, 0, 0xd4]; // exit(0)

    let length = HEADERS + CODE.len() as u64;
    let mut program = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for half in [2, MACHINE] {
        program.extend(half.to_le_bytes());
    }
    program.extend(1_u32.to_le_bytes());
    for word in [LOAD_ADDRESS + HEADERS, 64, 0] {
        program.extend(word.to_le_bytes());
    }
    program.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, 1, 0, 0, 0] {
        program.extend(half.to_le_bytes());
    }
    for half in [1_u32, 5] {
        program.extend(half.to_le_bytes());
    }
    for word in [0, LOAD_ADDRESS, LOAD_ADDRESS, length, length, 0x1000] {
        program.extend(word.to_le_bytes());
    }
    program.extend(CODE);

    let create = |flags| {
        // SAFETY: The name is a C string, and the result is checked before it is owned.
        unsafe { libc::memfd_create(c"edamame-guard-canary".as_ptr(), flags) }
    };
    let mut descriptor = create(libc::MFD_CLOEXEC | EXECUTABLE);
    if descriptor < 0 {
        descriptor = create(libc::MFD_CLOEXEC);
    }
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: The descriptor is new, valid and nobody else's.
    let image = unsafe { OwnedFd::from_raw_fd(descriptor) };
    std::fs::File::from(image.try_clone()?).write_all(&program)?;
    Ok(image)
}

#[expect(clippy::cast_possible_truncation, reason = "address families are small numbers")]
fn act(names: &Names, port: u16, image: i32) -> ! {
    const FILE: libc::c_int = libc::O_RDWR | libc::O_CREAT | libc::O_CLOEXEC;
    let null: &CStr = c"/dev/null";
    let here = libc::AT_FDCWD;
    let how = [0_u64; 3]; // struct open_how: flags, mode, resolve.

    // SAFETY: Each call gets the arguments that its manual page names; all pointers are to
    // values that outlive the call. What fails here shows as a hook without proof.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        {
            libc::syscall(libc::SYS_open, null.as_ptr(), libc::O_RDONLY);
            libc::syscall(libc::SYS_creat, names.first.as_ptr(), 0o600);
        }
        libc::syscall(libc::SYS_openat, here, names.first.as_ptr(), FILE, 0o600);
        libc::syscall(libc::SYS_openat2, here, null.as_ptr(), how.as_ptr(), size_of_val(&how));

        let (first, second) = (names.first.as_ptr(), names.second.as_ptr());
        let (third, fourth) = (names.third.as_ptr(), names.fourth.as_ptr());
        libc::syscall(libc::SYS_renameat, here, first, here, second);
        libc::syscall(libc::SYS_renameat2, here, second, here, third, 0);
        #[cfg(target_arch = "x86_64")]
        {
            libc::syscall(libc::SYS_rename, third, fourth);
            libc::syscall(libc::SYS_unlink, fourth);
            libc::syscall(libc::SYS_openat, here, third, FILE, 0o600);
            libc::syscall(libc::SYS_mkdirat, here, names.folder.as_ptr(), 0o700);
            libc::syscall(libc::SYS_rmdir, names.folder.as_ptr());
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = fourth;
        libc::syscall(libc::SYS_unlinkat, here, third, 0);

        let mut address: libc::sockaddr_in = std::mem::zeroed();
        address.sin_family = libc::AF_INET as libc::sa_family_t;
        address.sin_port = port.to_be();
        address.sin_addr.s_addr = libc::INADDR_LOOPBACK.to_be();
        visit(libc::AF_INET, std::ptr::from_ref(&address).cast(), size_of_val(&address));

        let mut address: libc::sockaddr_in6 = std::mem::zeroed();
        address.sin6_family = libc::AF_INET6 as libc::sa_family_t;
        address.sin6_port = port.to_be();
        address.sin6_addr.s6_addr[15] = 1;
        visit(libc::AF_INET6, std::ptr::from_ref(&address).cast(), size_of_val(&address));

        let arguments = [c"edamame-guard-canary".as_ptr(), std::ptr::null()];
        let environment = [std::ptr::null::<libc::c_char>()];
        libc::syscall(
            libc::SYS_execveat,
            image,
            c"".as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
        // Only where programs in memory are forbidden.
        libc::execve(c"/bin/true".as_ptr(), arguments.as_ptr(), environment.as_ptr());
        libc::_exit(1)
    }
}

/// Connects to an address, and sends a datagram to it. Nobody has to answer.
///
/// # Safety
/// `address` points to a socket address of `length` bytes.
unsafe fn visit(family: libc::c_int, address: *const libc::sockaddr, length: usize) {
    #[expect(clippy::cast_possible_truncation, reason = "a socket address has a few dozen bytes")]
    let length = length as libc::socklen_t;
    // SAFETY: The caller vouches for the address; a failed socket only makes the next call fail.
    unsafe {
        let stream = libc::socket(family, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0);
        libc::connect(stream, address, length);
        let datagram = libc::socket(family, libc::SOCK_DGRAM | libc::SOCK_NONBLOCK, 0);
        libc::sendto(datagram, c"".as_ptr().cast(), 0, 0, address, length);
    }
}
