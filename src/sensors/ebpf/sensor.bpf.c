/* The kernel half of the recorder, for kernels without trampolines (5.17 and later).
 *
 * Every program asks first whether the process belongs to the job, and leaves if not.
 * Records go out without waking the reader: a wake-up per record would double the cost
 * of the job's system calls, the record itself is cheap. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_tracing.h>
#include "core.h"
#include "sensor.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

const volatile struct settings settings;

/* Set by `whoami`, in the guard's own context. */
__u32 guard;
__u64 guard_mounts;

#define PENDING 128
#define AT_FDCWD (-100)
#define FMODE_PATH (1u << 14)
#define SIGNAL_GROUP_EXIT 4
#define UDP 17
#define DOMAIN_PORT 53

/* Tells the compiler nothing about the value, so that it cannot undo a bounds check. */
#define opaque(value) asm volatile("" : "+r"(value))

struct owner {
	__u64 start;
};

/* The job's processes, by thread group. Ownership passes on at fork time, so neither a
 * double fork nor setsid nor a dead parent breaks it. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, struct owner);
} owned SEC(".maps");

/* Lineage has a ring of its own: a storm of opens cannot push it out. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20);
} processes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 16 << 20);
} activity SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, PLANES);
	__type(key, __u32);
	__type(value, __u64);
} lost SEC(".maps");

/* One per processor. A per-CPU map would be right but for its limit of 32 KiB. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct exec_record);
} launches SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct open_record);
} opens SEC(".maps");

/* Renames and removals between their entry and their exit: the records, the numbers of
 * the free ones, and which task has which. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PENDING);
	__type(key, __u32);
	__type(value, struct change_record);
} changes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_STACK);
	__uint(max_entries, PENDING);
	__uint(value_size, sizeof(__u32));
} vacant SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, PENDING);
	__type(key, __u32);
	__type(value, __u32);
} pending SEC(".maps");

struct destination {
	__u64 start;
	__u32 pid;
	__u16 port;
	__u16 is_ipv6;
	__u8 address[16];
};

/* Datagrams are told once per process and destination. An entry that falls out is told again. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct destination);
	__type(value, __u8);
} told SEC(".maps");

/* Types that no map names, kept in the type information for the layout test. */
struct task_record *task_layout __attribute__((unused));
struct fork_record *fork_layout __attribute__((unused));
struct exit_record *exit_layout __attribute__((unused));
struct connection_record *connection_layout __attribute__((unused));
struct answer_record *answer_layout __attribute__((unused));

/* ---- delivery ---------------------------------------------------------------- */

static __always_inline void count_lost(__u32 plane)
{
	__u64 *count = bpf_map_lookup_elem(&lost, &plane);

	if (count) /* Softirq hooks may interrupt on the same processor. */
		__sync_fetch_and_add(count, 1);
}

static __always_inline __u64 wake_up(void *ring, __u64 threshold)
{
	return bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA) >= threshold ? BPF_RB_FORCE_WAKEUP
								       : BPF_RB_NO_WAKEUP;
}

#define wake_processes() wake_up(&processes, settings.process_threshold)
#define wake_activity() wake_up(&activity, settings.activity_threshold)

static __always_inline void fill_head(struct head *head, __u32 hook, __u32 pid, __u64 start)
{
	head->time = bpf_ktime_get_boot_ns();
	head->start = start;
	head->pid = pid;
	head->hook = hook;
}

static __always_inline __u32 current_group(void)
{
	return bpf_get_current_pid_tgid() >> 32;
}

/* The one place that decides on scope. */
static __always_inline struct owner *owner_of(__u32 group)
{
	return bpf_map_lookup_elem(&owned, &group);
}

/* ---- paths ------------------------------------------------------------------- */

/* How far a loop has come. In a map, since the verifier follows every value a counter on the
 * stack can take and gives up after a million steps; what a map holds it takes as unknown. */
struct progress {
	__u64 bytes;
	__u64 position;
	__u32 flags;
	__u32 is_done; /* of a scan: the last string went on past its bound */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct progress);
} loops SEC(".maps");

