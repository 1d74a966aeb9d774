/* What the kernel half hands to the Rust half: one record per act.
 *
 * record.rs holds the same structs; a test compares both layouts. A record is its struct
 * cut after the last used byte of `data`. */
#ifndef SENSOR_H
#define SENSOR_H

#define PATH_BYTES 4096
#define NAME_BYTES 256
#define ARGUMENT_BYTES 65536
#define VARIABLE_BYTES 4096
#define ANSWER_BYTES 2048
#define QUESTION_BYTES 512
#define HELLO_BYTES 4096

/* Names of environment variables to keep. */
#define NAMES 32
#define NAME_WORDS 6

/* How many system calls there may be in one table, and the tables: the machine's own, then
 * the 32-bit one. */
#define CALLS 600
#define TABLES 2

/* Which hook saw it; this also tells the kind of record. System calls follow from HOOK_CALLS
 * on, in the order of the loader's list. */
enum hook {
	HOOK_FORK,
	HOOK_EXEC,
	HOOK_EXIT,
	HOOK_CONNECT4,
	HOOK_CONNECT6,
	HOOK_SENDMSG4,
	HOOK_SENDMSG6,
	HOOK_ANSWER,
	HOOK_QUESTION,
	HOOK_HELLO,
	HOOK_CLOSED,
	HOOK_RELEASED,
	HOOK_RING,
	HOOK_RING_OPEN,
	HOOK_RING_OPEN_DIRECT,
	HOOK_RING_RENAME,
	HOOK_RING_UNLINK,
	HOOK_RING_MKDIR,
	HOOK_RING_SYMLINK,
	HOOK_RING_LINK,
	HOOK_PACKET,
	HOOK_SIGNAL,
	HOOK_REQUEST,
	HOOK_CALLS,
};

/* What the exit of a system call tells. */
enum call_kind {
	CALL_IGNORED,
	CALL_OPEN,        /* the result is a descriptor */
	CALL_RECEIVE,     /* a message may have brought descriptors */
	CALL_CHANGE,      /* it named one or two files */
	CALL_ACT,         /* the arguments say it all */
	CALL_SOCKET,      /* as CALL_ACT, for the kinds worth telling */
	CALL_TRACE,       /* as CALL_ACT, for the requests worth telling */
	CALL_CREDENTIALS, /* who the caller is now */
	CALL_CONNECT,     /* a unix socket's path */
	CALL_TITLE,       /* prctl(2), where it gives the process another name */
	CALL_SOCKETCALL,  /* one of the 32-bit socket calls, its arguments in memory */
	CALL_LISTEN,      /* where a socket waits for others */
	CALL_TRIED = 128, /* beside another: told even if the call failed */
};

/* In place of an argument's number. */
enum {
	FOLDER_HERE = -1, /* the working folder */
	FOLDER_TEXT = -2, /* no folder: a text that is no path of the caller's */
	FOLDER_NONE = -3, /* no file at all */
	TEXT_NONE = -1,   /* no text: the descriptor itself is meant */
	VALUE_NONE = -1,
};

/* One system call: which of its arguments mean what. */
struct call {
	__u8 hook; /* 0: not watched */
	__u8 kind;
	__s8 folder[2];
	__s8 text[2];
	__s8 value[2];
};

/* Flags of a record. */
enum {
	HEAD_COMPAT = 1,   /* by a 32-bit system call */
	HEAD_RECEIVED = 2, /* the descriptor came from another process */
	HEAD_OPEN = 4,     /* the socket is there still */
};

enum plane {
	PLANE_PROCESS,
	PLANE_FILE,
	PLANE_EGRESS,
	PLANES,
};

/* Flags of a path, a side or an argument vector. */
enum {
	/* The beginning of a path, or the end of a list, did not fit. */
	FLAG_CUT = 1,
	/* Not below any mount point: a memfd, a pipe, an anonymous inode. */
	FLAG_NOWHERE = 2,
	/* The caller's string could not be read (yet). */
	FLAG_UNREAD = 4,
	/* The caller has another mount namespace than the guard: its paths mean nothing here. */
	FLAG_ELSEWHERE = 8,
	/* The text stands for itself: it begins in no folder. */
	FLAG_TEXT = 16,
	/* No folder names the object any more. */
	FLAG_DELETED = 32,
	/* Below one of the familiar folders. */
	FLAG_FAMILIAR = 64,
};

