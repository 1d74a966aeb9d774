//! Two small children that do everything the recorder must see, so that a hook which attached
//! but never fires is found before the job starts. The second does what could end it: it leaves
//! its namespaces, and makes a 32-bit system call, which some hosts answer with a signal.
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
    mount: CString,
    old_root: CString,
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
                mount: name("mount")?,
                old_root: name("mount/old")?,
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

    /// How many children there are.
    pub(super) const CHILDREN: usize = 2;

    /// Runs both children to their end.
    pub(super) fn run(&self) -> io::Result<()> {
        let port = self.port()?;
        let mut children = Vec::new();
        for is_second in [false, true] {
            // SAFETY: The child calls `act` or `leave` alone, which make system calls on values
            // made above and never return; they take no lock and do not allocate.
            match unsafe { fork() }? {
                ForkResult::Child if is_second => leave(&self.names, port),
                ForkResult::Child => {
                    act(&self.names, port, self.image.as_ref().map_or(-1, AsRawFd::as_raw_fd))
                }
                ForkResult::Parent { child } => children.push(child),
            }
        }
        for child in children {
            waitpid(child, None)?;
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
        let file = libc::syscall(libc::SYS_openat, here, names.first.as_ptr(), FILE, 0o600);
        libc::syscall(libc::SYS_openat2, here, null.as_ptr(), how.as_ptr(), size_of_val(&how));
        describe(names, file);
        descriptors(file);
        privileges();

        let (first, second) = (names.first.as_ptr(), names.second.as_ptr());
        let (third, fourth) = (names.third.as_ptr(), names.fourth.as_ptr());
        libc::syscall(libc::SYS_linkat, here, first, here, second, 0);
        libc::syscall(libc::SYS_unlinkat, here, second, 0);
        libc::syscall(libc::SYS_symlinkat, first, here, second);
        libc::syscall(libc::SYS_unlinkat, here, second, 0);
        libc::syscall(libc::SYS_mknodat, here, second, libc::S_IFREG | 0o600, 0);
        libc::syscall(libc::SYS_unlinkat, here, second, 0);
        #[cfg(target_arch = "x86_64")]
        {
            libc::syscall(libc::SYS_link, first, second);
            libc::syscall(libc::SYS_unlink, second);
            libc::syscall(libc::SYS_symlink, first, second);
            libc::syscall(libc::SYS_unlink, second);
            libc::syscall(libc::SYS_mknod, second, libc::S_IFREG | 0o600, 0);
            libc::syscall(libc::SYS_unlink, second);
            libc::syscall(libc::SYS_mkdir, second, 0o700);
            libc::syscall(libc::SYS_rmdir, second);
        }
        libc::syscall(libc::SYS_renameat, here, first, here, second);
        libc::syscall(libc::SYS_renameat2, here, second, here, third, 0);
        libc::syscall(libc::SYS_mkdirat, here, names.folder.as_ptr(), 0o700);
        #[cfg(target_arch = "x86_64")]
        {
            libc::syscall(libc::SYS_rename, third, fourth);
            libc::syscall(libc::SYS_unlink, fourth);
            libc::syscall(libc::SYS_openat, here, third, FILE, 0o600);
            libc::syscall(libc::SYS_rmdir, names.folder.as_ptr());
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = fourth;
        libc::syscall(libc::SYS_unlinkat, here, third, 0);
        uring::requests(names);

        visit(port);
        greet(port);
        libc::syscall(libc::SYS_prctl, libc::PR_SET_NAME, c"guard-canary".as_ptr());
        // By default it is ignored.
        libc::kill(libc::getppid(), libc::SIGURG);
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

/// Sets everything about one file.
///
/// # Safety
/// None is needed; the calls take names and a number.
unsafe fn describe(names: &Names, file: libc::c_long) {
    const FCHMODAT2: libc::c_long = 452;
    const SETXATTRAT: libc::c_long = 463;
    let here = libc::AT_FDCWD;
    let first = names.first.as_ptr();
    let (attribute, value) = (c"trusted.edamame".as_ptr(), c"1");
    let long = [value.as_ptr() as u64, 1]; // struct xattr_args: value, size and flags.
    // SAFETY: As in `act`.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        {
            libc::syscall(libc::SYS_chmod, first, 0o600);
            libc::syscall(libc::SYS_chown, first, -1, -1);
            libc::syscall(libc::SYS_lchown, first, -1, -1);
        }
        libc::syscall(libc::SYS_fchmod, file, 0o600);
        libc::syscall(libc::SYS_fchmodat, here, first, 0o600);
        libc::syscall(FCHMODAT2, here, first, 0o600, 0);
        libc::syscall(libc::SYS_fchown, file, -1, -1);
        libc::syscall(libc::SYS_fchownat, here, first, -1, -1, 0);
        libc::syscall(libc::SYS_truncate, first, 0);
        libc::syscall(libc::SYS_ftruncate, file, 0);
        libc::syscall(libc::SYS_setxattr, first, attribute, value.as_ptr(), 1, 0);
        libc::syscall(libc::SYS_lsetxattr, first, attribute, value.as_ptr(), 1, 0);
        libc::syscall(libc::SYS_fsetxattr, file, attribute, value.as_ptr(), 1, 0);
        libc::syscall(SETXATTRAT, here, first, 0, attribute, long.as_ptr(), size_of_val(&long));
    }
}

/// Gets hold of a file that is open already, in each of the ways.
///
/// # Safety
/// None is needed; the calls take values of this function and a number.
#[expect(clippy::cast_possible_truncation, reason = "descriptors and sizes are small numbers")]
unsafe fn descriptors(file: libc::c_long) {
    // SAFETY: As in `act`; the control message is built with the macros made for it.
    unsafe {
        let process = libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0);
        libc::syscall(libc::SYS_pidfd_getfd, process, file, 0);

        let mut handle = [0_u32; 34]; // struct file_handle: size, kind, bytes.
        handle[0] = 128;
        let mut mount = 0;
        let folder = libc::syscall(libc::SYS_openat, libc::AT_FDCWD, c"/dev/shm".as_ptr(), libc::O_RDONLY);
        let empty = c"".as_ptr();
        libc::syscall(
            libc::SYS_name_to_handle_at,
            file,
            empty,
            handle.as_mut_ptr(),
            &raw mut mount,
            libc::AT_EMPTY_PATH,
        );
        let opened = libc::syscall(libc::SYS_open_by_handle_at, file, handle.as_mut_ptr(), libc::O_RDONLY);
        if opened < 0 {
            handle[0] = 128;
            libc::syscall(
                libc::SYS_name_to_handle_at,
                folder,
                empty,
                handle.as_mut_ptr(),
                &raw mut mount,
                libc::AT_EMPTY_PATH,
            );
            libc::syscall(libc::SYS_open_by_handle_at, folder, handle.as_mut_ptr(), libc::O_RDONLY);
        }

        let mut pair = [0; 2];
        libc::socketpair(libc::AF_UNIX, libc::SOCK_DGRAM, 0, pair.as_mut_ptr());
        let mut control = [0_u64; 8];
        let mut byte = 0_u8;
        let mut data = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut data;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(4) as _;
        let head = libc::CMSG_FIRSTHDR(&raw const message);
        (*head).cmsg_level = libc::SOL_SOCKET;
        (*head).cmsg_type = libc::SCM_RIGHTS;
        (*head).cmsg_len = libc::CMSG_LEN(4) as _;
        libc::CMSG_DATA(head).cast::<i32>().write_unaligned(file as i32);
        libc::sendmsg(pair[0], &raw const message, 0);
        message.msg_controllen = size_of_val(&control) as _;
        libc::recvmsg(pair[1], &raw mut message, 0);

        // A unix socket whose name the kernel chooses, then one that connects to it.
        let mut address: libc::sockaddr_un = std::mem::zeroed();
        address.sun_family = libc::AF_UNIX as libc::sa_family_t;
        let mut length = size_of::<libc::sockaddr_un>() as libc::socklen_t;
        let server = libc::socket(libc::AF_UNIX, libc::SOCK_DGRAM, 0);
        libc::bind(server, (&raw const address).cast(), 2);
        libc::getsockname(server, (&raw mut address).cast(), &raw mut length);
        let client = libc::socket(libc::AF_UNIX, libc::SOCK_DGRAM, 0);
        libc::connect(client, (&raw const address).cast(), length);
        // One that waits for connections, at a port of the kernel's choice on the loopback.
        let mut here: libc::sockaddr_in = std::mem::zeroed();
        here.sin_family = libc::AF_INET as libc::sa_family_t;
        here.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 1]);
        let waiting = libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
        libc::bind(waiting, (&raw const here).cast(), size_of::<libc::sockaddr_in>() as libc::socklen_t);
        libc::listen(waiting, 1);
        libc::socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_SOCK_DIAG);
        libc::syscall(libc::SYS_memfd_create, c"edamame-guard-canary".as_ptr(), libc::MFD_CLOEXEC);
    }
}