static __always_inline struct progress *new_progress(void)
{
	__u32 zero = 0;
	struct progress *progress = bpf_map_lookup_elem(&loops, &zero);

	if (progress) {
		progress->bytes = 0;
		progress->position = 0;
		progress->flags = 0;
		progress->is_done = 0;
	}
	return progress;
}

struct walk {
	char *window;
	struct dentry *dentry;
	struct dentry *root;
	struct mount *mount;
	struct progress *progress;
};

/* One name, or one step from a mount to the folder it is mounted on. */
static long walk_step(__u32 index, struct walk *walk)
{
	/* Taken out first: BPF_CORE_READ would look for `struct walk` in the kernel. */
	struct dentry *dentry = walk->dentry, *parent;
	struct mount *mount = walk->mount;
	struct progress *progress = walk->progress;
	__u64 bytes = progress->bytes;
	long length;

	if (dentry == walk->root) {
		struct mount *below = BPF_CORE_READ(mount, mnt_parent);

		if (!below || below == mount) {
			progress->is_done = 1;
			return 1;
		}
		walk->dentry = BPF_CORE_READ(mount, mnt_mountpoint);
		walk->root = BPF_CORE_READ(below, mnt.mnt_root);
		walk->mount = below;
		return 0;
	}
	opaque(bytes);
	if (bytes > PATH_BYTES - NAME_BYTES)
		return 1;
	length = bpf_probe_read_kernel_str(walk->window + bytes, NAME_BYTES, BPF_CORE_READ(dentry, d_name.name));
	if (length <= 0)
		return 1;
	progress->bytes = bytes + length;
	parent = BPF_CORE_READ(dentry, d_parent);
	if (!parent || parent == dentry) {
		/* Its own parent, yet not the root of a mount: it was never in a folder. */
		progress->flags = FLAG_NOWHERE;
		progress->is_done = 1;
		return 1;
	}
	walk->dentry = parent;
	return 0;
}

/* Writes the names into `window` and returns how many bytes they take (at most PATH_BYTES).
 * bpf_d_path is refused in these programs; hence by hand. */
static __always_inline __u64 walk_path(struct dentry *dentry, struct vfsmount *at, char *window, __u32 *flags)
{
	struct walk walk = {
		.window = window,
		.dentry = dentry,
		.root = BPF_CORE_READ(at, mnt_root),
		.mount = (void *)at - bpf_core_field_offset(struct mount, mnt),
		.progress = new_progress(),
	};
	struct progress *progress = walk.progress;
	struct mount *last;
	__u64 bytes;

	if (!progress)
		return 0;
	/* A path has at most 4096 bytes, so 2048 names; deeper trees exist, and are cut. */
	bpf_loop(2048, walk_step, &walk, 0);
	last = walk.mount;
	*flags |= progress->flags;
	/* A mount without a namespace was detached from the tree. */
	if (!progress->is_done || (!progress->flags && !BPF_CORE_READ(last, mnt_ns)))
		*flags |= FLAG_CUT;
	bytes = progress->bytes;
	opaque(bytes);
	return bytes > PATH_BYTES ? 0 : bytes;
}

static __always_inline __u64 describe(struct file *file, struct object *object, char *window)
{
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	__u32 flags = 0;
	__u64 bytes;

	object->inode = BPF_CORE_READ(inode, i_ino);
	object->device = BPF_CORE_READ(inode, i_sb, s_dev);
	object->mode = BPF_CORE_READ(inode, i_mode);
	/* ctime became two plain fields in 6.11, and was renamed before that in 6.6. */
	if (bpf_core_field_exists(inode->i_ctime_sec)) {
		object->changed_seconds = BPF_CORE_READ(inode, i_ctime_sec);
		object->changed_nanoseconds = BPF_CORE_READ(inode, i_ctime_nsec);
	} else if (bpf_core_field_exists(((struct inode___private_time *)0)->__i_ctime)) {
		struct inode___private_time *older = (void *)inode;

		object->changed_seconds = BPF_CORE_READ(older, __i_ctime.tv_sec);
		object->changed_nanoseconds = BPF_CORE_READ(older, __i_ctime.tv_nsec);
	} else {
		struct inode___plain_time *oldest = (void *)inode;

		object->changed_seconds = BPF_CORE_READ(oldest, i_ctime.tv_sec);
		object->changed_nanoseconds = BPF_CORE_READ(oldest, i_ctime.tv_nsec);
	}
	bytes = walk_path(BPF_CORE_READ(file, f_path.dentry), BPF_CORE_READ(file, f_path.mnt), window, &flags);
	object->bytes = bytes;
	object->flags = flags;
	return bytes;
}