/* How many folders can be familiar. */
#define FAMILIAR 2

/* What `settle` is called with: descriptors of the guard's own, -1 for none. */
struct folders {
	__u32 descriptor[FAMILIAR];
};

struct head {
	__u64 time;  /* nanoseconds since boot */
	__u64 start; /* of the thread group leader, nanoseconds since boot */
	__u32 pid;   /* thread group */
	__u16 hook;
	__u16 flags;
};

/* A path stands in `data` as its names from the last to the first, each ended by NUL. */
struct object {
	__u64 inode;
	__s64 changed_seconds;
	__u32 changed_nanoseconds;
	__u32 device; /* the kernel's own encoding */
	__u32 mode;
	__u16 bytes;
	__u16 flags;
};

struct fork_record {
	struct head head;
	__u64 child_start;
	__u32 child;
	__u32 padding;
};

struct exit_record {
	struct head head;
	__u32 status; /* as wait(2) gives it */
	__u32 padding;
};

struct exec_record {
	struct head head;
	struct object executable;
	__u32 uid;
	__u32 argument_bytes;
	__u32 variable_bytes;
	__u16 argument_flags;
	__u16 directory_flags;
	__u16 directory_bytes;
	__u16 requested_bytes;
	__u32 is_script;
	/* executable, directory, requested, arguments, variables */
	char data[3 * PATH_BYTES + ARGUMENT_BYTES + 2 * VARIABLE_BYTES + NAME_BYTES];
};

struct open_record {
	struct head head;
	struct object file;
	__u32 file_mode;
	__u32 asked_bytes;
	/* the object's names, then the caller's text */
	char data[2 * PATH_BYTES + NAME_BYTES];
};

/* One path the caller asked for: its own text, and the folder that text starts from. Where
 * the text is empty, the object that the descriptor stands for. */
struct side {
	__u64 text;
	__u64 inode;
	__u32 device;
	__s32 folder;
	__u16 text_bytes;
	__u16 base_bytes;
	__u32 flags;
};

struct change_record {
	struct head head;
	__u64 values[2];
	struct side from;
	struct side to;
	/* text and base of `from`, then of `to` */
	char data[4 * PATH_BYTES + NAME_BYTES];
};

struct act_record {
	struct head head;
	__u64 values[3];
};

struct connection_record {
	struct head head;
	__u8 address[16]; /* IPv4 in the first four */
	__u16 port;
	__u16 is_ipv6;
	__u32 protocol;
};

/* What a socket carried, told when it is closed, or at the guard's end. */
struct closed_record {
	struct head head;
	__u8 address[16]; /* IPv4 in the first four */
	__u16 port;
	__u16 is_ipv6;
	__u32 protocol;
	__u64 sent;
	__u64 received;
	__u64 since; /* boot clock, when it was asked for */
};

/* A process that was there before the guard. */
struct task_record {
	__u64 start;
	__u32 pid;
	__u32 parent;
};

struct answer_record {
	struct head head;
	__u8 server[16]; /* IPv4 in the first four */
	__u32 is_ipv6;
	__u32 bytes;
	__u32 flags;
	__u32 padding;
	__u8 data[ANSWER_BYTES];
};

/* The first bytes of what a process says to somebody. */
struct speech_record {
	struct head head;
	__u8 address[16]; /* IPv4 in the first four */
	__u16 port;
	__u16 is_ipv6;
	__u32 protocol;
	__u32 bytes;
	__u32 padding;
	__u8 data[HELLO_BYTES];
};

struct name {
	__u64 words[NAME_WORDS];
	__u64 masks[NAME_WORDS];
};

/* Written once, before the programs are loaded. */
struct settings {
	__u64 process_threshold;  /* bytes in the ring that are worth waking the reader for */
	__u64 activity_threshold;
	__u32 names;
	__u32 padding;
	struct name name[NAMES];
	struct call calls[TABLES * CALLS];
	__u8 socketcalls[32]; /* hooks, by the number of the 32-bit socket call */
};

#endif
