// Faults of unusual file systems, for tests: preloaded into the command, it lets system calls fail
// as they do on SMB, BeeGFS, 9p or FUSE. Environment variables say which calls fail and with what
// error number:
//   FAULT_NOREPLACE=N     renameat2 with RENAME_NOREPLACE (a seccomp filter: it is no libc call)
//   FAULT_LINK=N          hard links
//   FAULT_RENAME_FOLDER=N rename of a folder
//   FAULT_RENAME_VIEW=N   rename into views/ from elsewhere
//   FAULT_FSYNC_FOLDER=N  fsync of a folder
//   FAULT_MMAP_SHARED=N, FAULT_MMAP_PRIVATE=N  mappings of files named *.safetensors
//   FAULT_CLOCK=SECONDS   is added to this machine's clock, but not to the times of files
//   FAULT_PAUSE=MICROSECONDS  a pause of up to this before each link and rename, for races
//   FAULT_LATE=MICROSECONDS   a pause of up to this before each open and look at a file of the store
//   FAULT_STALE=N         every N-th open of or look at a file of the store fails with ESTALE, as
//                         on NFS if another host has just replaced it
//   FAULT_LOST_REPLY=N    every N-th link and rename of a file is carried out and then reported as
//                         failed (EEXIST, ENOENT), as when NFS sends a request again
//   FAULT_LINK_FOLDERS=N  hard links between two folders
//   FAULT_COUNTS=FILE     a line with the numbers of stale looks, lost replies and refused links is
//                         added to this file when the command ends by itself
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long number(const char *name) {
    const char *value = getenv(name);
    return value ? atol(value) : 0;
}

static int fails(const char *name) {
    long code = number(name);
    if (code) errno = (int)code;
    return code != 0;
}

#define NEXT(name) \
    static __typeof__(name) *next; \
    if (!next) next = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

__attribute__((constructor)) static void deny_noreplace(void) {
    long code = number("FAULT_NOREPLACE");
    if (!code) return;
    struct sock_filter lines[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_renameat2, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[4])),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 1, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)code),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {sizeof lines / sizeof lines[0], lines};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter)) {
        perror("the seccomp filter of the test");
        _exit(99);
    }
}

static void pause_a_while(void) {
    long most = number("FAULT_PAUSE");
    struct timespec now;
    if (!most) return;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
    usleep((useconds_t)(((unsigned long)now.tv_nsec * 2654435761u >> 8) % (unsigned long)most));
}

/* Whether this is the call of its kind that is to go wrong. */
static int is_chosen(const char *name, unsigned *calls) {
    long every = number(name);
    return every && __atomic_add_fetch(calls, 1, __ATOMIC_RELAXED) % (unsigned)every == 0;
}

/* Whether a path is below a folder whose name begins with "store". */
static int is_in_store(const char *path) { return path && (!strncmp(path, "store", 5) || strstr(path, "/store")); }

/* Faults that were injected: late or stale looks, lost replies, refused links. */
static unsigned injected[3];

__attribute__((destructor)) static void report_faults(void) {
    const char *path = getenv("FAULT_COUNTS");
    FILE *file = path ? fopen(path, "a") : NULL;
    if (!file) return;
    fprintf(file, "%u %u %u\n", injected[0], injected[1], injected[2]);
    fclose(file);
}

static void count(int kind) { __atomic_add_fetch(&injected[kind], 1, __ATOMIC_RELAXED); }

/* Lets a look at a file of the store come late or fail. */
static int look_fails(const char *path) {
    static unsigned looks;
    long late = number("FAULT_LATE");
    if (!is_in_store(path)) return 0;
    if (late) usleep((useconds_t)(__atomic_add_fetch(&looks, 1, __ATOMIC_RELAXED) * 2654435761u % (unsigned long)late));
    if (!is_chosen("FAULT_STALE", &looks)) return 0;
    count(0);
    errno = ESTALE;
    return -1;
}

int open64(const char *path, int flags, ...) {
    NEXT(open64);
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return look_fails(path) ? -1 : next(path, flags, mode);
}

int statx(int folder, const char *path, int flags, unsigned mask, struct statx *state) {
    NEXT(statx);
    return look_fails(path) ? -1 : next(folder, path, flags, mask, state);
}

DIR *opendir(const char *path) {
    NEXT(opendir);
    return look_fails(path) ? NULL : next(path);
}

static int are_in_one_folder(const char *one, const char *other) {
    const char *a = strrchr(one, '/'), *b = strrchr(other, '/');
    return a && b && a - one == b - other && !strncmp(one, other, (size_t)(a - one));
}

int linkat(int a, const char *from, int b, const char *to, int flags) {
    NEXT(linkat);
    static unsigned links;
    if (fails("FAULT_LINK")) return -1;
    if (!are_in_one_folder(from, to) && fails("FAULT_LINK_FOLDERS")) {
        count(2);
        return -1;
    }
    pause_a_while();
    int outcome = next(a, from, b, to, flags);
    if (!outcome && is_in_store(to) && is_chosen("FAULT_LOST_REPLY", &links)) {
        count(1);
        errno = EEXIST;
        return -1;
    }
    return outcome;
}

int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

int rename(const char *from, const char *to) {
    NEXT(rename);
    struct stat state;
    pause_a_while();
    if (!lstat(from, &state) && S_ISDIR(state.st_mode) && fails("FAULT_RENAME_FOLDER")) return -1;
    if (strstr(to, "/views/") && !strstr(from, "/views/") && fails("FAULT_RENAME_VIEW")) return -1;
    static unsigned renames;
    int outcome = next(from, to);
    if (!outcome && is_in_store(to) && is_chosen("FAULT_LOST_REPLY", &renames)) {
        count(1);
        errno = ENOENT;
        return -1;
    }
    return outcome;
}

int fsync(int file) {
    NEXT(fsync);
    struct stat state;
    if (!fstat(file, &state) && S_ISDIR(state.st_mode) && fails("FAULT_FSYNC_FOLDER")) return -1;
    return next(file);
}

void *mmap(void *at, size_t length, int protection, int flags, int file, off_t offset) {
    NEXT(mmap);
    char link[64], path[4096] = "";
    if (file >= 0) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", file);
        if (readlink(link, path, sizeof path - 1) < 0) path[0] = 0;
    }
    if (strstr(path, ".safetensors") && fails(flags & MAP_SHARED ? "FAULT_MMAP_SHARED" : "FAULT_MMAP_PRIVATE"))
        return MAP_FAILED;
    return next(at, length, protection, flags, file, offset);
}

void *mmap64(void *at, size_t length, int protection, int flags, int file, off_t offset) {
    return mmap(at, length, protection, flags, file, offset);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    NEXT(clock_gettime);
    int outcome = next(clock, time);
    if (clock == CLOCK_REALTIME) time->tv_sec += number("FAULT_CLOCK");
    return outcome;
}