static __always_inline struct file *file_of(struct task_struct *task, __u32 descriptor)
{
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file **slots = BPF_CORE_READ(table, fd), *file = NULL;

	if (descriptor >= BPF_CORE_READ(table, max_fds))
		return NULL;
	bpf_probe_read_kernel(&file, sizeof(file), slots + descriptor);
	return file;
}

/* ---- lineage ----------------------------------------------------------------- */

/* Runs once, called by the guard: the kernel's own number for it, whatever pid namespace it is in. */
SEC("syscall")
int whoami(void *context)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	guard = current_group();
	guard_mounts = (__u64)BPF_CORE_READ(task, nsproxy, mnt_ns);
	return 0;
}

/* Read by the guard to take a tree into scope that was there before it. */
SEC("iter/task")
int on_task(struct bpf_iter__task *context)
{
	struct task_struct *task = context->task;
	struct task_record record = {};

	if (!task || task->pid != task->tgid)
		return 0;
	record.start = task->start_boottime;
	record.pid = task->tgid;
	record.parent = BPF_CORE_READ(task, real_parent, tgid);
	bpf_seq_write(context->meta->seq, &record, sizeof(record));
	return 0;
}

/* sched_process_fork fires before the child can run, so a child is owned before it acts. */
SEC("tp_btf/sched_process_fork")
int BPF_PROG(on_fork, struct task_struct *parent, struct task_struct *child)
{
	__u32 group = BPF_CORE_READ(child, tgid), parent_group = BPF_CORE_READ(parent, tgid);
	struct owner owner = { .start = BPF_CORE_READ(child, start_boottime) };
	struct fork_record *record;
	__u64 start;

	if (group == parent_group)
		return 0; /* A thread. */
	if (parent_group != guard && !owner_of(parent_group)) {
		/* Should an exit ever have been missed, its number must not stay ours. */
		bpf_map_delete_elem(&owned, &group);
		return 0;
	}
	start = BPF_CORE_READ(parent, group_leader, start_boottime);
	if (bpf_map_update_elem(&owned, &group, &owner, BPF_ANY)) {
		count_lost(PLANE_PROCESS);
		return 0;
	}
	record = bpf_ringbuf_reserve(&processes, sizeof(*record), 0);
	if (!record) {
		count_lost(PLANE_PROCESS);
		return 0;
	}
	fill_head(&record->head, HOOK_FORK, parent_group, start);
	record->child = group;
	record->child_start = owner.start;
	record->padding = 0;
	bpf_ringbuf_submit(record, wake_processes());
	return 0;
}

struct scan {
	char *window;
	__u64 end;
	struct progress *progress;
};

static __always_inline bool is_named(const char *text)
{
	const __u64 *words = (const void *)text;

	for (int i = 0; i < NAMES; i++) {
		const volatile struct name *name = &settings.name[i];
		__u64 difference = 0;

		if (i >= settings.names)
			return false;
		if ((words[0] ^ name->words[0]) & name->masks[0])
			continue;
		for (int word = 1; word < NAME_WORDS; word++)
			difference |= (words[word] ^ name->words[word]) & name->masks[word];
		if (!difference)
			return true;
	}
	return false;
}

