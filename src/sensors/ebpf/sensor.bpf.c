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
__u64 guard_network;

/* Folders whose files are read under other names without anybody being deceived: dentries, which the guard
 * keeps in place by holding them open. Set by `settle`. */
__u64 familiar[FAMILIAR];

#define AT_FDCWD (-100)
#define FMODE_WRITE (1u << 1)
#define FMODE_PATH (1u << 14)
#define S_IFMT 0170000
#define S_IFREG 0100000
#define S_IFDIR 0040000
#define SIGNAL_GROUP_EXIT 4
#define DESCRIPTORS 253 /* The most that one message can carry (SCM_MAX_FD). */
#define TCP 6
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

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct change_record);
} changes SEC(".maps");

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
struct act_record *act_layout __attribute__((unused));
struct connection_record *connection_layout __attribute__((unused));
struct speech_record *speech_layout __attribute__((unused));
struct answer_record *answer_layout __attribute__((unused));
struct closed_record *closed_layout __attribute__((unused));

/* Reads of the kernel's memory are by far the most of what is done here. Where the kernel has
 * typed pointers to offer (since 6.2), each is one load; before, a call that copies. */
extern void *bpf_rdonly_cast(const void *object, __u32 type) __ksym __weak;

#define LOAD(type, pointer, field)                                                                 \
	({                                                                                         \
		typeof(((struct type *)0)->field) value_;                                          \
		if (bpf_ksym_exists(bpf_rdonly_cast))                                              \
			value_ = ((struct type *)bpf_rdonly_cast(                                  \
					  pointer, bpf_core_type_id_kernel(struct type)))          \
					 ->field;                                                  \
		else                                                                               \
			value_ = BPF_CORE_READ((struct type *)(pointer), field);                   \
		value_;                                                                            \
	})

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

/* Asking how full the ring is costs as much as telling a name: most records do not ask. */
#define WAKE_EVERY 16

static __always_inline __u64 wake_sometimes(const struct head *head)
{
	if (head->time % WAKE_EVERY)
		return BPF_RB_NO_WAKEUP;
	return wake_up(&activity, settings.activity_threshold);
}

#define wake_processes() wake_up(&processes, settings.process_threshold)
#define wake_activity() wake_up(&activity, settings.activity_threshold)