/// Asks for what changes nothing, or for what the kernel must refuse.
///
/// # Safety
/// None is needed; the calls take numbers and values of this function.
unsafe fn privileges() {
    let nobody: *const u8 = std::ptr::null();
    // SAFETY: As in `act`; a null pointer goes with a length of zero or is refused.
    unsafe {
        let own = libc::getpid();
        libc::syscall(libc::SYS_ptrace, libc::PTRACE_ATTACH, -1, 0, 0);
        libc::syscall(libc::SYS_process_vm_readv, own, nobody, 0, nobody, 0, 0);
        libc::syscall(libc::SYS_process_vm_writev, own, nobody, 0, nobody, 0, 0);
        libc::syscall(libc::SYS_bpf, -1, nobody, 0);
        libc::syscall(libc::SYS_finit_module, -1, c"".as_ptr(), 0);
        libc::syscall(libc::SYS_init_module, nobody, 0, c"".as_ptr());
        let (user, group) = (libc::geteuid(), libc::getegid());
        libc::syscall(libc::SYS_setuid, user);
        libc::syscall(libc::SYS_setreuid, -1, user);
        libc::syscall(libc::SYS_setresuid, -1, user, -1);
        libc::syscall(libc::SYS_setgid, group);
        libc::syscall(libc::SYS_setregid, -1, group);
        libc::syscall(libc::SYS_setresgid, -1, group, -1);
        let mut head = [0x2008_0522_u32, 0]; // The third version of struct __user_cap_header_struct.
        let mut data = [0_u32; 6];
        libc::syscall(libc::SYS_capget, head.as_mut_ptr(), data.as_mut_ptr());
        libc::syscall(libc::SYS_capset, head.as_mut_ptr(), data.as_mut_ptr());
    }
}