/* Copies one variable behind those kept so far; the next one overwrites it unless it was asked for. */
static long scan_step(__u32 index, struct scan *scan)
{
	struct progress *progress = scan->progress;
	__u64 kept = progress->bytes;
	bool is_rest = progress->is_done;
	long length;

	if (progress->position >= scan->end)
		return 1;
	opaque(kept);
	if (kept > VARIABLE_BYTES)
		return 1;
	length = bpf_probe_read_user_str(scan->window + kept, VARIABLE_BYTES, (void *)progress->position);
	if (length <= 0)
		return 1;
	/* A longer string is cut; what follows of it is not a name. */
	progress->is_done = length == VARIABLE_BYTES;
	progress->position += length == VARIABLE_BYTES ? length - 1 : length;
	if (!is_rest && is_named(scan->window + kept))
		progress->bytes = kept + length;
	return 0;
}

/* sched_process_exec fires once the new image is in place, so executable and arguments are
 * the ones that run, and their pages are present. At execve entry another thread can still
 * rewrite them. By now an exec of another thread than the first has the leader's number. */
SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *task, int old_pid, struct linux_binprm *binprm)
{
	__u32 group = BPF_CORE_READ(task, tgid), index, directory_flags = 0;
	__u64 cursor, bytes, first, last;
	struct owner *owner = owner_of(group);
	struct exec_record *record;
	struct mm_struct *mm;
	struct fs_struct *fs;
	const char *filename, *interp;
	long length;

	if (!owner)
		return 0;
	/* Preemption is off in tracepoint programs: the record is ours until we leave. */
	index = bpf_get_smp_processor_id();
	record = bpf_map_lookup_elem(&launches, &index);
	if (!record) {
		count_lost(PLANE_PROCESS);
		return 0;
	}
	fill_head(&record->head, HOOK_EXEC, group, owner->start);
	mm = BPF_CORE_READ(task, mm);
	fs = BPF_CORE_READ(task, fs);
	record->uid = BPF_CORE_READ(task, cred, euid.val);

	cursor = describe(BPF_CORE_READ(mm, exe_file), &record->executable, record->data);

	opaque(cursor);
	if (cursor > PATH_BYTES)
		return 0;
	bytes = walk_path(BPF_CORE_READ(fs, pwd.dentry), BPF_CORE_READ(fs, pwd.mnt), record->data + cursor,
			  &directory_flags);
	if ((__u64)BPF_CORE_READ(task, nsproxy, mnt_ns) != guard_mounts)
		directory_flags |= FLAG_ELSEWHERE;
	record->directory_bytes = bytes;
	record->directory_flags = directory_flags;
	cursor += bytes;

	/* What was asked for, its links not followed: /usr/bin/cc. For a `#!` file the kernel
	 * replaces `interp` and leaves `filename`. */
	filename = BPF_CORE_READ(binprm, filename);
	interp = BPF_CORE_READ(binprm, interp);
	record->requested_bytes = 0;
	record->is_script = filename != interp;
	opaque(cursor);
	if (cursor > 2 * PATH_BYTES)
		return 0;
	length = bpf_probe_read_kernel_str(record->data + cursor, PATH_BYTES, filename);
	if (length > 0) {
		record->requested_bytes = length;
		cursor += length;
	}

	/* Exact lengths: a read past the top of the stack fails as a whole. */
	first = BPF_CORE_READ(mm, arg_start);
	last = BPF_CORE_READ(mm, arg_end);
	bytes = last > first ? last - first : 0;
	record->argument_flags = 0;
	opaque(bytes);
	if (bytes > ARGUMENT_BYTES) {
		bytes = ARGUMENT_BYTES;
		record->argument_flags = FLAG_CUT;
	}
	opaque(cursor);
	if (cursor > 3 * PATH_BYTES)
		return 0;
	if (bytes && bpf_probe_read_user(record->data + cursor, bytes, (void *)first)) {
		bytes = 0;
		record->argument_flags = FLAG_CUT | FLAG_UNREAD;
	}
	record->argument_bytes = bytes;
	cursor += bytes;

	/* Only variables that were asked for leave the kernel. Behind 1024 others, or past
	 * VARIABLE_BYTES in all, none is kept: they are labels, nothing rests on them alone. */
	record->variable_bytes = 0;
	opaque(cursor);
	if (cursor > 3 * PATH_BYTES + ARGUMENT_BYTES)
		return 0;
	if (settings.names) {
		struct scan scan = {
			.window = record->data + cursor,
			.end = BPF_CORE_READ(mm, env_end),
			.progress = new_progress(),
		};
		struct progress *progress = scan.progress;

		if (!progress)
			return 0;
		progress->position = BPF_CORE_READ(mm, env_start);
		bpf_loop(1024, scan_step, &scan, 0);
		bytes = progress->bytes;
		opaque(bytes);
		if (bytes <= 2 * VARIABLE_BYTES) {
			record->variable_bytes = bytes;
			cursor += bytes;
		}
	}

	opaque(cursor);
	if (cursor > sizeof(record->data))
		return 0;
	if (bpf_ringbuf_output(&processes, record, __builtin_offsetof(struct exec_record, data) + cursor,
			       wake_processes()))
		count_lost(PLANE_PROCESS);
	return 0;
}

