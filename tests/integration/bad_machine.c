/* SPDX-License-Identifier: Apache-2.0 */

/* A machine on a bad day, for a process that LD_PRELOADs this: its clock is set, and files hang or
 * fail as on a network that is gone. bad_machine_test.cc says when, through a file that both map.
 *
 *     BAD_MACHINE_STATE   the file: three int64_t, see below
 *     BAD_MACHINE_PATHS   what begins so hangs or fails
 *
 * What sleeps in the kernel until a time of day is not woken by a clock that is set here. */

/* Headers would define some of the functions below, or give others their names. */
#undef _FILE_OFFSET_BITS
#undef _FORTIFY_SOURCE
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>

enum { CLOCK_OFFSET_S = 0, FILES = 1, MET = 2, STATES = 3 };
enum { FILES_HANG = 1, FILES_FAIL = 2 };

static _Atomic(int64_t)* state;
static const char* paths;

__attribute__((constructor)) static void Begin(void) {
  const char* const name = getenv("BAD_MACHINE_STATE");
  const int fd = name == NULL ? -1 : open(name, O_RDWR | O_CLOEXEC);
  void* memory;
  if (fd < 0) return;
  memory = mmap(NULL, STATES * sizeof(int64_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) return;
  paths = getenv("BAD_MACHINE_PATHS");
  state = memory;
}

/* Returns late where files hang; -1 where they fail. */
static int Meet(const char* path) {
  const struct timespec moment = {0, 10000000};
  if (state == NULL || paths == NULL || path == NULL) return 0;
  if (strncmp(path, paths, strlen(paths)) != 0) return 0;
  if (atomic_load(&state[FILES]) == 0) return 0;
  atomic_fetch_add(&state[MET], 1);
  while (atomic_load(&state[FILES]) == FILES_HANG) nanosleep(&moment, NULL);
  if (atomic_load(&state[FILES]) != FILES_FAIL) return 0;
  errno = EIO;
  return -1;
}

/* The function of this name that would have been called. */
#define NEXT(name) __extension__((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int HasMode(int flags) { return (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE; }

#define OPEN(name)                                               \
  int name(const char* path, int flags, ...) {                   \
    va_list list;                                                \
    mode_t mode;                                                 \
    va_start(list, flags);                                       \
    mode = HasMode(flags) ? va_arg(list, mode_t) : 0;            \
    va_end(list);                                                \
    return Meet(path) != 0 ? -1 : NEXT(name)(path, flags, mode); \
  }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                        \
  int name(int directory, const char* path, int flags, ...) {               \
    va_list list;                                                           \
    mode_t mode;                                                            \
    va_start(list, flags);                                                  \
    mode = HasMode(flags) ? va_arg(list, mode_t) : 0;                       \
    va_end(list);                                                           \
    return Meet(path) != 0 ? -1 : NEXT(name)(directory, path, flags, mode); \
  }
OPENAT(openat)
OPENAT(openat64)

DIR* opendir(const char* path) { return Meet(path) != 0 ? NULL : NEXT(opendir)(path); }

#define STAT(name, type)                                    \
  int name(const char* path, struct type* status) {         \
    return Meet(path) != 0 ? -1 : NEXT(name)(path, status); \
  }
STAT(stat, stat)
STAT(stat64, stat64)
STAT(lstat, stat)
STAT(lstat64, stat64)

int clock_gettime(clockid_t clock, struct timespec* now) {
  const int result = NEXT(clock_gettime)(clock, now);
  const int of_day = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
  if (result == 0 && of_day && state != NULL) now->tv_sec += atomic_load(&state[CLOCK_OFFSET_S]);
  return result;
}

int gettimeofday(struct timeval* now, void* zone) {
  const int result = NEXT(gettimeofday)(now, zone);
  if (result == 0 && state != NULL) now->tv_sec += atomic_load(&state[CLOCK_OFFSET_S]);
  return result;
}

time_t time(time_t* now) {
  struct timespec exact;
  clock_gettime(CLOCK_REALTIME, &exact);
  if (now != NULL) *now = exact.tv_sec;
  return exact.tv_sec;
}
