/* Starts /bin/true by the way that the first argument names; its second argument is the way's name. Ends with 77 where
 * the host has no such way. The second argument of this program is a folder of a cgroup2 tree, for one of them. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *way;

static void need(long result, const char *what)
{
	if (result < 0) {
		perror(what);
		exit(77);
	}
}

static void launch(void)
{
	execl("/bin/true", "true", way, (char *)0);
	_exit(1);
}

static void *launch_in_thread(void *nothing)
{
	launch();
	return nothing;
}

/* For children that nobody here can wait for. */
static void wait_for_all(void)
{
	int status;

	for (;;) {
		pid_t ended = wait(&status);

		if (ended < 0 && errno == ECHILD)
			return;
		if (ended > 0 && status)
			exit(1);
	}
}

static void wait_for(pid_t child)
{
	int status;

	need(child, way);
	waitpid(child, &status, 0);
	if (status)
		exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

/* A pid namespace of our own gives the same number away twice; outside it they are two. */
static void reuse(void)
{
	for (int turn = 0; turn < 2; turn++) {
		int file = open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC);
		pid_t child;

		need(file, "ns_last_pid");
		need(write(file, "499", 3), "ns_last_pid");
		child = fork();
		if (!child)
			launch();
		if (child != 500)
			exit(77);
		wait_for(child);
	}
}

int main(int count, char **words)
{
	pid_t child = 0;

	way = words[1];
	if (!strcmp(way, "fork")) {
		if (!(child = fork()))
			launch();
		wait_for(child);
	} else if (!strcmp(way, "double-fork")) {
		/* We become the parent of what is left behind, as an init would. */
		need(prctl(PR_SET_CHILD_SUBREAPER, 1), way);
		if (!fork()) {
			if (!fork())
				launch();
			_exit(0);
		}
		wait_for_all();
	} else if (!strcmp(way, "reparented")) {
		/* Its parent is gone for certain before it launches anything. */
		int ends[2];
		char byte;

		need(pipe(ends), way);
		need(prctl(PR_SET_CHILD_SUBREAPER, 1), way);
		if (!(child = fork())) {
			if (!fork()) {
				close(ends[1]);
				need(read(ends[0], &byte, 1), way);
				launch();
			}
			_exit(0);
		}
		wait_for(child);
		close(ends[1]);
		wait_for_all();
	} else if (!strcmp(way, "setsid")) {
		if (!(child = fork())) {
			need(setsid(), way);
			launch();
		}
		wait_for(child);
	} else if (!strcmp(way, "vfork")) {
		if (!(child = vfork()))
			launch();
		wait_for(child);
	} else if (!strcmp(way, "thread-exec")) {
		if (!(child = fork())) {
			pthread_t thread;

			pthread_create(&thread, 0, launch_in_thread, 0);
			pause();
		}
		wait_for(child);
	} else if (!strcmp(way, "thread-fork")) {
		/* The one that forks is a thread of a process that launches nothing. */
		pthread_t thread;

		need(prctl(PR_SET_CHILD_SUBREAPER, 1), way);
		if (!(child = fork())) {
			pthread_create(&thread, 0, (void *(*)(void *))fork, 0);
			pthread_join(thread, 0);
			if (!(child = fork()))
				launch();
			wait_for(child);
			_exit(0);
		}
		wait_for_all();
	} else if (!strcmp(way, "pid-namespace")) {
		need(unshare(CLONE_NEWPID), way);
		if (!(child = fork()))
			launch();
		wait_for(child);
	} else if (!strcmp(way, "pid-reuse")) {
		need(unshare(CLONE_NEWPID | CLONE_NEWNS), way);
		if (!(child = fork())) {
			need(mount(0, "/", 0, MS_REC | MS_PRIVATE, 0), way);
			need(mount("proc", "/proc", "proc", 0, 0), way);
			reuse();
			_exit(0);
		}
		wait_for(child);
	} else if (!strcmp(way, "clone-into-cgroup")) {
		struct clone_args arguments = {.flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD};
		int folder = count > 2 ? open(words[2], O_RDONLY | O_DIRECTORY) : -1;

		need(folder, way);
		arguments.cgroup = folder;
		child = syscall(SYS_clone3, &arguments, sizeof(arguments));
		if (!child)
			launch();
		wait_for(child);
	} else {
		return 2;
	}
	return 0;
}