static __always_inline void forget_change(__u32 thread)
{
	__u32 *slot = bpf_map_lookup_elem(&pending, &thread), number;

	if (!slot)
		return;
	number = *slot;
	if (!bpf_map_delete_elem(&pending, &thread))
		bpf_map_push_elem(&vacant, &number, BPF_ANY);
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_exit, struct task_struct *task)
{
	__u32 group = BPF_CORE_READ(task, tgid);
	struct owner *owner = owner_of(group);
	struct exit_record *record;
	struct signal_struct *signal;
	__u64 start;

	if (!owner)
		return 0;
	start = owner->start;
	forget_change(BPF_CORE_READ(task, pid));
	signal = BPF_CORE_READ(task, signal);
	if (BPF_CORE_READ(signal, live.counter))
		return 0;
	/* Two last threads may both see zero; only one of them can delete. */
	if (bpf_map_delete_elem(&owned, &group))
		return 0;
	record = bpf_ringbuf_reserve(&processes, sizeof(*record), 0);
	if (!record) {
		count_lost(PLANE_PROCESS);
		return 0;
	}
	fill_head(&record->head, HOOK_EXIT, group, start);
	record->status = BPF_CORE_READ(signal, flags) & SIGNAL_GROUP_EXIT
				 ? BPF_CORE_READ(signal, group_exit_code)
				 : BPF_CORE_READ(task, group_leader, exit_code);
	record->padding = 0;
	bpf_ringbuf_submit(record, wake_processes());
	return 0;
}

/* ---- files ------------------------------------------------------------------- */

struct system_exit {
	__u64 common;
	__s64 number;
	__s64 result;
};

struct system_entry {
	__u64 common;
	__s64 number;
	__u64 arguments[6];
};

static __noinline int opened(__u32 hook, __s64 result)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u32 group = current_group(), zero = 0;
	struct owner *owner = owner_of(group);
	struct open_record *record;
	struct file *file;
	__u64 bytes;

	if (!owner || result < 0)
		return 0;
	file = file_of(task, result);
	record = bpf_map_lookup_elem(&opens, &zero);
	if (!file || !record) {
		count_lost(PLANE_FILE); /* Another thread closed it between: we cannot say what it was. */
		return 0;
	}
	record->file_mode = BPF_CORE_READ(file, f_mode);
	if (record->file_mode & FMODE_PATH)
		return 0; /* O_PATH resolves a name; it opens nothing. */
	record->padding = 0;
	fill_head(&record->head, hook, group, owner->start);
	bytes = describe(file, &record->file, record->data);
	opaque(bytes);
	if (bytes > PATH_BYTES)
		return 0;
	if (bpf_ringbuf_output(&activity, record, __builtin_offsetof(struct open_record, data) + bytes,
			       wake_activity()))
		count_lost(PLANE_FILE);
	return 0;
}

/* The exit of a call knows the descriptor, hence the object: no name to follow a second
 * time, and failed calls drop out. */
#define OPEN_HOOK(call, hook)                                                                      \
	SEC("tracepoint")                                                                          \
	int on_exit_##call(struct system_exit *context)                                            \
	{                                                                                          \
		return opened(hook, context->result);                                              \
	}