static __always_inline void fill_head(struct head *head, __u32 hook, __u32 pid, __u64 start)
{
	head->time = bpf_ktime_get_boot_ns();
	head->start = start;
	head->pid = pid;
	head->hook = hook;
	head->flags = 0;
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
	__u32 is_familiar; /* of a walk: it came through a familiar folder */
	/* Where a walk begins. Kernel pointers lose their type here, as an argument must. */
	__u64 dentry;
	__u64 mount;
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
		progress->is_familiar = 0;
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

/* Writes a name with its NUL and returns how many bytes it takes; at most NAME_BYTES. */
static __always_inline long copy_name(char *window, struct dentry *dentry)
{
	const unsigned char *name = LOAD(dentry, dentry, d_name.name);

	if (bpf_ksym_exists(bpf_rdonly_cast) && bpf_core_field_exists(dentry->d_shortname)) {
		__u32 length = LOAD(dentry, dentry, d_name.len);

		/* Short names, which is most, in a few loads and without a call. */
		if ((void *)name == (void *)dentry + bpf_core_field_offset(struct dentry, d_shortname) &&
		    length < sizeof(union shortname_store)) {
			__u64 *words = (void *)window;

			words[0] = LOAD(dentry, dentry, d_shortname.words[0]);
			if (length >= 8)
				words[1] = LOAD(dentry, dentry, d_shortname.words[1]);
			if (length >= 16) {
				words[2] = LOAD(dentry, dentry, d_shortname.words[2]);
				words[3] = LOAD(dentry, dentry, d_shortname.words[3]);
				words[4] = LOAD(dentry, dentry, d_shortname.words[4]);
			}
			window[length] = 0;
			return length + 1;
		}
	}
	return bpf_probe_read_kernel_str(window, NAME_BYTES, name);
}

enum step { STEP_ON, STEP_STOP };

/* One name, or one step from a mount to the folder it is mounted on. */
static __always_inline enum step step_up(struct walk *walk)
{
	struct dentry *dentry = walk->dentry, *parent;
	struct progress *progress = walk->progress;
	__u64 bytes = progress->bytes;
	long length;

	if ((__u64)dentry == familiar[0] || (__u64)dentry == familiar[1])
		progress->is_familiar = 1;
	if (dentry == walk->root) {
		struct mount *mount = walk->mount;
		struct mount *below = LOAD(mount, mount, mnt_parent);

		if (!below || below == mount) {
			progress->is_done = 1;
			return STEP_STOP;
		}
		walk->dentry = LOAD(mount, mount, mnt_mountpoint);
		walk->root = LOAD(mount, below, mnt.mnt_root);
		walk->mount = below;
		return STEP_ON;
	}
	opaque(bytes);
	if (bytes > PATH_BYTES - NAME_BYTES)
		return STEP_STOP;
	length = copy_name(walk->window + bytes, dentry);
	if (length <= 0)
		return STEP_STOP;
	progress->bytes = bytes + length;
	parent = LOAD(dentry, dentry, d_parent);
	if (!parent || parent == dentry) {
		/* Its own parent, yet not the root of a mount: it was never in a folder. */
		progress->flags = FLAG_NOWHERE;
		progress->is_done = 1;
		return STEP_STOP;
	}
	walk->dentry = parent;
	return STEP_ON;
}

static long walk_step(__u32 index, struct walk *walk)
{
	return step_up(walk) == STEP_STOP;
}

struct window {
	char bytes[PATH_BYTES];
};

/* Writes the names into `window` and returns how many bytes they take (at most PATH_BYTES), and
 * in the upper half the flags. bpf_d_path is refused in these programs; hence by hand.
 *
 * A global function: the verifier goes through it once, and not for every caller. */
__noinline __u64 walk(struct window *window)
{
	__u32 zero = 0;
	struct progress *progress = bpf_map_lookup_elem(&loops, &zero);
	enum step step = STEP_ON;
	struct walk walk = {};
	struct mount *last;
	__u64 bytes, flags;

	if (!progress || !window)
		return 0;
	walk.dentry = (void *)progress->dentry;
	walk.root = LOAD(vfsmount, (void *)progress->mount, mnt_root);
	walk.mount = (void *)progress->mount - bpf_core_field_offset(struct mount, mnt);
	walk.progress = progress;
	walk.window = window->bytes;
	/* The usual depth without a call for each step. */
#pragma clang loop unroll(disable)
	for (int i = 0; i < 16 && step == STEP_ON; i++)
		step = step_up(&walk);
	/* A path has at most 4096 bytes, so 2048 names; deeper trees exist, and are cut. */
	if (step == STEP_ON)
		bpf_loop(2048, walk_step, &walk, 0);
	last = walk.mount;
	flags = progress->flags;
	/* A mount without a namespace was detached from the tree. */
	if (!progress->is_done || (!progress->flags && !LOAD(mount, last, mnt_ns)))
		flags |= FLAG_CUT;
	bytes = progress->bytes;
	opaque(bytes);
	if (bytes > PATH_BYTES)
		bytes = 0;
	return flags << 32 | bytes;
}

static __always_inline __u64 walk_path(struct dentry *dentry, struct vfsmount *at, char *window, __u32 *flags)
{
	struct progress *progress = new_progress();
	__u64 walked, bytes;

	if (!progress)
		return 0;
	progress->dentry = (__u64)dentry;
	progress->mount = (__u64)at;
	walked = walk((void *)window);
	bytes = (__u32)walked;
	*flags |= walked >> 32;
	if (progress->is_familiar)
		*flags |= FLAG_FAMILIAR;
	opaque(bytes);
	return bytes > PATH_BYTES ? 0 : bytes;
}

static __always_inline __u64 describe(struct file *file, struct object *object, char *window)
{
	struct inode *inode = LOAD(file, file, f_inode);
	struct super_block *system = LOAD(inode, inode, i_sb);
	__u32 flags = 0;
	__u64 bytes;

	object->inode = LOAD(inode, inode, i_ino);
	object->device = LOAD(super_block, system, s_dev);
	object->mode = LOAD(inode, inode, i_mode);
	/* ctime became two plain fields in 6.11, and was renamed before that in 6.6. */
	if (bpf_core_field_exists(inode->i_ctime_sec)) {
		object->changed_seconds = LOAD(inode, inode, i_ctime_sec);
		object->changed_nanoseconds = LOAD(inode, inode, i_ctime_nsec);
	} else if (bpf_core_field_exists(((struct inode___private_time *)0)->__i_ctime)) {
		struct inode___private_time *older = (void *)inode;

		object->changed_seconds = BPF_CORE_READ(older, __i_ctime.tv_sec);
		object->changed_nanoseconds = BPF_CORE_READ(older, __i_ctime.tv_nsec);
	} else {
		struct inode___plain_time *oldest = (void *)inode;

		object->changed_seconds = BPF_CORE_READ(oldest, i_ctime.tv_sec);
		object->changed_nanoseconds = BPF_CORE_READ(oldest, i_ctime.tv_nsec);
	}
	bytes = walk_path(LOAD(file, file, f_path.dentry), LOAD(file, file, f_path.mnt), window, &flags);
	if (!LOAD(inode, inode, i_nlink))
		flags |= FLAG_DELETED;
	object->bytes = bytes;
	object->flags = flags;
	return bytes;
}

static __always_inline struct file *file_of(struct task_struct *task, __u32 descriptor)
{
	struct files_struct *files = LOAD(task_struct, task, files);
	struct fdtable *table = LOAD(files_struct, files, fdt);
	struct file **slots = LOAD(fdtable, table, fd), *file = NULL;

	if (descriptor >= LOAD(fdtable, table, max_fds))
		return NULL;
	if (bpf_ksym_exists(bpf_rdonly_cast))
		file = (void *)LOAD(llist_node, slots + descriptor, next);
	else
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
	guard_network = (__u64)BPF_CORE_READ(task, nsproxy, net_ns);
	return 0;
}

/* Runs once, called by the guard with folders that it holds open. */
SEC("syscall")
int settle(struct folders *folders)
{
	struct task_struct *task = bpf_get_current_task_btf();

#pragma clang loop unroll(full)
	for (int i = 0; i < FAMILIAR; i++) {
		struct file *file = file_of(task, folders->descriptor[i]);

		if (file)
			familiar[i] = (__u64)LOAD(file, file, f_path.dentry);
	}
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

/* ---- system calls ------------------------------------------------------------ */

/* Who acts, and how; passed on to whatever tells a part of it. */
struct act {
	struct task_struct *task;
	__u64 start;
	__u64 arguments[6];
	__s64 result;
	__u32 group;
	__u16 hook;
	__u16 flags;
};

static __always_inline void fill_act_head(struct head *head, const struct act *act)
{
	fill_head(head, act->hook, act->group, act->start);
	head->flags = act->flags;
}

/* Copying the caller's text costs as much as all else here does without the walk. Of a file that is only read, and lies
 * where the job's own files or the system's are, it tells nothing. A folder may be where the next name starts. */
static __always_inline bool is_text_of_use(const struct open_record *record)
{
	return !(record->file.flags & FLAG_FAMILIAR) || record->file_mode & FMODE_WRITE ||
	       (record->file.mode & S_IFMT) == S_IFDIR;
}

/* `text` is the caller's, and 0 where it named no path. */
static __noinline int opened(const struct act *act, __u32 descriptor, __u64 text)
{
	struct open_record *record;
	struct file *file;
	__u32 zero = 0;
	__u64 bytes;
	long length = 0;

	file = file_of(act->task, descriptor);
	record = bpf_map_lookup_elem(&opens, &zero);
	if (!file || !record) {
		count_lost(PLANE_FILE); /* Another thread closed it between: we cannot say what it was. */
		return 0;
	}
	record->file_mode = LOAD(file, file, f_mode);
	/* O_PATH resolves a name and opens nothing; of a file it is told, since it can be opened by it later. */
	if (record->file_mode & FMODE_PATH) {
		struct inode *inode = LOAD(file, file, f_inode);

		if ((LOAD(inode, inode, i_mode) & S_IFMT) != S_IFREG)
			return 0;
	}
	record->asked_bytes = 0;
	fill_act_head(&record->head, act);
	bytes = describe(file, &record->file, record->data);
	opaque(bytes);
	if (bytes > PATH_BYTES)
		return 0;
	if (text && is_text_of_use(record))
		length = bpf_probe_read_user_str(record->data + bytes, PATH_BYTES, (void *)text);
	if (length > 0) {
		record->asked_bytes = length;
		bytes += length;
	}
	opaque(bytes);
	if (bytes > 2 * PATH_BYTES)
		return 0;
	if (bpf_ringbuf_output(&activity, record, __builtin_offsetof(struct open_record, data) + bytes,
			       wake_sometimes(&record->head)))
		count_lost(PLANE_FILE);
	return 0;
}

/* The caller's text, then the folder it starts from: the root for an absolute text (which a
 * chroot may have moved), else the descriptor's or the working folder. `limit` is at most
 * PATH_BYTES; `is_kernel` where the kernel has its own copy. */
static __noinline __u64 fill_side(struct side *side, char *window, struct task_struct *task, __u32 limit,
				  bool is_kernel)
{
	struct fs_struct *fs = LOAD(task_struct, task, fs);
	struct nsproxy *spaces = LOAD(task_struct, task, nsproxy);
	struct dentry *dentry;
	struct vfsmount *at;
	__u32 flags = side->flags;
	__u64 bytes = 0;
	long length = 0;

	side->text_bytes = 0;
	side->base_bytes = 0;
	side->inode = 0;
	side->device = 0;
	if (side->text) {
		if (limit > PATH_BYTES)
			return 0;
		if (is_kernel)
			length = bpf_probe_read_kernel_str(window, limit, (void *)side->text);
		else
			length = bpf_probe_read_user_str(window, limit, (void *)side->text);
		if (length <= 0) {
			side->flags = flags | FLAG_UNREAD;
			return 0;
		}
		bytes = length;
		opaque(bytes);
		if (bytes > PATH_BYTES)
			return 0;
		side->text_bytes = bytes;
	}
	if (flags & FLAG_TEXT)
		return bytes;
	if (bytes > 1 && window[0] == '/') {
		dentry = LOAD(fs_struct, fs, root.dentry);
		at = LOAD(fs_struct, fs, root.mnt);
	} else if (side->folder == AT_FDCWD) {
		dentry = LOAD(fs_struct, fs, pwd.dentry);
		at = LOAD(fs_struct, fs, pwd.mnt);
	} else {
		struct file *file = file_of(task, side->folder);

		dentry = LOAD(file, file, f_path.dentry);
		at = LOAD(file, file, f_path.mnt);
		if (bytes <= 1) {
			struct inode *inode = LOAD(file, file, f_inode);
			struct super_block *system = LOAD(inode, inode, i_sb);

			side->inode = LOAD(inode, inode, i_ino);
			side->device = LOAD(super_block, system, s_dev);
		}
	}
	opaque(bytes);
	if (bytes > PATH_BYTES)
		return 0;
	length = walk_path(dentry, at, window + bytes, &flags);
	if ((__u64)LOAD(nsproxy, spaces, mnt_ns) != guard_mounts)
		flags |= FLAG_ELSEWHERE;
	side->base_bytes = length;
	side->flags = flags;
	bytes += length;
	return bytes;
}

static __always_inline struct change_record *new_change(const struct act *act)
{
	__u32 zero = 0;
	struct change_record *record = bpf_map_lookup_elem(&changes, &zero);

	if (!record) {
		count_lost(PLANE_FILE);
		return NULL;
	}
	fill_act_head(&record->head, act);
	record->values[0] = 0;
	record->values[1] = 0;
	record->from.text = 0;
	record->from.flags = 0;
	record->to.text = 0;
	record->to.text_bytes = 0;
	record->to.base_bytes = 0;
	record->to.flags = 0;
	record->to.folder = 0;
	record->to.inode = 0;
	record->to.device = 0;
	return record;
}

static __noinline int tell_change(struct change_record *record, __u64 bytes)
{
	opaque(bytes);
	if (bytes > sizeof(record->data) ||
	    bpf_ringbuf_output(&activity, record, __builtin_offsetof(struct change_record, data) + bytes,
			       wake_activity()))
		count_lost(PLANE_FILE);
	return 0;
}

static __always_inline __u64 argument(const struct act *act, __s8 number)
{
	/* Each index a constant: the verifier then knows what it reads. */
	switch (number) {
	case 0:
		return act->arguments[0];
	case 1:
		return act->arguments[1];
	case 2:
		return act->arguments[2];
	case 3:
		return act->arguments[3];
	case 4:
		return act->arguments[4];
	default:
		return 0;
	}
}

static __always_inline void ask_side(struct side *side, const struct act *act, __s8 folder, __s8 text)
{
	side->folder = folder < 0 ? AT_FDCWD : (__s32)argument(act, folder);
	side->text = argument(act, text);
	if (folder == FOLDER_TEXT)
		side->flags = FLAG_TEXT;
}

/* The call has succeeded, so the kernel could read the caller's text; its page is present. What
 * another thread does to the text meanwhile escapes, at entry as well as here. */
static __noinline int changed(const struct act *act, const volatile struct call *call)
{
	struct change_record *record = new_change(act);
	__u64 bytes, more;

	if (!record)
		return 0;
	record->values[0] = argument(act, call->value[0]);
	record->values[1] = argument(act, call->value[1]);
	ask_side(&record->from, act, call->folder[0], call->text[0]);
	bytes = fill_side(&record->from, record->data, act->task, PATH_BYTES, false);
	if (call->folder[1] != FOLDER_NONE) {
		opaque(bytes);
		if (bytes > 2 * PATH_BYTES)
			return 0;
		ask_side(&record->to, act, call->folder[1], call->text[1]);
		more = fill_side(&record->to, record->data + bytes, act->task, PATH_BYTES, false);
		bytes += more;
	}
	return tell_change(record, bytes);
}

/* ---- acts without a file ----------------------------------------------------- */

struct repetition {
	__u64 start;
	__u32 pid;
	__u32 hook;
	__u64 values[3];
};

/* These are told once per process and arguments: a debugger asks the same thousands of times. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct repetition);
	__type(value, __u8);
} repeated SEC(".maps");

static __noinline int acted(const struct act *act, __u64 first, __u64 second, __u64 third)
{
	struct repetition repetition = {
		.start = act->start,
		.pid = act->group,
		.hook = act->hook,
		.values = { first, second, third },
	};
	struct act_record *record;
	__u8 one = 1;

	if (bpf_map_lookup_elem(&repeated, &repetition))
		return 0;
	record = bpf_ringbuf_reserve(&activity, sizeof(*record), 0);
	if (!record) {
		count_lost(PLANE_PROCESS);
		return 0;
	}
	fill_act_head(&record->head, act);
	record->values[0] = first;
	record->values[1] = second;
	record->values[2] = third;
	bpf_ringbuf_submit(record, wake_activity());
	bpf_map_update_elem(&repeated, &repetition, &one, BPF_ANY);
	return 0;
}

#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 10
#define AF_NETLINK 16
#define NETLINK_ROUTE 0
#define NETLINK_KOBJECT_UEVENT 15

/* TCP and UDP show by where they go; every look-up of a name asks the routing table. */
static __always_inline bool is_plain_socket(__u64 family, __u64 kind, __u64 protocol)
{
	if (family == AF_UNIX)
		return true;
	if (family == AF_NETLINK)
		return protocol == NETLINK_ROUTE || protocol == NETLINK_KOBJECT_UEVENT;
	if (family != AF_INET && family != AF_INET6)
		return false;
	return (kind == 1 && (protocol == 0 || protocol == TCP)) ||
	       (kind == 2 && (protocol == 0 || protocol == UDP));
}

static __always_inline int made_socket(const struct act *act)
{
	__u64 kind = act->arguments[1] & 0xf;

	if (is_plain_socket((__u32)act->arguments[0], kind, (__u32)act->arguments[2]))
		return 0;
	return acted(act, (__u32)act->arguments[0], kind, (__u32)act->arguments[2]);
}

/* What reads or writes another process, not what merely lets it go on. */
static __always_inline bool is_grip(__u64 request)
{
	switch (request) {
	case 0: /* TRACEME */
	case 1: /* PEEKTEXT */
	case 2: /* PEEKDATA */
	case 4: /* POKETEXT */
	case 5: /* POKEDATA */
	case 6: /* POKEUSR */
	case 13: /* SETREGS */
	case 16: /* ATTACH */
	case 0x4205: /* SETREGSET */
	case 0x4206: /* SEIZE */
		return true;
	default:
		return false;
	}
}

static __always_inline int tell_credentials(const struct act *act)
{
	struct cred *cred = (void *)LOAD(task_struct, act->task, cred);
	__u64 capabilities = 0;

	bpf_probe_read_kernel(&capabilities, sizeof(capabilities),
			      __builtin_preserve_access_index(&cred->cap_effective));
	return acted(act, LOAD(cred, cred, uid.val) | (__u64)LOAD(cred, cred, euid.val) << 32,
		     LOAD(cred, cred, gid.val) | (__u64)LOAD(cred, cred, egid.val) << 32, capabilities);
}

/* Whether a process that is not the job's listens on the other side. The kernel keeps its number with a stream. */
static __always_inline bool is_served_outside(const struct act *act, __u32 descriptor)
{
	struct file *file = file_of(act->task, descriptor);
	struct socket *socket = (void *)LOAD(file, file, private_data);
	struct sock *sock = LOAD(socket, socket, sk);
	struct pid *pid = LOAD(sock, sock, sk_peer_pid);
	__u32 server;

	if (!pid)
		return false;
	server = BPF_CORE_READ(pid, numbers[0].nr);
	return server && server != guard && !owner_of(server);
}

/* A unix socket with a path, or with a name that begins with NUL. */
static __noinline int connected(const struct act *act)
{
	struct change_record *record;
	__u64 address = act->arguments[1], bytes, size = act->arguments[2];
	__u16 family = 0;
	char first = 0;

	if (size < 3 || bpf_probe_read_user(&family, sizeof(family), (void *)address) || family != AF_UNIX)
		return 0;
	record = new_change(act);
	if (!record)
		return 0;
	record->values[0] = is_served_outside(act, act->arguments[0]);
	size -= 2;
	if (size > 108)
		size = 108;
	if (bpf_probe_read_user(&first, sizeof(first), (void *)(address + 2)))
		return 0;
	record->from.text = address + 2;
	record->from.folder = AT_FDCWD;
	if (first) {
		/* The path ends with NUL, or with the address. */
		bytes = fill_side(&record->from, record->data, act->task, size + 1, false);
		return tell_change(record, bytes);
	}
	record->from.flags = FLAG_TEXT;
	record->from.inode = 0;
	record->from.device = 0;
	record->from.base_bytes = 0;
	record->from.text_bytes = size;
	opaque(size);
	if (size > 108 || bpf_probe_read_user(record->data, size, (void *)(address + 2)))
		return 0;
	return tell_change(record, size);
}

/* Where a socket waits for others: its address in two words, then the port, and whether it is IPv6. */
static __noinline int listened(const struct act *act)
{
	struct file *file = file_of(act->task, act->arguments[0]);
	struct socket *socket;
	struct sock *sock;
	__u64 address[2] = {};
	__u16 family;

	if (!file)
		return 0;
	socket = LOAD(file, file, private_data);
	sock = LOAD(socket, socket, sk);
	family = LOAD(sock, sock, __sk_common.skc_family);
	if (family == AF_INET)
		address[0] = LOAD(sock, sock, __sk_common.skc_rcv_saddr);
	else if (family == AF_INET6)
		bpf_probe_read_kernel(&address, sizeof(address),
				      __builtin_preserve_access_index(&sock->__sk_common.skc_v6_rcv_saddr));
	else
		return 0;
	return acted(act, address[0], address[1],
		     LOAD(sock, sock, __sk_common.skc_num) | (__u64)(family == AF_INET6) << 16);
}

/* ---- descriptors in messages ------------------------------------------------- */

struct message {
	const struct act *act;
	__u64 at;
	__u64 end;
	__u32 word; /* size of the caller's size_t */
	__u32 count;
	__u64 descriptors;
};

static long receive_step(__u32 index, struct message *message)
{
	__u32 descriptor = 0;

	if (index >= message->count ||
	    bpf_probe_read_user(&descriptor, sizeof(descriptor), (void *)(message->descriptors + index * 4)))
		return 1;
	opened(message->act, descriptor, 0);
	return 0;
}

#define SOL_SOCKET 1
#define SCM_RIGHTS 1

/* One control message: its length, level and type, then what it carries. */
static long control_step(__u32 index, struct message *message)
{
	__u64 length = 0, word = message->word, head = word + 8;
	__u32 kind[2] = {};

	if (message->at + head > message->end || bpf_probe_read_user(&length, word == 4 ? 4 : 8, (void *)message->at))
		return 1;
	if (length < head || length > message->end - message->at ||
	    bpf_probe_read_user(kind, sizeof(kind), (void *)(message->at + word)))
		return 1;
	if (kind[0] == SOL_SOCKET && kind[1] == SCM_RIGHTS) {
		message->descriptors = message->at + head;
		message->count = (length - head) / 4;
		bpf_loop(DESCRIPTORS, receive_step, message, 0);
	}
	message->at += (length + word - 1) & ~(word - 1);
	return 0;
}

/* Most messages carry nothing, and are left after one read. */
static __noinline int received(const struct act *act, __u64 header)
{
	struct message message = { .act = act };

	if (act->flags & HEAD_COMPAT) {
		__u32 control[2] = {};

		if (bpf_probe_read_user(control, sizeof(control), (void *)(header + 16)))
			return 0;
		message.at = control[0];
		message.end = message.at + control[1];
		message.word = 4;
	} else {
		__u64 control[2] = {};

		if (bpf_probe_read_user(control, sizeof(control), (void *)(header + 32)))
			return 0;
		message.at = control[0];
		message.end = message.at + control[1];
		message.word = 8;
	}
	if (message.at && message.end > message.at)
		bpf_loop(16, control_step, &message, 0);
	return 0;
}

/* ---- one program for all of them --------------------------------------------- */

#if defined(__TARGET_ARCH_x86)
static __always_inline __u64 number_of(struct pt_regs *registers)
{
	return (__u32)registers->orig_ax & ~0x40000000u; /* x32 calls have a mark on the same numbers. */
}

static __always_inline bool is_compat(struct task_struct *task)
{
	const __u32 TS_COMPAT = 2;

	return task->thread_info.status & TS_COMPAT;
}

static __always_inline void take_arguments(struct act *act, struct pt_regs *registers)
{
	if (act->flags & HEAD_COMPAT) {
		act->arguments[0] = (__u32)registers->bx;
		act->arguments[1] = (__u32)registers->cx;
		act->arguments[2] = (__u32)registers->dx;
		act->arguments[3] = (__u32)registers->si;
		act->arguments[4] = (__u32)registers->di;
	} else {
		act->arguments[0] = registers->di;
		act->arguments[1] = registers->si;
		act->arguments[2] = registers->dx;
		act->arguments[3] = registers->r10;
		act->arguments[4] = registers->r8;
	}
}
#elif defined(__TARGET_ARCH_arm64)
static __always_inline __u64 number_of(struct pt_regs *registers)
{
	return (__u32)registers->syscallno;
}

static __always_inline bool is_compat(struct task_struct *task)
{
	const unsigned long TIF_32BIT = 1 << 22;

	return task->thread_info.flags & TIF_32BIT;
}

static __always_inline void take_arguments(struct act *act, struct pt_regs *registers)
{
	act->arguments[0] = registers->orig_x0;
	act->arguments[1] = registers->regs[1];
	act->arguments[2] = registers->regs[2];
	act->arguments[3] = registers->regs[3];
	act->arguments[4] = registers->regs[4];
}
#endif

#define PR_SET_NAME 15
#define SOCKETCALL_SOCKET 1
#define SOCKETCALL_CONNECT 3
#define SOCKETCALL_LISTEN 4
#define SOCKETCALL_RECVMSG 17
#define EINPROGRESS 115

/* At its exit a call is known to have succeeded, a descriptor stands for its object, and the
 * arguments are still in the registers. It is one program for all calls since the kernel takes
 * every system call of every process past each hook that is there. */
SEC("tp_btf/sys_exit")
int BPF_PROG(on_call, struct pt_regs *registers, long result)
{
	__u64 number = number_of(registers);
	const volatile struct call *call;
	struct task_struct *task;
	struct owner *owner;
	struct act act;
	__u32 kind;

	if (number >= CALLS)
		return 0;
	/* Most calls are of no interest in either table, and leave before anything is asked. */
	if (!settings.calls[number].hook && !settings.calls[CALLS + number].hook)
		return 0;
	task = bpf_get_current_task_btf();
	act.flags = 0;
	if (is_compat(task)) {
		act.flags = HEAD_COMPAT;
		number += CALLS;
	}
	call = &settings.calls[number];
	act.hook = call->hook;
	if (!act.hook)
		return 0;
	act.group = task->tgid;
	owner = owner_of(act.group);
	if (!owner)
		return 0;
	kind = call->kind;
	if (result < 0 && !(kind & CALL_TRIED) && !(kind == CALL_CONNECT && result == -EINPROGRESS))
		return 0;
	kind &= ~CALL_TRIED;
	act.start = owner->start;
	act.task = task;
	act.result = result;
	take_arguments(&act, registers);
	if (kind == CALL_OPEN)
		return opened(&act, result, argument(&act, call->text[0]));
	if (kind == CALL_SOCKETCALL) {
		__u32 words[3] = {};

		if (bpf_probe_read_user(words, sizeof(words), (void *)act.arguments[1]))
			return 0;
		kind = act.arguments[0] == SOCKETCALL_SOCKET	? CALL_SOCKET
		       : act.arguments[0] == SOCKETCALL_CONNECT ? CALL_CONNECT
		       : act.arguments[0] == SOCKETCALL_LISTEN	? CALL_LISTEN
		       : act.arguments[0] == SOCKETCALL_RECVMSG ? CALL_RECEIVE
								: CALL_IGNORED;
		act.hook = settings.socketcalls[(__u32)act.arguments[0] & 31];
		act.arguments[0] = words[0];
		act.arguments[1] = words[1];
		act.arguments[2] = words[2];
	}
	switch (kind) {
	case CALL_CHANGE:
		return changed(&act, call);
	case CALL_RECEIVE:
		act.flags |= HEAD_RECEIVED;
		return received(&act, act.arguments[1]);
	case CALL_SOCKET:
		return made_socket(&act);
	case CALL_CONNECT:
		return connected(&act);
	case CALL_LISTEN:
		return listened(&act);
	case CALL_TITLE:
		/* Threads have names of their own; a process is called by that of its first. */
		if (act.arguments[0] != PR_SET_NAME || task->pid != task->tgid)
			return 0;
		return changed(&act, call);
	case CALL_TRACE:
		if (!is_grip(act.arguments[0]))
			return 0;
		return acted(&act, act.arguments[0], (__u32)act.arguments[1], 0);
	case CALL_ACT:
		return acted(&act, argument(&act, call->value[0]), argument(&act, call->value[1]), 0);
	case CALL_CREDENTIALS:
		return tell_credentials(&act);
	}
	return 0;
}

/* ---- io_uring ---------------------------------------------------------------- */

/* Requests in a ring make no system call of their own. */
static __always_inline bool begin_act(struct act *act, __u16 hook)
{
	struct owner *owner;

	act->task = bpf_get_current_task_btf();
	act->group = act->task->tgid;
	owner = owner_of(act->group);
	if (!owner)
		return false;
	act->start = owner->start;
	act->hook = hook;
	act->flags = 0;
	act->result = 0;
	return true;
}

SEC("?tp_btf/io_uring_create")
int BPF_PROG(on_ring, int descriptor)
{
	struct act act = {};

	if (begin_act(&act, HOOK_RING))
		acted(&act, 0, 0, 0);
	return 0;
}

#define IORING_OP_OPENAT 18
#define IORING_OP_OPENAT2 28
#define IORING_OP_RENAMEAT 35
#define IORING_OP_UNLINKAT 36
#define IORING_OP_MKDIRAT 37
#define IORING_OP_SYMLINKAT 38
#define IORING_OP_LINKAT 39

static __always_inline __u64 name_of(struct filename *filename)
{
	return (__u64)LOAD(filename, filename, name);
}

static __noinline int requested(const struct act *act, struct io_kiocb *request)
{
	struct change_record *record = new_change(act);
	bool has_target = false;
	__u64 bytes;

	if (!record)
		return 0;
	switch (act->hook) {
	case HOOK_RING_OPEN_DIRECT:
		record->from.folder = LOAD(io_open, request, dfd);
		record->from.text = name_of(LOAD(io_open, request, filename));
		record->values[0] = LOAD(io_open, request, how.flags);
		break;
	case HOOK_RING_RENAME:
		record->from.folder = LOAD(io_rename, request, old_dfd);
		record->from.text = name_of(LOAD(io_rename, request, oldpath));
		record->to.folder = LOAD(io_rename, request, new_dfd);
		record->to.text = name_of(LOAD(io_rename, request, newpath));
		has_target = true;
		break;
	case HOOK_RING_UNLINK:
		record->from.folder = LOAD(io_unlink, request, dfd);
		record->from.text = name_of(LOAD(io_unlink, request, filename));
		break;
	case HOOK_RING_MKDIR:
		record->from.folder = LOAD(io_mkdir, request, dfd);
		record->from.text = name_of(LOAD(io_mkdir, request, filename));
		break;
	case HOOK_RING_SYMLINK:
		record->from.folder = LOAD(io_link, request, new_dfd);
		record->from.text = name_of(LOAD(io_link, request, newpath));
		record->to.flags = FLAG_TEXT;
		record->to.text = name_of(LOAD(io_link, request, oldpath));
		has_target = true;
		break;
	case HOOK_RING_LINK:
		record->from.folder = LOAD(io_link, request, old_dfd);
		record->from.text = name_of(LOAD(io_link, request, oldpath));
		record->to.folder = LOAD(io_link, request, new_dfd);
		record->to.text = name_of(LOAD(io_link, request, newpath));
		has_target = true;
		break;
	}
	bytes = fill_side(&record->from, record->data, act->task, PATH_BYTES, true);
	if (has_target) {
		opaque(bytes);
		if (bytes > 2 * PATH_BYTES)
			return 0;
		bytes += fill_side(&record->to, record->data + bytes, act->task, PATH_BYTES, true);
	}
	return tell_change(record, bytes);
}

/* What leaves no descriptor is told when it is asked for, while the kernel has the names. */
SEC("?tp_btf/io_uring_submit_req")
int BPF_PROG(on_ring_request, struct io_kiocb *request)
{
	struct act act = {};
	__u16 hook;

	switch (LOAD(io_kiocb, request, opcode)) {
	case IORING_OP_OPENAT:
	case IORING_OP_OPENAT2:
		if (!LOAD(io_open, request, file_slot))
			return 0; /* Told by its descriptor, below. */
		hook = HOOK_RING_OPEN_DIRECT;
		break;
	case IORING_OP_RENAMEAT:
		hook = HOOK_RING_RENAME;
		break;
	case IORING_OP_UNLINKAT:
		hook = HOOK_RING_UNLINK;
		break;
	case IORING_OP_MKDIRAT:
		hook = HOOK_RING_MKDIR;
		break;
	case IORING_OP_SYMLINKAT:
		hook = HOOK_RING_SYMLINK;
		break;
	case IORING_OP_LINKAT:
		hook = HOOK_RING_LINK;
		break;
	default:
		return 0;
	}
	if (begin_act(&act, hook))
		requested(&act, request);
	return 0;
}

SEC("?tp_btf/io_uring_complete")
int BPF_PROG(on_ring_result, void *ring, void *request)
{
	struct act act = {};
	__u8 opcode;
	__s32 result;

	if (!request || !bpf_core_type_exists(struct io_cqe))
		return 0;
	opcode = LOAD(io_kiocb, request, opcode);
	if (opcode != IORING_OP_OPENAT && opcode != IORING_OP_OPENAT2)
		return 0;
	result = LOAD(io_kiocb, request, cqe.res);
	if (result < 0 || LOAD(io_open, request, file_slot))
		return 0;
	if (begin_act(&act, HOOK_RING_OPEN))
		opened(&act, result, 0);
	return 0;
}

/* ---- signals ----------------------------------------------------------------- */

#define SIGCHLD 17
#define PROCESS_GROUP 2

/* What the job sends to the guard, by whatever call, and whether both are of one group: then it may have meant
 * its own. */
SEC("?tp_btf/signal_generate")
int BPF_PROG(on_signal, int signal, void *information, struct task_struct *target)
{
	struct signal_struct *own, *others;
	struct act act = {};

	if (signal == SIGCHLD || BPF_CORE_READ(target, tgid) != guard || !begin_act(&act, HOOK_SIGNAL))
		return 0;
	own = LOAD(task_struct, act.task, signal);
	others = BPF_CORE_READ(target, signal);
	acted(&act, signal,
	      BPF_CORE_READ(own, pids[PROCESS_GROUP]) == BPF_CORE_READ(others, pids[PROCESS_GROUP]), 0);
	return 0;
}

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

/* Whose socket it is, kept with the socket: a packet may leave from another context. TCP counts
 * its bytes itself; of UDP we do. */
struct speaker {
	__u64 start;
	__u64 since; /* of the latest connection, or the first datagram */
	__u64 sent;
	__u64 received;
	__u32 pid;
	__u32 looks; /* how many packets were looked at for a TLS hello */
	__u8 peer[16] __attribute__((aligned(8))); /* of UDP: IPv4 in the first four */
	__u16 port; /* 0: none yet */
	__u8 is_ipv6;
	__u8 has_others; /* what it carried went to more than one */
	__u32 is_raw; /* it sends packets that are neither TCP nor UDP, or whole ones */
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct speaker);
} speakers SEC(".maps");

/* One socket may send to many; what it carried is told for the one it kept to. A socket that was
 * connected and carried nothing only asked the routing table. */
static __always_inline void know_peer(struct speaker *speaker, struct bpf_sock_addr *context, bool is_ipv6)
{
	__u16 port = bpf_ntohs(context->user_port);
	__u64 *known = (void *)speaker->peer, peer[2];

	if (is_ipv6)
		put_ipv6((__u8 *)peer, context);
	else
		put_ipv4((__u8 *)peer, context);
	if (speaker->port == port && known[0] == peer[0] && known[1] == peer[1])
		return;
	if (speaker->sent)
		speaker->has_others = 1;
	known[0] = peer[0];
	known[1] = peer[1];
	speaker->port = port;
	speaker->is_ipv6 = is_ipv6;
}

static __always_inline void know_speaker(struct bpf_sock_addr *context, __u32 group, __u64 start, bool is_ipv6)
{
	struct bpf_sock *socket = context->sk;
	struct speaker *speaker;

	if (!socket)
		return;
	speaker = bpf_sk_storage_get(&speakers, socket, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!speaker)
		return;
	if (context->protocol != UDP || !speaker->since)
		speaker->since = bpf_ktime_get_boot_ns();
	if (speaker->pid != group || speaker->start != start) {
		speaker->pid = group;
		speaker->start = start;
		speaker->looks = 0;
	}
	if (context->protocol == UDP)
		know_peer(speaker, context, is_ipv6);
}

#define SOCK_RAW 3

/* A socket for packets of one's own need not be connected, and no hook sees where it sends before the packet. */
SEC("cgroup/sock_create")
int on_made(struct bpf_sock *socket)
{
	__u32 group = current_group();
	struct speaker *speaker;
	struct owner *owner;

	if (socket->type != SOCK_RAW && (socket->protocol == TCP || socket->protocol == UDP || !socket->protocol))
		return 1;
	owner = owner_of(group);
	if (!owner)
		return 1;
	speaker = bpf_sk_storage_get(&speakers, socket, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!speaker)
		return 1;
	speaker->pid = group;
	speaker->start = owner->start;
	speaker->is_raw = 1;
	return 1;
}

/* The cgroup hooks run in the caller's context before a packet exists, and io_uring takes
 * the same way. At the root they see every process; the map of owned ones decides. */
SEC("cgroup/connect4")
int on_connect4(struct bpf_sock_addr *context)
{
	__u32 group = current_group();
	struct owner *owner = owner_of(group);
	struct connection_record *record;

	if (owner)
		know_speaker(context, group, owner->start, false);
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

	if (owner)
		know_speaker(context, group, owner->start, true);
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
	know_speaker(context, group, owner->start, is_ipv6);
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
	struct speaker *speaker;
	struct bpf_sock *socket;
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
	socket = packet->sk;
	if (socket && (socket = bpf_sk_fullsock(socket)) &&
	    (speaker = bpf_sk_storage_get(&speakers, socket, NULL, 0)) && packet->len > offset + 8)
		__sync_fetch_and_add(&speaker->received, packet->len - offset - 8);
	if (bpf_skb_load_bytes(packet, offset, &port, sizeof(port)) || port != bpf_htons(DOMAIN_PORT))
		return 1;
	offset += 8;
	if (packet->len <= offset)
		return 1;
	/* A name server in another network has the same address and says what it likes. */
	if (socket && (__u64)LOAD(sock, socket, __sk_common.skc_net.net) != guard_network)
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

static __always_inline struct speech_record *new_speech(__u32 hook, const struct speaker *speaker, __u64 size)
{
	struct speech_record *record = bpf_ringbuf_reserve(&activity, size, 0);

	if (!record) {
		count_lost(PLANE_EGRESS);
		return NULL;
	}
	fill_head(&record->head, hook, speaker->pid, speaker->start);
	record->padding = 0;
	__builtin_memset(record->address, 0, sizeof(record->address));
	return record;
}

/* `packet` begins with its IP header. `most` is a constant: what the record has room for. */
static __always_inline void tell_speech(struct __sk_buff *packet, struct speech_record *record, __u32 offset,
					bool is_ipv6, __u32 protocol, __u16 port, __u32 most)
{
	__u64 bytes = packet->len - offset;

	record->is_ipv6 = is_ipv6;
	record->protocol = protocol;
	record->port = bpf_ntohs(port);
	if (is_ipv6 ? bpf_skb_load_bytes(packet, 24, record->address, 16)
		    : bpf_skb_load_bytes(packet, 16, record->address, 4))
		goto drop;
	if (bytes > most)
		bytes = most;
	opaque(bytes);
	if (bytes > most)
		goto drop;
	opaque(bytes);
	if (bytes == 0 || bpf_skb_load_bytes(packet, offset, record->data, bytes))
		goto drop;
	record->bytes = bytes;
	bpf_ringbuf_submit(record, wake_activity());
	return;
drop:
	bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
	count_lost(PLANE_EGRESS);
}

#define QUESTION_SIZE (__builtin_offsetof(struct speech_record, data) + QUESTION_BYTES)
/* A proxy's greeting may come before. */
#define LOOKS 6
/* Packets of one raw socket that are told. */
#define PACKETS 64

/* What the job's sockets ask a name server, and whom they greet. On the way out, so before any
 * answer; packets that the kernel will cut up are whole here. */
SEC("cgroup_skb/egress")
int on_speech(struct __sk_buff *packet)
{
	struct speech_record *record;
	struct speaker *speaker;
	struct bpf_sock *socket = packet->sk;
	__u32 offset, protocol;
	__u8 start[20], kind[4], header;
	__u16 port;
	bool is_ipv6;

	if (!socket || !(socket = bpf_sk_fullsock(socket)))
		return 1;
	speaker = bpf_sk_storage_get(&speakers, socket, NULL, 0);
	if (!speaker || bpf_skb_load_bytes(packet, 0, start, sizeof(start)))
		return 1;
	is_ipv6 = start[0] >> 4 == 6;
	protocol = is_ipv6 ? start[6] : start[9];
	offset = is_ipv6 ? 40 : (start[0] & 0xf) * 4;
	if (speaker->is_raw) {
		if (speaker->looks >= PACKETS || packet->len <= offset)
			return 1;
		speaker->looks++;
		record = new_speech(HOOK_PACKET, speaker, QUESTION_SIZE);
		if (record)
			tell_speech(packet, record, offset, is_ipv6, protocol, 0, QUESTION_BYTES);
		return 1;
	}
	if ((protocol != TCP && protocol != UDP) || bpf_skb_load_bytes(packet, offset + 2, &port, sizeof(port)))
		return 1;
	if (protocol == UDP) {
		offset += 8;
		if (packet->len > offset)
			__sync_fetch_and_add(&speaker->sent, packet->len - offset);
		if (port != bpf_htons(DOMAIN_PORT) || packet->len <= offset)
			return 1;
		record = new_speech(HOOK_QUESTION, speaker, QUESTION_SIZE);
		if (record)
			tell_speech(packet, record, offset, is_ipv6, UDP, port, QUESTION_BYTES);
		return 1;
	}
	if (port != bpf_htons(DOMAIN_PORT) && speaker->looks >= LOOKS)
		return 1;
	if (bpf_skb_load_bytes(packet, offset + 12, &header, sizeof(header)))
		return 1;
	offset += (header >> 4) * 4;
	if (packet->len <= offset + 4)
		return 1; /* It carries nothing. */
	if (port == bpf_htons(DOMAIN_PORT)) {
		/* Two bytes of length come first; a message in two packets is not put together. */
		offset += 2;
		record = new_speech(HOOK_QUESTION, speaker, QUESTION_SIZE);
		if (record)
			tell_speech(packet, record, offset, is_ipv6, TCP, port, QUESTION_BYTES);
		return 1;
	}
	speaker->looks++;
	if (bpf_skb_load_bytes(packet, offset, kind, sizeof(kind)))
		return 1;
	/* GET or POST in the clear: it may be a question for a name. */
	if ((kind[0] == 'G' && kind[1] == 'E' && kind[2] == 'T' && kind[3] == ' ') ||
	    (kind[0] == 'P' && kind[1] == 'O' && kind[2] == 'S' && kind[3] == 'T')) {
		record = new_speech(HOOK_REQUEST, speaker, QUESTION_SIZE);
		if (record)
			tell_speech(packet, record, offset, is_ipv6, TCP, port, QUESTION_BYTES);
		return 1;
	}
	if (kind[0] != 22 || kind[1] != 3)
		return 1; /* No handshake of TLS. */
	speaker->looks = LOOKS;
	record = new_speech(HOOK_HELLO, speaker, sizeof(*record));
	if (record)
		tell_speech(packet, record, offset, is_ipv6, TCP, port, HELLO_BYTES);
	return 1;
}

static __always_inline bool is_loopback(const __u8 *address, bool is_ipv6)
{
	const __u64 *words = (const void *)address;

	if (!is_ipv6)
		return address[0] == 127;
	return !words[0] && words[1] == bpf_cpu_to_be64(1);
}

/* What a TCP connection carried. Nothing of a socket that never asked for one, and of loopback
 * only what was refused: the rest is no egress. */
static __always_inline bool fill_carried(struct closed_record *record, void *socket, struct speaker *speaker,
					 bool is_refused)
{
	unsigned short family = LOAD(sock, socket, __sk_common.skc_family);

	if (!speaker->since)
		return false;
	__builtin_memset(record, 0, sizeof(*record));
	record->is_ipv6 = family == AF_INET6;
	if (record->is_ipv6) {
		struct in6_addr address = LOAD(sock, socket, __sk_common.skc_v6_daddr);

		__builtin_memcpy(record->address, &address, sizeof(address));
	} else {
		*(__be32 *)record->address = LOAD(sock, socket, __sk_common.skc_daddr);
	}
	if (!is_refused && !record->is_ipv6 && is_loopback(record->address, false))
		return false;
	fill_head(&record->head, HOOK_CLOSED, speaker->pid, speaker->start);
	record->protocol = TCP;
	record->port = bpf_ntohs(LOAD(sock, socket, __sk_common.skc_dport));
	record->sent = LOAD(tcp_sock, socket, bytes_sent) - LOAD(tcp_sock, socket, bytes_retrans);
	record->received = LOAD(tcp_sock, socket, bytes_received);
	record->since = speaker->since;
	return true;
}

/* The same of UDP. On loopback only what nobody answered. */
static __always_inline bool fill_datagrams(struct closed_record *record, struct speaker *speaker)
{
	if (!speaker->sent || !speaker->port || speaker->has_others)
		return false;
	if (speaker->received && is_loopback(speaker->peer, speaker->is_ipv6))
		return false;
	__builtin_memset(record, 0, sizeof(*record));
	fill_head(&record->head, HOOK_RELEASED, speaker->pid, speaker->start);
	__builtin_memcpy(record->address, speaker->peer, sizeof(record->address));
	record->is_ipv6 = speaker->is_ipv6;
	record->port = speaker->port;
	record->protocol = UDP;
	record->sent = speaker->sent;
	record->received = speaker->received;
	record->since = speaker->since;
	return true;
}

static __always_inline void tell_carried(struct closed_record *record)
{
	if (bpf_ringbuf_output(&activity, record, sizeof(*record), wake_activity()))
		count_lost(PLANE_EGRESS);
}

/* Its last change of state comes in any context, so the owner is the one kept with the socket. */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(on_closed, struct sock *socket, int old_state, int new_state)
{
	enum { SYN_SENT = 2, CLOSE = 7 };
	struct closed_record record;
	struct speaker *speaker;

	if (!socket || new_state != CLOSE || old_state == CLOSE)
		return 0;
	speaker = bpf_sk_storage_get(&speakers, socket, NULL, 0);
	if (!speaker || !fill_carried(&record, socket, speaker, old_state == SYN_SENT))
		return 0;
	speaker->since = 0;
	tell_carried(&record);
	return 0;
}

SEC("cgroup/sock_release")
int on_released(struct bpf_sock *socket)
{
	struct closed_record record;
	struct speaker *speaker;

	if (socket->protocol != UDP)
		return 1;
	speaker = bpf_sk_storage_get(&speakers, socket, NULL, 0);
	if (!speaker)
		return 1;
	if (fill_datagrams(&record, speaker))
		tell_carried(&record);
	speaker->sent = 0; /* The kernel may keep it for a while; it is told once. */
	return 1;
}

/* Read by the guard at its end: what the sockets carried that are there still. */
SEC("iter/bpf_sk_storage_map")
int on_socket(struct bpf_iter__bpf_sk_storage_map *context)
{
	struct speaker *speaker = context->value;
	struct closed_record record;
	struct sock *socket = context->sk;

	if (!socket || !speaker)
		return 0;
	if (LOAD(sock, socket, sk_protocol) == UDP ? !fill_datagrams(&record, speaker)
						   : !fill_carried(&record, socket, speaker, false))
		return 0;
	record.head.flags = HEAD_OPEN;
	bpf_seq_write(context->meta->seq, &record, sizeof(record));
	return 0;
}