/// The second child: new namespaces, mounts in them, and a 32-bit call at the end.
fn leave(names: &Names, port: u16) -> ! {
    let tmpfs: &CStr = c"tmpfs";
    let (mount, old_root) = (names.mount.as_ptr(), names.old_root.as_ptr());
    let nothing: *const u8 = std::ptr::null();
    // SAFETY: As in `act`. Mounts happen in a namespace of the child's own alone: without one it
    // makes none.
    unsafe {
        visit(port);
        let spaces = libc::open(c"/proc/self/ns/uts".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        libc::syscall(libc::SYS_setns, spaces, 0);
        if libc::syscall(libc::SYS_unshare, libc::CLONE_NEWNS) == 0 {
            let private = libc::MS_REC | libc::MS_PRIVATE;
            libc::syscall(libc::SYS_mount, nothing, c"/".as_ptr(), nothing, private, nothing);
            libc::mkdir(mount, 0o700);
            libc::syscall(libc::SYS_mount, tmpfs.as_ptr(), mount, tmpfs.as_ptr(), 0, nothing);
            libc::mkdir(old_root, 0o700);
            libc::syscall(libc::SYS_mount, tmpfs.as_ptr(), old_root, tmpfs.as_ptr(), 0, nothing);
            // A mount can be moved onto where it hangs: below itself nothing could be.
            let taken = libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, old_root, 1 | libc::O_CLOEXEC);
            libc::syscall(libc::SYS_move_mount, taken, c"".as_ptr(), libc::AT_FDCWD, old_root, 4);
            libc::syscall(libc::SYS_umount2, old_root, libc::MNT_DETACH);
            libc::syscall(libc::SYS_umount2, old_root, libc::MNT_DETACH);
            libc::syscall(libc::SYS_pivot_root, mount, old_root);
        }
        #[cfg(target_arch = "x86_64")]
        {
            let no_core = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            libc::setrlimit(libc::RLIMIT_CORE, &raw const no_core);
            // fchmod, by its 32-bit number: a pointer would have to be a short one.
            // The compiler keeps rbx for itself.
            let file = libc::memfd_create(c"edamame-guard-canary".as_ptr(), libc::MFD_CLOEXEC);
            std::arch::asm!(
                "xchg rbx, {file}",
                "int 0x80",
                "xchg rbx, {file}",
                file = in(reg) i64::from(file),
                inlateout("rax") 94_u64 => _,
                in("rcx") 0o600_u64,
                out("r8") _, out("r9") _, out("r10") _, out("r11") _,
            );
        }
        libc::_exit(0)
    }
}