OPEN_HOOK(open, HOOK_OPEN)
OPEN_HOOK(openat, HOOK_OPENAT)
OPEN_HOOK(openat2, HOOK_OPENAT2)
OPEN_HOOK(creat, HOOK_CREAT)

/* The caller's text, then the folder it starts from: the root for an absolute text (which a
 * chroot may have moved), else the descriptor's or the working folder. */
static __always_inline __u64 fill_side(struct side *side, char *window)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct fs_struct *fs = BPF_CORE_READ(task, fs);
	struct dentry *dentry;
	struct vfsmount *at;
	__u32 flags = 0;
	__u64 bytes;
	long length;

	side->text_bytes = 0;
	side->base_bytes = 0;
	side->padding = 0;
	length = bpf_probe_read_user_str(window, PATH_BYTES, (void *)side->text);
	if (length <= 0) {
		side->flags = FLAG_UNREAD;
		return 0;
	}
	bytes = length;
	opaque(bytes);
	if (bytes > PATH_BYTES)
		return 0;
	side->text_bytes = bytes;
	if (window[0] == '/') {
		dentry = BPF_CORE_READ(fs, root.dentry);
		at = BPF_CORE_READ(fs, root.mnt);
	} else if (side->folder == AT_FDCWD) {
		dentry = BPF_CORE_READ(fs, pwd.dentry);
		at = BPF_CORE_READ(fs, pwd.mnt);
	} else {
		struct file *file = file_of(task, side->folder);

		dentry = BPF_CORE_READ(file, f_path.dentry);
		at = BPF_CORE_READ(file, f_path.mnt);
	}
	length = walk_path(dentry, at, window + bytes, &flags);
	if ((__u64)BPF_CORE_READ(task, nsproxy, mnt_ns) != guard_mounts)
		flags |= FLAG_ELSEWHERE;
	side->base_bytes = length;
	side->flags = flags;
	bytes += length;
	return bytes;
}

static __always_inline __u64 fill_change(struct change_record *record, bool has_target)
{
	__u64 bytes = fill_side(&record->from, record->data);

	if (!has_target)
		return bytes;
	opaque(bytes);
	if (bytes > 2 * PATH_BYTES)
		return 0;
	return bytes + fill_side(&record->to, record->data + bytes);
}

static __always_inline bool is_rename(__u32 hook)
{
	return hook == HOOK_RENAME || hook == HOOK_RENAMEAT || hook == HOOK_RENAMEAT2;
}

static __noinline int begin_change(__u32 hook, __s32 from_folder, __u64 from, __s32 to_folder, __u64 to)
{
	__u32 group = current_group(), thread = (__u32)bpf_get_current_pid_tgid(), slot;
	struct owner *owner = owner_of(group);
	struct change_record *record;

	if (!owner)
		return 0;
	forget_change(thread);
	if (bpf_map_pop_elem(&vacant, &slot)) {
		count_lost(PLANE_FILE);
		return 0;
	}
	record = bpf_map_lookup_elem(&changes, &slot);
	if (!record)
		return 0;
	fill_head(&record->head, hook, group, owner->start);
	record->from.text = from;
	record->from.folder = from_folder;
	record->to.text = to;
	record->to.folder = to_folder;
	record->to.flags = 0;
	record->to.text_bytes = 0;
	record->to.base_bytes = 0;
	fill_change(record, is_rename(hook));
	if (bpf_map_update_elem(&pending, &thread, &slot, BPF_ANY)) {
		bpf_map_push_elem(&vacant, &slot, BPF_ANY);
		count_lost(PLANE_FILE);
	}
	return 0;
}

