/* Opens one file by the route that the first argument names. Ends with 77 where the host has
 * no such route. Run in a folder of its own, beside the file. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/openat2.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void need(long result, const char *what)
{
	if (result < 0) {
		perror(what);
		exit(77);
	}
}

/* One request, waited for. */
static int ring(struct io_uring_sqe entry)
{
	struct io_uring_params parameters = {0};
	int ring = syscall(SYS_io_uring_setup, 4, &parameters), slots[2] = {-1, -1};
	char *queue, *results;
	struct io_uring_sqe *entries;
	struct io_uring_cqe *result;

	need(ring, "io_uring_setup");
	syscall(SYS_io_uring_register, ring, IORING_REGISTER_FILES, slots, 2);
	queue = mmap(0, parameters.sq_off.array + 64, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
	results = mmap(0, parameters.cq_off.cqes + 8 * sizeof(*result), PROT_READ | PROT_WRITE, MAP_SHARED, ring,
		       IORING_OFF_CQ_RING);
	entries = mmap(0, 4 * sizeof(*entries), PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
	entries[0] = entry;
	*(uint32_t *)(queue + parameters.sq_off.array) = 0;
	__atomic_store_n((uint32_t *)(queue + parameters.sq_off.tail), 1, __ATOMIC_RELEASE);
	need(syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, 0, 0), "io_uring_enter");
	result = (void *)(results + parameters.cq_off.cqes);
	return result->res;
}

static long call32(long number, long a, long b, long c, long d)
{
#ifdef __x86_64__
	long result;

	asm volatile("int $0x80"
		     : "=a"(result)
		     : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d)
		     : "memory", "r8", "r9", "r10", "r11");
	return result;
#else
	return -1;
#endif
}

/* Somewhere that 32 bits can point to. */
static char *low(const char *text)
{
	char *page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);

	return strcpy(page, text);
}

/* A child has the file open; it is taken from there. */
static void taken(const char *name, int by_message)
{
	int pair[2], file, ready[2];
	pid_t child;
	char byte = 0, control[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec data = {&byte, 1};
	struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control,
				 .msg_controllen = sizeof(control)};

	need(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), "socketpair");
	need(pipe(ready), "pipe");
	child = fork();
	if (!child) {
		file = open(name, O_RDONLY);
		dup2(file, 99);
		if (by_message) {
			struct cmsghdr *head = CMSG_FIRSTHDR(&message);

			head->cmsg_level = SOL_SOCKET;
			head->cmsg_type = SCM_RIGHTS;
			head->cmsg_len = CMSG_LEN(sizeof(int));
			*(int *)CMSG_DATA(head) = file;
			need(sendmsg(pair[1], &message, 0), "sendmsg");
		}
		if (write(ready[1], "x", 1) != 1)
			_exit(1);
		pause();
		_exit(0);
	}
	if (read(ready[0], &byte, 1) != 1)
		exit(1);
	if (by_message)
		need(recvmsg(pair[0], &message, 0), "recvmsg");
	else
		need(syscall(SYS_pidfd_getfd, syscall(SYS_pidfd_open, child, 0), 99, 0), "pidfd_getfd");
	kill(child, 9);
	waitpid(child, 0, 0);
}

