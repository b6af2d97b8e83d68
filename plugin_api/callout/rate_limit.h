/* SPDX-License-Identifier: Apache-2.0 */

/* callout/rate_limit.h - rate limits in C: what Envoy's rate limit filter asks, and the answer to
 * it. Include <callout/message.h>.
 *
 *     callout_status_t callout_on_rate_limit(callout_call_t *call) {
 *       callout_rate_limit_answer_t answer;
 *       callout_descriptors_t descriptors = callout_read_descriptors(call);
 *       callout_descriptor_t descriptor;
 *       callout_bytes_t user;
 *       callout_rate_limit_within(&answer);
 *       while (callout_descriptors_next(&descriptors, &descriptor)) {
 *         if (callout_descriptor_get(&descriptor, callout_text("user"), &user) &&
 *             !take(user, descriptor.hits)) {
 *           callout_rate_limit_over(&answer);
 *         }
 *       }
 *       return callout_rate_limit_respond(&answer, call);
 *     }
 *
 * A request is within its limits if it is within that of each descriptor. A hook that says nothing
 * lets it pass. A request that is over its limit stays so: a later answer to the same call is
 * refused (FAILED_PRECONDITION). What the host does not let through it counts as a fault
 * (illegal_header): see callout_on_rate_limit.
 *
 * Views live as long as the call's message. Thread: [call].
 */
#ifndef CALLOUT_RATE_LIMIT_H_
#define CALLOUT_RATE_LIMIT_H_

#include <callout/answer.h>
#include <callout/headers.h>
#include <callout/wire.h>