static __noinline int end_change(__s64 result)
{
	__u32 thread = (__u32)bpf_get_current_pid_tgid();
	__u32 *slot = bpf_map_lookup_elem(&pending, &thread);
	struct change_record *record;
	__u64 bytes;

	if (!slot)
		return 0;
	record = bpf_map_lookup_elem(&changes, slot);
	if (result || !record)
		goto done;
	/* At entry the caller's page may not be present, since reading must not sleep here.
	 * The kernel has read it by now. */
	if ((record->from.flags | record->to.flags) & FLAG_UNREAD)
		fill_change(record, is_rename(record->head.hook));
	record->head.time = bpf_ktime_get_boot_ns();
	bytes = (__u64)record->from.text_bytes + record->from.base_bytes + record->to.text_bytes +
		record->to.base_bytes;
	opaque(bytes);
	if (bytes > sizeof(record->data) ||
	    bpf_ringbuf_output(&activity, record, __builtin_offsetof(struct change_record, data) + bytes,
			       wake_activity()))
		count_lost(PLANE_FILE);
done:
	forget_change(thread);
	return 0;
}

/* Unlike an open, these leave no descriptor: the name must be taken before it is gone. */
#define CHANGE_HOOK(call, hook, from_folder, from, to_folder, to)                                  \
	SEC("tracepoint")                                                                          \
	int on_enter_##call(struct system_entry *context)                                          \
	{                                                                                          \
		return begin_change(hook, from_folder, from, to_folder, to);                       \
	}                                                                                          \
	SEC("tracepoint")                                                                          \
	int on_exit_##call(struct system_exit *context)                                            \
	{                                                                                          \
		return end_change(context->result);                                                \
	}
#define ARGUMENT(number) context->arguments[number]

CHANGE_HOOK(rename, HOOK_RENAME, AT_FDCWD, ARGUMENT(0), AT_FDCWD, ARGUMENT(1))
CHANGE_HOOK(renameat, HOOK_RENAMEAT, ARGUMENT(0), ARGUMENT(1), ARGUMENT(2), ARGUMENT(3))
CHANGE_HOOK(renameat2, HOOK_RENAMEAT2, ARGUMENT(0), ARGUMENT(1), ARGUMENT(2), ARGUMENT(3))
CHANGE_HOOK(unlink, HOOK_UNLINK, AT_FDCWD, ARGUMENT(0), AT_FDCWD, 0)
CHANGE_HOOK(unlinkat, HOOK_UNLINKAT, ARGUMENT(0), ARGUMENT(1), AT_FDCWD, 0)
CHANGE_HOOK(rmdir, HOOK_RMDIR, AT_FDCWD, ARGUMENT(0), AT_FDCWD, 0)

/* ---- egress ------------------------------------------------------------------ */

static __always_inline struct connection_record *new_connection(__u32 hook, struct bpf_sock_addr *context,
								__u32 group, __u64 start)
{
	/* Reserved, not copied from a scratch record: cgroup programs can be preempted. */
	struct connection_record *record = bpf_ringbuf_reserve(&activity, sizeof(*record), 0);

	if (!record) {
		count_lost(PLANE_EGRESS);
		return NULL;
	}
	fill_head(&record->head, hook, group, start);
	record->port = bpf_ntohs(context->user_port);
	record->protocol = context->protocol;
	return record;
}

static __always_inline void put_ipv4(__u8 *target, struct bpf_sock_addr *context)
{
	__u32 *words = (void *)target;

	words[0] = context->user_ip4;
	words[1] = 0;
	words[2] = 0;
	words[3] = 0;
}

static __always_inline void put_ipv6(__u8 *target, struct bpf_sock_addr *context)
{
	__u32 *words = (void *)target;

	words[0] = context->user_ip6[0];
	words[1] = context->user_ip6[1];
	words[2] = context->user_ip6[2];
	words[3] = context->user_ip6[3];
}

/* The cgroup hooks run in the caller's context before a packet exists, and io_uring takes
 * the same way. At the root they see every process; the map of owned ones decides. */
SEC("cgroup/connect4")
int on_connect4(struct bpf_sock_addr *context)
{
	__u32 group = current_group();
	struct owner *owner = owner_of(group);
	struct connection_record *record;

	if (owner && (record = new_connection(HOOK_CONNECT4, context, group, owner->start))) {
		put_ipv4(record->address, context);
		record->is_ipv6 = 0;
		bpf_ringbuf_submit(record, wake_activity());
	}
	return 1;
}