/// Connects to the port, by which a child shows itself, and sends a datagram there. Nobody has
/// to answer.
///
/// # Safety
/// None is needed; the calls take values of this function.
#[expect(clippy::cast_possible_truncation, reason = "address families are small numbers")]
unsafe fn visit(port: u16) {
    // SAFETY: Socket addresses are integers, for which zero is a value.
    let (mut v4, mut v6): (libc::sockaddr_in, libc::sockaddr_in6) =
        unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    v4.sin_family = libc::AF_INET as libc::sa_family_t;
    v4.sin_port = port.to_be();
    v4.sin_addr.s_addr = libc::INADDR_LOOPBACK.to_be();
    v6.sin6_family = libc::AF_INET6 as libc::sa_family_t;
    v6.sin6_port = port.to_be();
    v6.sin6_addr.s6_addr[15] = 1;
    // SAFETY: Both are socket addresses of the sizes given.
    unsafe {
        send_to(libc::AF_INET, std::ptr::from_ref(&v4).cast(), size_of_val(&v4));
        send_to(libc::AF_INET6, std::ptr::from_ref(&v6).cast(), size_of_val(&v6));
    }
}

/// Sends what looks like a question and like a hello. The question is marked as an answer, so
/// that no name server that might be there goes and asks.
///
/// # Safety
/// None is needed; the calls take values of this function.
#[expect(clippy::cast_possible_truncation, reason = "address families and sizes are small numbers")]
unsafe fn greet(port: u16) {
    const SERVER: u32 = 0x7f53_3553;
    // SAFETY: Socket addresses are integers, for which zero is a value; each has the size given.
    unsafe {
        let mut address: libc::sockaddr_in = std::mem::zeroed();
        let size = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        address.sin_family = libc::AF_INET as libc::sa_family_t;
        address.sin_port = 53_u16.to_be();
        address.sin_addr.s_addr = SERVER.to_be();
        let question = [0_u8, 1, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let datagram = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_NONBLOCK, 0);
        let target = (&raw const address).cast();
        libc::sendto(datagram, question.as_ptr().cast(), question.len(), 0, target, size);
        // Protocol 253 is kept for experiments.
        let raw = libc::socket(libc::AF_INET, libc::SOCK_RAW, 253);
        libc::sendto(raw, question.as_ptr().cast(), question.len(), 0, target, size);

        address.sin_port = port.to_be();
        address.sin_addr.s_addr = libc::INADDR_LOOPBACK.to_be();
        let stream = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0);
        libc::connect(stream, (&raw const address).cast(), size);
        let mut ready = libc::pollfd { fd: stream, events: libc::POLLOUT, revents: 0 };
        libc::poll(&raw mut ready, 1, 100);
        let request = b"GET / HTTP/1.0\r\n\r\n";
        libc::send(stream, request.as_ptr().cast(), request.len(), libc::MSG_NOSIGNAL);
        let hello = [22_u8, 3, 1, 0, 4, 1, 0, 0, 0];
        libc::send(stream, hello.as_ptr().cast(), hello.len(), libc::MSG_NOSIGNAL);
    }
}