#ifdef __cplusplus
extern "C" {
#endif

/* --- What is asked ------------------------------------------------------- */

/* Which set of limits: the `domain` (1) of the filter's configuration. */
static inline callout_bytes_t callout_rate_limit_domain(const callout_call_t* call) {
  callout_bytes_t domain = callout_make_bytes(NULL, 0);
  callout_reader_t reader = callout_read(call->message);
  while (callout_reader_next(&reader)) {
    if (callout_reader_is(&reader, 1, CALLOUT_WIRE_BYTES)) domain = reader.bytes;
  }
  return domain;
}

/* How many hits the request counts for (hits_addend 3): at least 1. */
static inline uint32_t callout_rate_limit_hits(const callout_call_t* call) {
  uint32_t hits = 0;
  callout_reader_t reader = callout_read(call->message);
  while (callout_reader_next(&reader)) {
    if (callout_reader_is(&reader, 3, CALLOUT_WIRE_VARINT)) {
      hits = CALLOUT_CAST(uint32_t, reader.number);
    }
  }
  return hits == 0 ? 1 : hits;
}

/* Numbers of RateLimitResponse.RateLimit.Unit; those of an override are the same, without
 * CALLOUT_PER_WEEK. */
typedef uint32_t callout_limit_unit_t;
enum {
  CALLOUT_PER_UNKNOWN = 0,
  CALLOUT_PER_SECOND = 1,
  CALLOUT_PER_MINUTE = 2,
  CALLOUT_PER_HOUR = 3,
  CALLOUT_PER_DAY = 4,
  CALLOUT_PER_MONTH = 5,
  CALLOUT_PER_YEAR = 6,
  CALLOUT_PER_WEEK = 7
};

/* One RateLimitDescriptor: entries that together name a counter. */
typedef struct callout_descriptor {
  callout_bytes_t message;
  uint64_t hits;        /* its own hits_addend, else the request's; 0 asks without taking any */
  int gives_back;       /* is_negative_hits: the hits are returned, not taken */
  int has_limit;        /* the route gives a limit in the place of the service's own: */
  uint32_t limit_count; /* so many hits */
  callout_limit_unit_t limit_unit;
  uint32_t limit_units; /* per so many units, at least 1 */
} callout_descriptor_t;

/* Wrapper types: value 1. */
static inline uint64_t callout_wrapped_number(callout_bytes_t message) {
  uint64_t number = 0;
  callout_reader_t reader = callout_read(message);
  while (callout_reader_next(&reader)) {
    if (callout_reader_is(&reader, 1, CALLOUT_WIRE_VARINT)) number = reader.number;
  }
  return number;
}

/* RateLimitOverride: requests_per_unit 1, unit 2, unit_multiplier 3. */
static inline void callout_read_limit(callout_bytes_t message, callout_descriptor_t* descriptor) {
  callout_reader_t reader = callout_read(message);
  descriptor->has_limit = 1;
  while (callout_reader_next(&reader)) {
    if (callout_reader_is(&reader, 1, CALLOUT_WIRE_VARINT)) {
      descriptor->limit_count = CALLOUT_CAST(uint32_t, reader.number);
    } else if (callout_reader_is(&reader, 2, CALLOUT_WIRE_VARINT)) {
      descriptor->limit_unit = CALLOUT_CAST(uint32_t, reader.number);
    } else if (callout_reader_is(&reader, 3, CALLOUT_WIRE_BYTES)) {
      descriptor->limit_units = CALLOUT_CAST(uint32_t, callout_wrapped_number(reader.bytes));
    }
  }
  if (descriptor->limit_units == 0) descriptor->limit_units = 1;
}

/* Steps through the descriptors (2) of the request.
 *
 *     callout_descriptors_t descriptors = callout_read_descriptors(call);
 *     while (callout_descriptors_next(&descriptors, &descriptor)) ...  */
typedef struct callout_descriptors {
  callout_reader_t request;
  uint32_t hits; /* of the request */
} callout_descriptors_t;

static inline callout_descriptors_t callout_read_descriptors(const callout_call_t* call) {
  callout_descriptors_t descriptors;
  descriptors.request = callout_read(call->message);
  descriptors.hits = callout_rate_limit_hits(call);
  return descriptors;
}

/* RateLimitDescriptor: limit 2, hits_addend 3, is_negative_hits 4. */
static inline int callout_descriptors_next(callout_descriptors_t* descriptors,
                                           callout_descriptor_t* descriptor) {
  callout_reader_t reader;
  do {
    if (!callout_reader_next(&descriptors->request)) return 0;
  } while (!callout_reader_is(&descriptors->request, 2, CALLOUT_WIRE_BYTES));
  descriptor->message = descriptors->request.bytes;
  descriptor->hits = descriptors->hits;
  descriptor->gives_back = descriptor->has_limit = 0;
  descriptor->limit_count = 0;
  descriptor->limit_unit = CALLOUT_PER_UNKNOWN;
  descriptor->limit_units = 1;
  reader = callout_read(descriptor->message);
  while (callout_reader_next(&reader)) {
    if (callout_reader_is(&reader, 2, CALLOUT_WIRE_BYTES)) {
      callout_read_limit(reader.bytes, descriptor);
    } else if (callout_reader_is(&reader, 3, CALLOUT_WIRE_BYTES)) {
      descriptor->hits = callout_wrapped_number(reader.bytes);
    } else if (callout_reader_is(&reader, 4, CALLOUT_WIRE_VARINT)) {
      descriptor->gives_back = reader.number != 0;
    }
  }
  return 1;
}

/* Steps through the entries (1) of a descriptor: key 1, value 2.
 *
 *     callout_reader_t entries = callout_read(descriptor.message);
 *     while (callout_entries_next(&entries, &entry)) ...  */
static inline int callout_entries_next(callout_reader_t* entries, callout_header_t* entry) {
  callout_reader_t reader;
  do {
    if (!callout_reader_next(entries)) return 0;
  } while (!callout_reader_is(entries, 1, CALLOUT_WIRE_BYTES));
  entry->key = entry->value = callout_make_bytes(NULL, 0);
  reader = callout_read(entries->bytes);
  while (callout_reader_next(&reader)) {
    if (callout_reader_is(&reader, 1, CALLOUT_WIRE_BYTES)) entry->key = reader.bytes;
    if (callout_reader_is(&reader, 2, CALLOUT_WIRE_BYTES)) entry->value = reader.bytes;
  }
  return 1;
}

/* 1 if the descriptor has an entry `key`: the first value. */
static inline int callout_descriptor_get(const callout_descriptor_t* descriptor,
                                         callout_bytes_t key, callout_bytes_t* value) {
  callout_reader_t entries = callout_read(descriptor->message);
  callout_header_t entry;
  while (callout_entries_next(&entries, &entry)) {
    if (!callout_bytes_equal(entry.key, key)) continue;
    *value = entry.value;
    return 1;
  }
  return 0;
}

/* --- The answer ----------------------------------------------------------- */

/* What the client may know of one descriptor's limit: Envoy makes x-ratelimit-* of it. Start from
 * zero. */
typedef struct callout_limit_status {
  int over_limit;
  int has_limit;        /* 0: the descriptor has no limit, and the rest is not said */
  callout_bytes_t name; /* UTF-8 without quotes, backslashes and control characters; may be empty */
  uint32_t count;       /* so many hits */
  callout_limit_unit_t unit;
  uint32_t units;         /* per so many units; 0: 1 */
  uint32_t remaining;     /* hits that are left */
  uint32_t reset_seconds; /* until there are all of them again */
} callout_limit_status_t;

/* Every within or over is followed by a respond or a callout_rate_limit_free. Texts are copied.
 * Within the limits until callout_rate_limit_over. */
typedef struct callout_rate_limit_answer {
  int over_limit;
  callout_writer_t writer; /* the records of RateLimitResponse, without overall_code */
} callout_rate_limit_answer_t;

static inline void callout_rate_limit_within(callout_rate_limit_answer_t* answer) {
  answer->over_limit = 0;
  callout_writer_init(&answer->writer, NULL, 0);
}
/* Of an answer that has begun; what else it says stays. */
static inline void callout_rate_limit_over(callout_rate_limit_answer_t* answer) {
  answer->over_limit = 1;
}
static inline void callout_rate_limit_free(callout_rate_limit_answer_t* answer) {
  callout_writer_free(&answer->writer);
}

/* DescriptorStatus: code 1, current_limit 2 (requests_per_unit 1, unit 2, name 3,
 * unit_multiplier 4), limit_remaining 3, duration_until_reset 4 (seconds 1). For none of the
 * descriptors, or for each in their order. One over its limit means that the request is. */
static inline void callout_rate_limit_add_status(callout_rate_limit_answer_t* answer,
                                                 const callout_limit_status_t* status) {
  callout_writer_t* writer = &answer->writer;
  if (status->over_limit) answer->over_limit = 1;
  callout_write_open(writer, 2);
  callout_write_number(writer, 1, status->over_limit ? 2 : 1);
  if (status->has_limit) {
    callout_write_open(writer, 2);
    callout_write_number(writer, 1, status->count);
    callout_write_number(writer, 2, status->unit);
    if (status->name.size > 0) callout_write_bytes(writer, 3, status->name);
    if (status->units > 1) {
      callout_write_open(writer, 4);
      callout_write_number(writer, 1, status->units);
      callout_write_close(writer);
    }
    callout_write_close(writer);
    callout_write_number(writer, 3, status->remaining);
    callout_write_open(writer, 4);
    callout_write_number(writer, 1, status->reset_seconds);
    callout_write_close(writer);
  }
  callout_write_close(writer);
}

/* HeaderValue: key 1, value 2. */
static inline void callout_rate_limit_write_header(callout_rate_limit_answer_t* answer,
                                                   uint32_t field, callout_bytes_t key,
                                                   callout_bytes_t value) {
  callout_write_open(&answer->writer, field);
  callout_write_bytes(&answer->writer, 1, key);
  callout_write_bytes(&answer->writer, 2, value);
  callout_write_close(&answer->writer);
}
/* Adds a header to the response, whether the request passes or not. */
static inline void callout_rate_limit_add_response_header(callout_rate_limit_answer_t* answer,
                                                          callout_bytes_t key,
                                                          callout_bytes_t value) {
  callout_rate_limit_write_header(answer, 3, key, value);
}
/* Adds a header to a request that passes. */
static inline void callout_rate_limit_add_request_header(callout_rate_limit_answer_t* answer,
                                                         callout_bytes_t key,
                                                         callout_bytes_t value) {
  callout_rate_limit_write_header(answer, 4, key, value);
}
/* The body of the response to a request over the limit (raw_body 5). */
static inline void callout_rate_limit_set_body(callout_rate_limit_answer_t* answer,
                                               callout_bytes_t body) {
  callout_write_bytes(&answer->writer, 5, body);
}

/* Gives the answer to the host and frees it. What comes back can be returned by the hook. */
static inline callout_status_t callout_rate_limit_respond(callout_rate_limit_answer_t* answer,
                                                          callout_call_t* call) {
  const callout_bytes_t only_over = callout_make_bytes("\x08\x02", 2); /* overall_code 1: 2 */
  callout_status_t status;
  callout_bytes_t bytes;
  callout_write_number(&answer->writer, 1, answer->over_limit ? 2 : 1);
  status = callout_writer_status(&answer->writer);
  if (status != CALLOUT_OK) {
    call->host->set_error(call, callout_text("no memory for the answer about a rate limit"));
    /* The request is over its limit, whatever the hook then returns. */
    if (answer->over_limit) call->host->respond(call, CALLOUT_WHOLE_RESPONSE, &only_over, 1);
  } else {
    bytes = callout_writer_bytes(&answer->writer);
    status = call->host->respond(call, CALLOUT_WHOLE_RESPONSE, &bytes, 1);
  }
  callout_rate_limit_free(answer);
  return status;
}

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* CALLOUT_RATE_LIMIT_H_ */