SEC("cgroup/connect6")
int on_connect6(struct bpf_sock_addr *context)
{
	__u32 group = current_group();
	struct owner *owner = owner_of(group);
	struct connection_record *record;

	if (owner && (record = new_connection(HOOK_CONNECT6, context, group, owner->start))) {
		put_ipv6(record->address, context);
		record->is_ipv6 = 1;
		bpf_ringbuf_submit(record, wake_activity());
	}
	return 1;
}

static __always_inline void sent(__u32 hook, struct bpf_sock_addr *context, bool is_ipv6)
{
	struct destination destination = {};
	__u32 group = current_group();
	struct owner *owner = owner_of(group);
	struct connection_record *record;
	__u8 one = 1;

	if (!owner)
		return;
	destination.start = owner->start;
	destination.pid = group;
	destination.port = context->user_port;
	destination.is_ipv6 = is_ipv6;
	if (is_ipv6)
		put_ipv6(destination.address, context);
	else
		put_ipv4(destination.address, context);
	if (bpf_map_lookup_elem(&told, &destination))
		return;
	record = new_connection(hook, context, group, owner->start);
	if (!record)
		return;
	__builtin_memcpy(record->address, destination.address, sizeof(record->address));
	record->is_ipv6 = is_ipv6;
	bpf_ringbuf_submit(record, wake_activity());
	bpf_map_update_elem(&told, &destination, &one, BPF_ANY);
}

SEC("cgroup/sendmsg4")
int on_sendmsg4(struct bpf_sock_addr *context)
{
	sent(HOOK_SENDMSG4, context, false);
	return 1;
}

SEC("cgroup/sendmsg6")
int on_sendmsg6(struct bpf_sock_addr *context)
{
	sent(HOOK_SENDMSG6, context, true);
	return 1;
}

/* Answers of name servers, for the whole host: the daemon that asks may not be in the job.
 * Ingress runs before delivery, so the answer precedes the connection it leads to. */
SEC("cgroup_skb/ingress")
int on_answer(struct __sk_buff *packet)
{
	struct answer_record *record;
	__u32 offset;
	__u64 bytes;
	__u8 start[20];
	__u16 port;

	if (bpf_skb_load_bytes(packet, 0, start, sizeof(start)))
		return 1;
	if (start[0] >> 4 == 4 && start[9] == UDP && !(start[6] & 0x1f) && !start[7])
		offset = (start[0] & 0xf) * 4;
	else if (start[0] >> 4 == 6 && start[6] == UDP)
		offset = 40;
	else
		return 1;
	if (bpf_skb_load_bytes(packet, offset, &port, sizeof(port)) || port != bpf_htons(DOMAIN_PORT))
		return 1;
	offset += 8;
	if (packet->len <= offset)
		return 1;
	record = bpf_ringbuf_reserve(&activity, sizeof(*record), 0);
	if (!record) {
		count_lost(PLANE_EGRESS);
		return 1;
	}
	fill_head(&record->head, HOOK_ANSWER, 0, 0);
	record->flags = 0;
	record->padding = 0;
	/* Who answers matters: anybody can send from port 53. */
	__builtin_memset(record->server, 0, sizeof(record->server));
	record->is_ipv6 = start[0] >> 4 == 6;
	if (record->is_ipv6 ? bpf_skb_load_bytes(packet, 8, record->server, 16)
			    : bpf_skb_load_bytes(packet, 12, record->server, 4))
		goto drop;
	bytes = packet->len - offset;
	if (bytes > ANSWER_BYTES) {
		/* What fits is told, and the rest counts as a loss. */
		bytes = ANSWER_BYTES;
		record->flags = FLAG_CUT;
		count_lost(PLANE_EGRESS);
	}
	opaque(bytes);
	if (bytes > ANSWER_BYTES)
		goto drop;
	opaque(bytes);
	if (bytes == 0 || bpf_skb_load_bytes(packet, offset, record->data, bytes))
		goto drop;
	record->bytes = bytes;
	bpf_ringbuf_submit(record, wake_activity());
	return 1;
drop:
	bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
	count_lost(PLANE_EGRESS);
	return 1;
}
