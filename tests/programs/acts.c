/* Does one of everything that is no open, in the folder it is started in. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

static void need(long result, const char *what)
{
	if (result < 0) {
		perror(what);
		exit(1);
	}
}

static void meet(const char *name, size_t length)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	socklen_t size = offsetof(struct sockaddr_un, sun_path) + length;
	int server = socket(AF_UNIX, SOCK_STREAM, 0);

	memcpy(address.sun_path, name, length);
	need(bind(server, (void *)&address, size), "bind");
	need(listen(server, 1), "listen");
	need(connect(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&address, size), "connect");
}

int main(void)
{
	int file = open("file", O_CREAT | O_RDWR, 0600);
	pid_t child;
	char word[16] = {0}, path[64];
	struct iovec here = {word, 1}, there = {word, 1};

	need(file, "open");
	need(link("file", "second"), "link");
	need(symlink("../target", "soft"), "symlink");
	need(chmod("file", 04755), "chmod");
	need(fchmod(file, 0600), "fchmod");
	need(chown("file", 1, -1), "chown");
	need(fchown(file, 0, 0), "fchown");
	need(truncate("file", 3), "truncate");
	need(ftruncate(file, 0), "ftruncate");
	need(mkdir("below", 0700), "mkdir");
	need(mknod("pipe", S_IFIFO | 0600, 0), "mknod");
	if (setxattr("file", "trusted.note", "1", 1, 0))
		fprintf(stderr, "no extended attributes\n");
	need(memfd_create("hidden", 0), "memfd_create");
	meet("a.sock", 6);
	meet("\0nowhere", 8);
	need(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP), "raw");
	need(socket(AF_PACKET, SOCK_RAW, 0), "packet");
	need(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE), "netlink");
	need(socket(AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER), "netlink");

	child = fork();
	if (!child) {
		pause();
		_exit(0);
	}
	printf("%d\n", child);
	for (int i = 0; i < 100; i++)
		need(process_vm_readv(child, &here, 1, &there, 1, 0), "process_vm_readv");
	need(ptrace(PTRACE_ATTACH, child, 0, 0), "ptrace");
	waitpid(child, 0, 0);
	kill(child, 9);
	waitpid(child, 0, 0);
	syscall(SYS_ptrace, PTRACE_ATTACH, 1 << 22, 0, 0);
	for (int i = 0; i < 100; i++)
		syscall(SYS_bpf, BPF_PROG_GET_NEXT_ID, 0, 0);
	syscall(SYS_bpf, BPF_LINK_DETACH, 0, 0);
	syscall(SYS_finit_module, file, "", 0);

	need(unshare(CLONE_NEWNS | CLONE_NEWUTS), "unshare");
	need(mount(0, "/", 0, MS_REC | MS_PRIVATE, 0), "private");
	need(mount("file", "second", 0, MS_BIND, 0), "bind");
	need(umount("second"), "umount");
	snprintf(path, sizeof(path), "/proc/%d/ns/uts", getppid());
	need(setns(open(path, O_RDONLY), CLONE_NEWUTS), "setns");
	need(setresgid(7, 8, 9), "setresgid");
	need(setresuid(1, 2, 3), "setresuid");
	return 0;
}
