/* A disk whose power can be cut, as an LD_PRELOAD shim.
 *
 * Every write, truncation and sync below $POWERCUT_DIR is done as asked and written down in $POWERCUT_LOG, in the
 * order in which it happened. After the process is killed, `power_cut.py` plays the journal back and leaves out what
 * no sync had made durable: that is the disk as a power cut would have left it. Directory entries count as durable.
 *
 * A rename is written down with the new path as its data.
 *
 * A record is: kind (1 byte), path length (4), offset (8), data length (8), path, data. Integers are in host order:
 * the journal never leaves the machine.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

enum { MAX_FDS = 4096, MAX_PATH = 1024 };

static char paths[MAX_FDS][MAX_PATH];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int journal = -1;

static void *next(const char *name) { return dlsym(RTLD_NEXT, name); }

static void record(char kind, const char *path, uint64_t offset, const void *data, uint64_t length) {
    static ssize_t (*real_write)(int, const void *, size_t);
    if (!real_write) real_write = next("write");
    uint32_t path_length = strlen(path);
    unsigned char head[21];
    head[0] = kind;
    memcpy(head + 1, &path_length, 4);
    memcpy(head + 5, &offset, 8);
    memcpy(head + 13, &length, 8);
    size_t total = sizeof head + path_length + length;
    unsigned char *whole = malloc(total);
    memcpy(whole, head, sizeof head);
    memcpy(whole + sizeof head, path, path_length);
    if (length) memcpy(whole + sizeof head + path_length, data, length);
    if (real_write(journal, whole, total) != (ssize_t)total) abort();
    free(whole);
}

static const char *watched(int fd) { return fd >= 0 && fd < MAX_FDS && paths[fd][0] ? paths[fd] : NULL; }

static void remember(int fd, const char *path) {
    static int (*real_open)(const char *, int, ...);
    const char *directory = getenv("POWERCUT_DIR");
    if (fd < 0 || fd >= MAX_FDS) return;
    paths[fd][0] = 0;
    if (!directory || strncmp(path, directory, strlen(directory)) || strlen(path) >= MAX_PATH) return;
    if (journal < 0) {
        if (!real_open) real_open = next("open");
        journal = real_open(getenv("POWERCUT_LOG"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (journal < 0) abort();
    }
    strcpy(paths[fd], path);
}

#define OPEN(name)                                                       \
    int name(const char *path, int flags, ...) {                         \
        static int (*real)(const char *, int, ...);                      \
        if (!real) real = next(#name);                                   \
        va_list arguments;                                               \
        va_start(arguments, flags);                                      \
        mode_t mode = va_arg(arguments, mode_t);                         \
        va_end(arguments);                                               \
        pthread_mutex_lock(&lock);                                       \
        int fd = real(path, flags, mode);                                \
        remember(fd, path);                                              \
        pthread_mutex_unlock(&lock);                                     \
        return fd;                                                       \
    }
OPEN(open)
OPEN(open64)

int close(int fd) {
    static int (*real)(int);
    if (!real) real = next("close");
    pthread_mutex_lock(&lock);
    if (watched(fd)) paths[fd][0] = 0;
    int result = real(fd);
    pthread_mutex_unlock(&lock);
    return result;
}

#define PWRITE(name, offset_type)                                                    \
    ssize_t name(int fd, const void *data, size_t length, offset_type offset) {      \
        static ssize_t (*real)(int, const void *, size_t, offset_type);              \
        if (!real) real = next(#name);                                               \
        const char *path = watched(fd);                                              \
        if (!path) return real(fd, data, length, offset);                            \
        pthread_mutex_lock(&lock);                                                   \
        ssize_t done = real(fd, data, length, offset);                               \
        if (done > 0) record('w', path, offset, data, done);                         \
        pthread_mutex_unlock(&lock);                                                 \
        return done;                                                                 \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

ssize_t write(int fd, const void *data, size_t length) {
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = next("write");
    const char *path = watched(fd);
    if (!path) return real(fd, data, length);
    pthread_mutex_lock(&lock);
    off_t offset = lseek(fd, 0, SEEK_CUR);
    ssize_t done = real(fd, data, length);
    if (done > 0) record('w', path, offset, data, done);
    pthread_mutex_unlock(&lock);
    return done;
}

#define TRUNCATE(name, length_type)                                 \
    int name(int fd, length_type length) {                          \
        static int (*real)(int, length_type);                       \
        if (!real) real = next(#name);                              \
        const char *path = watched(fd);                             \
        if (!path) return real(fd, length);                         \
        pthread_mutex_lock(&lock);                                  \
        int result = real(fd, length);                              \
        if (result == 0) record('t', path, length, NULL, 0);        \
        pthread_mutex_unlock(&lock);                                \
        return result;                                              \
    }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

static int within(const char *path) {
    const char *directory = getenv("POWERCUT_DIR");
    return directory && !strncmp(path, directory, strlen(directory));
}

int rename(const char *from, const char *to) {
    static int (*real)(const char *, const char *);
    if (!real) real = next("rename");
    pthread_mutex_lock(&lock);
    int result = real(from, to);
    if (result == 0 && journal >= 0 && within(from)) record('r', from, 0, to, strlen(to));
    pthread_mutex_unlock(&lock);
    return result;
}

#define SYNC(name)                                                  \
    int name(int fd) {                                              \
        static int (*real)(int);                                    \
        if (!real) real = next(#name);                              \
        const char *path = watched(fd);                             \
        if (!path) return real(fd);                                 \
        pthread_mutex_lock(&lock);                                  \
        int result = real(fd);                                      \
        if (result == 0) record('s', path, 0, NULL, 0);             \
        pthread_mutex_unlock(&lock);                                \
        return result;                                              \
    }
SYNC(fsync)
SYNC(fdatasync)

int unlink(const char *path) {
    static int (*real)(const char *);
    if (!real) real = next("unlink");
    pthread_mutex_lock(&lock);
    int result = real(path);
    if (result == 0 && journal >= 0 && within(path)) record('u', path, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    return result;
}
