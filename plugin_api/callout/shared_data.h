/* SPDX-License-Identifier: Apache-2.0 */

/* callout/shared_data.h - the extension that keeps values by key in the memory of the host: for
 * caches, and for counts that several instances share. What is kept outlives the instance, so the
 * next version of a plugin finds what the last one left.
 *
 *     const callout_shared_data_t *data = host->get_extension(host, CALLOUT_SHARED_DATA);
 *     callout_shared_put_t put = {sizeof(put)};
 *     put.expected = CALLOUT_SHARED_ANY;
 *     put.ttl_ns = UINT64_C(60000000000);
 *     status = data->put(host, space, key, value, &put, NULL);
 *
 * C++ has <callout/shared_data.hpp>. Tests: <callout/testing.hpp> has a store with a clock that
 * they set.
 *
 * Spaces. A key belongs to a space. The space without a name is the instance's own: every version
 * of the instance sees it, and no other instance does. A space with a name is shared by all that
 * use the name; by custom it begins with that of the plugin: "rate-limit.clients".
 *
 * Bounds. The store is that of one process: with --workers each worker has its own, and other
 * hosts have theirs. It is gone when the process ends. Sharing beyond that is for a service such
 * as Redis. --max_shared_data_bytes and --max_shared_data_keys limit the store of a process, and
 * --max_shared_data_value_bytes a value.
 *
 * Every function is [any], is atomic for its key, and copies what it takes and gives.
 */
#ifndef CALLOUT_SHARED_DATA_H_
#define CALLOUT_SHARED_DATA_H_

#include <callout/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CALLOUT_SHARED_DATA "callout.shared_data/1"

/* The longest name of a space, and the longest key, in bytes. A key has at least one. */
#define CALLOUT_SHARED_SPACE_BYTES_MAX 128
#define CALLOUT_SHARED_KEY_BYTES_MAX 1024
/* The longest life of a value, 365 days, in nanoseconds. */
#define CALLOUT_SHARED_TTL_NS_MAX UINT64_C(31536000000000000)

/* Each change of a value gives it a version that no value of the process had before; from 1. As
 * what is expected: */
#define CALLOUT_SHARED_ABSENT UINT64_C(0) /* there is no value */
#define CALLOUT_SHARED_ANY UINT64_MAX     /* whatever there is */

/* How a value is put. Start from zero. FROZEN. */
typedef struct callout_shared_put {
  uint32_t struct_size;
  uint32_t may_evict; /* 1: the host may drop the value when the store is full, those that were
                         used last at the end: for what can be found out again. 0: it stays until
                         it expires, so that a count cannot be undone by filling the store */
  uint64_t ttl_ns;    /* the value's life from now; 0: until it is removed */
  uint64_t expected;  /* the version that the value has to have, or CALLOUT_SHARED_* */
} callout_shared_put_t;

/* What get() finds beside the value. FROZEN. */
typedef struct callout_shared_entry {
  uint32_t struct_size; /* in */
  uint32_t reserved;
  uint64_t size; /* of the value, also if it did not fit */
  uint64_t version;
  uint64_t expires_ns; /* CLOCK_MONOTONIC; 0: never */
} callout_shared_entry_t;

/* INVALID_ARGUMENT from all of them: the space or the key is too long, the key is empty, or a time
 * is out of its limits. FAILED_PRECONDITION: the instance has been destroyed. FROZEN. */
typedef struct callout_shared_data {
  uint32_t struct_size;
  uint32_t reserved;
  /* Copies the value to `to`, which has `capacity` bytes. NOT_FOUND: there is none.
   * OUT_OF_RANGE: it has more bytes: nothing is copied, and `entry` says how many. [any] */
  callout_status_t (*get)(const callout_host_t* host, callout_bytes_t space, callout_bytes_t key,
                          char* to, size_t capacity, callout_shared_entry_t* entry);
  /* Sets the value. `version`, which may be NULL, becomes that of the value as it is afterwards;
   * 0: there is none.
   * ABORTED: its version is not the expected one, and nothing has changed. RESOURCE_EXHAUSTED: the
   * value is over --max_shared_data_value_bytes, or the store is full of values that may not be
   * dropped; the value is as it was. [any] */
  callout_status_t (*put)(const callout_host_t* host, callout_bytes_t space, callout_bytes_t key,
                          callout_bytes_t value, const callout_shared_put_t* how,
                          uint64_t* version);
  /* Removes the value, if it has the expected version. NOT_FOUND, ABORTED. [any] */
  callout_status_t (*remove)(const callout_host_t* host, callout_bytes_t space, callout_bytes_t key,
                             uint64_t expected);
  /* Adds to a count, an int64_t of the machine's byte order, and gives the sum. Without a value the
   * count begins at 0 and lives for `ttl_ns` (0: until it is removed); a later add() does not
   * prolong it: so it counts what falls into a window of time. A sum out of range stays at the
   * limit. INVALID_ARGUMENT also if the value is no count. RESOURCE_EXHAUSTED as put(). [any] */
  callout_status_t (*add)(const callout_host_t* host, callout_bytes_t space, callout_bytes_t key,
                          int64_t amount, uint64_t ttl_ns, int64_t* sum);
} callout_shared_data_t;

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* CALLOUT_SHARED_DATA_H_ */