/// A ring of requests, by hand: its memory is shared with the kernel.
mod uring {
    use std::sync::atomic::{AtomicU32, Ordering};

    use nix::libc;

    use super::Names;

    /// `struct io_uring_sqe`, by words of eight bytes.
    type Entry = [u64; 8];

    const ENTRIES: u32 = 16;
    const HARD: u64 = 1 << 3; // One after the other, also after a failure.

    /// Opcode, descriptor, `addr2`, `addr`, length or mode, flags, and the slot.
    fn entry(opcode: u64, second: u64, first: u64, length: u64, flags: u64, slot: u64) -> Entry {
        let here = u64::from(libc::AT_FDCWD.cast_unsigned());
        [opcode | HARD << 8 | here << 32, second, first, length | flags << 32, 0, slot << 32, 0, 0]
    }

    /// Opens, links, renames and removes through a ring.
    ///
    /// # Safety
    /// None is needed; all pointers are to values that outlive the last request.
    pub(super) unsafe fn requests(names: &Names) {
        const FILE: u64 = (libc::O_RDWR | libc::O_CREAT) as u64;
        let here = u64::from(libc::AT_FDCWD.cast_unsigned());
        let at = |name: &std::ffi::CStr| name.as_ptr() as u64;
        let (first, second, third) = (at(&names.first), at(&names.second), at(&names.third));
        let entries = [
            entry(18, 0, first, 0o600, FILE, 0),  // OPENAT
            entry(18, 0, first, 0, 0, 1),         // into the first slot
            entry(39, second, first, here, 0, 0), // LINKAT
            entry(38, third, first, 0, 0, 0),     // SYMLINKAT
            entry(36, 0, third, 0, 0, 0),         // UNLINKAT
            entry(35, third, second, here, 0, 0), // RENAMEAT
            entry(36, 0, third, 0, 0, 0),
            entry(36, 0, first, 0, 0, 0),
            entry(37, 0, third, 0o700, 0, 0), // MKDIRAT
        ];
        let mut parameters = [0_u32; 30]; // struct io_uring_params.
        // SAFETY: The kernel fills the parameters, of 120 bytes, with the offsets inside the ring.
        // Both mappings are as long as the kernel's own manual says, and checked.
        unsafe {
            let ring = libc::syscall(libc::SYS_io_uring_setup, ENTRIES, parameters.as_mut_ptr());
            let Ok(ring) = i32::try_from(ring) else { return };
            if ring < 0 {
                return;
            }
            let slots = [-1_i32; 4];
            libc::syscall(libc::SYS_io_uring_register, ring, 2, slots.as_ptr(), slots.len());
            // The offsets of the queue of submissions begin with the eleventh word.
            let (tail, array) = (parameters[11] as usize, parameters[16] as usize);
            let length = array + ENTRIES as usize * 4;
            let shared = libc::PROT_READ | libc::PROT_WRITE;
            let queue = libc::mmap(
                std::ptr::null_mut(),
                length,
                shared,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                ring,
                0,
            );
            let bytes = ENTRIES as usize * size_of::<Entry>();
            let slots = libc::mmap(
                std::ptr::null_mut(),
                bytes,
                shared,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                ring,
                0x1000_0000,
            );
            if queue == libc::MAP_FAILED || slots == libc::MAP_FAILED {
                return;
            }
            let mut count = 0_u32;
            for (index, entry) in entries.iter().enumerate() {
                slots.cast::<Entry>().add(index).write(*entry);
                queue.byte_add(array).cast::<u32>().add(index).write(count);
                count += 1;
            }
            (*queue.byte_add(tail).cast::<AtomicU32>()).store(count, Ordering::Release);
            // Waits for all of them.
            libc::syscall(libc::SYS_io_uring_enter, ring, count, count, 1, std::ptr::null::<u8>(), 0);
        }
    }
}

/// Connects to an address, and sends a datagram to it. Nobody has to answer.
///
/// # Safety
/// `address` points to a socket address of `length` bytes.
unsafe fn send_to(family: libc::c_int, address: *const libc::sockaddr, length: usize) {
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