int main(int count, char **words)
{
	const char *route = words[1], *name = words[2];
	char path[8192], folder[4096];

	(void)count;
	need((long)getcwd(folder, sizeof(folder)), "getcwd");
	if (!strcmp(route, "open")) {
		need(syscall(SYS_open, name, O_RDONLY), route);
	} else if (!strcmp(route, "openat")) {
		need(syscall(SYS_openat, open(".", O_RDONLY), name, O_RDONLY), route);
	} else if (!strcmp(route, "openat2")) {
		struct open_how how = {.resolve = RESOLVE_BENEATH};

		need(syscall(SYS_openat2, AT_FDCWD, name, &how, sizeof(how)), route);
	} else if (!strcmp(route, "dots")) {
		snprintf(path, sizeof(path), ".//./../%s/./%s", strrchr(folder, '/') + 1, name);
		need(open(path, O_RDONLY), route);
	} else if (!strcmp(route, "symlink")) {
		need(symlink(name, "soft"), route);
		need(open("soft", O_RDONLY), route);
	} else if (!strcmp(route, "folder-symlink")) {
		need(symlink(".", "around"), route);
		snprintf(path, sizeof(path), "around/around/%s", name);
		need(open(path, O_RDONLY), route);
	} else if (!strcmp(route, "hard-link")) {
		need(link(name, "hard"), route);
		need(open("hard", O_RDONLY), route);
	} else if (!strcmp(route, "rename")) {
		need(rename(name, "other"), route);
		need(open("other", O_RDONLY), route);
	} else if (!strcmp(route, "proc-root")) {
		snprintf(path, sizeof(path), "/proc/self/root%s/%s", folder, name);
		need(open(path, O_RDONLY), route);
	} else if (!strcmp(route, "proc-cwd")) {
		snprintf(path, sizeof(path), "/proc/%d/cwd/%s", getpid(), name);
		need(open(path, O_RDONLY), route);
	} else if (!strcmp(route, "proc-other-root")) {
		/* Of another process, which sits in a root of its own. */
		int ready[2];
		char byte;
		pid_t child;

		need(pipe(ready), "pipe");
		child = fork();
		if (!child) {
			need(chroot("."), route);
			if (write(ready[1], "x", 1) != 1)
				_exit(1);
			pause();
			_exit(0);
		}
		close(ready[1]);
		if (read(ready[0], &byte, 1) != 1)
			return 77;
		snprintf(path, sizeof(path), "/proc/%d/root/%s", child, name);
		need(open(path, O_RDONLY), route);
		kill(child, 9);
		waitpid(child, 0, 0);
	} else if (!strcmp(route, "chdir")) {
		need(mkdir("below", 0700), route);
		need(chdir("below"), route);
		snprintf(path, sizeof(path), "../%s", name);
		need(open(path, O_RDONLY), route);
	} else if (!strcmp(route, "mmap")) {
		need(mmap(0, 1, PROT_READ, MAP_PRIVATE, open(name, O_RDONLY), 0) == MAP_FAILED ? -1 : 0, route);
	} else if (!strcmp(route, "sendfile")) {
		int ends[2];

		need(pipe(ends), "pipe");
		need(sendfile(ends[1], open(name, O_RDONLY), 0, 6), route);
	} else if (!strcmp(route, "copy_file_range")) {
		need(copy_file_range(open(name, O_RDONLY), 0, open("copy", O_CREAT | O_WRONLY, 0600), 0, 6, 0), route);
	} else if (!strcmp(route, "inherited")) {
		/* The child alone reads; the open was its parent's. */
		int file = open(name, O_RDONLY), status;
		char byte;

		need(file, route);
		if (!fork())
			_exit(read(file, &byte, 1) != 1);
		wait(&status);
		return status != 0;
	} else if (!strcmp(route, "proc-fd")) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", open(name, O_PATH));
		need(open(path, O_RDONLY), route);
	} else if (!strcmp(route, "bind-mount")) {
		need(unshare(CLONE_NEWNS), route);
		need(mount(0, "/", 0, MS_REC | MS_PRIVATE, 0), route);
		close(open("mounted", O_CREAT | O_WRONLY, 0600));
		need(mount(name, "mounted", 0, MS_BIND, 0), route);
		need(open("mounted", O_RDONLY), route);
	} else if (!strcmp(route, "chroot")) {
		need(chroot("."), route);
		snprintf(path, sizeof(path), "/%s", name);
		need(open(path, O_RDONLY), route);
	} else if (!strcmp(route, "handle")) {
		struct file_handle *handle = calloc(1, 256);
		int mount, here = open(".", O_RDONLY);

		handle->handle_bytes = 128;
		need(name_to_handle_at(AT_FDCWD, name, handle, &mount, 0), route);
		need(open_by_handle_at(here, handle, O_RDONLY), route);
	} else if (!strcmp(route, "io_uring-openat")) {
		need(ring((struct io_uring_sqe){.opcode = IORING_OP_OPENAT, .fd = AT_FDCWD,
						.addr = (uintptr_t)name}), route);
	} else if (!strcmp(route, "io_uring-openat2")) {
		struct open_how how = {0};

		need(ring((struct io_uring_sqe){.opcode = IORING_OP_OPENAT2, .fd = AT_FDCWD,
						.addr = (uintptr_t)name, .off = (uintptr_t)&how,
						.len = sizeof(how)}), route);
	} else if (!strcmp(route, "io_uring-worker")) {
		need(ring((struct io_uring_sqe){.opcode = IORING_OP_OPENAT, .fd = AT_FDCWD, .flags = IOSQE_ASYNC,
						.addr = (uintptr_t)name}), route);
	} else if (!strcmp(route, "io_uring-slot")) {
		need(ring((struct io_uring_sqe){.opcode = IORING_OP_OPENAT, .fd = AT_FDCWD, .file_index = 1,
						.addr = (uintptr_t)name}), route);
	} else if (!strcmp(route, "open-32-bit")) {
		need(call32(5, (long)low(name), O_RDONLY, 0, 0), route);
	} else if (!strcmp(route, "openat-32-bit")) {
		need(call32(295, open(".", O_RDONLY), (long)low(name), O_RDONLY, 0), route);
	} else if (!strcmp(route, "message")) {
		taken(name, 1);
	} else if (!strcmp(route, "pidfd")) {
		taken(name, 0);
	} else {
		return 2;
	}
	return 0;
}
