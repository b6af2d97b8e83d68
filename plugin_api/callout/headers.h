/* SPDX-License-Identifier: Apache-2.0 */

/* callout/headers.h - what a call's message says: header fields and bodies, as
 * views into the message. Include <callout/message.h>.
 *
 *     callout_bytes_t path;
 *     if (callout_headers_first(call->message, callout_text(":path"), &path)) ...
 *
 * The functions take the serialized message itself: HttpHeaders or HttpTrailers
 * (call->message in a headers or trailers phase), HttpBody (in a body phase).
 * Names compare without case. A value is `raw_value`, which is the one Envoy
 * fills, or `value` where that is empty. Views live as long as the message.
 * Reading stops at malformed bytes; the host lets none through to a hook.
 */
#ifndef CALLOUT_HEADERS_H_
#define CALLOUT_HEADERS_H_

#include <callout/wire.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct callout_header {
  callout_bytes_t key;
  callout_bytes_t value;
} callout_header_t;

/* An initializer from two string literals. */
#define CALLOUT_HEADER(key, value) \
  { CALLOUT_TEXT(key), CALLOUT_TEXT(value) }

static inline callout_header_t callout_make_header(callout_bytes_t key, callout_bytes_t value) {
  callout_header_t header;
  header.key = key;
  header.value = value;
  return header;
}

/* Walks the fields in the order of the message:
 *
 *     callout_headers_t headers = callout_read_headers(call->message);
 *     callout_header_t header;
 *     while (callout_headers_next(&headers, &header)) ...
 *     if (headers.malformed) ... */
typedef struct callout_headers {
  callout_reader_t message; /* HttpHeaders or HttpTrailers: field 1 is the map */
  callout_reader_t map;     /* HeaderMap: field 1 is a HeaderValue */
  int malformed;
} callout_headers_t;

static inline callout_headers_t callout_read_headers(callout_bytes_t message) {
  callout_headers_t headers;
  headers.message = callout_read(message);
  headers.map = callout_read(callout_make_bytes(NULL, 0));
  headers.malformed = 0;
  return headers;
}

/* The same for a bare HeaderMap. */
static inline callout_headers_t callout_read_header_map(callout_bytes_t map) {
  callout_headers_t headers;
  headers.message = callout_read(callout_make_bytes(NULL, 0));
  headers.map = callout_read(map);
  headers.malformed = 0;
  return headers;
}

/* HeaderValue: key 1, value 2, raw_value 3. 0 if malformed. */
static inline int callout_parse_header(callout_bytes_t bytes, callout_header_t* header) {
  callout_bytes_t value = callout_make_bytes(NULL, 0);
  callout_reader_t reader = callout_read(bytes);
  *header = callout_make_header(value, value);
  while (callout_reader_next(&reader)) {
    if (reader.type != CALLOUT_WIRE_BYTES) continue;
    if (reader.field == 1) header->key = reader.bytes;
    if (reader.field == 2) value = reader.bytes;
    if (reader.field == 3) header->value = reader.bytes;
  }
  if (header->value.size == 0) header->value = value;
  return !reader.malformed;
}

/* 1: `header` is the next field. 0: the end, or malformed. */
static inline int callout_headers_next(callout_headers_t* headers, callout_header_t* header) {
  while (!headers->malformed) {
    while (callout_reader_next(&headers->map)) {
      if (!callout_reader_is(&headers->map, 1, CALLOUT_WIRE_BYTES)) continue;
      if (callout_parse_header(headers->map.bytes, header)) return 1;
      headers->malformed = 1;
      return 0;
    }
    if (headers->map.malformed) break;
    do {
      if (!callout_reader_next(&headers->message)) {
        headers->malformed = headers->message.malformed;
        return 0;
      }
    } while (!callout_reader_is(&headers->message, 1, CALLOUT_WIRE_BYTES));
    headers->map = callout_read(headers->message.bytes);
  }
  headers->malformed = 1;
  return 0;
}

/* Steps to the next field of one name, for all of its values. */
static inline int callout_headers_next_of(callout_headers_t* headers, callout_bytes_t key,
                                          callout_bytes_t* value) {
  callout_header_t header;
  while (callout_headers_next(headers, &header)) {
    if (!callout_names_equal(header.key, key)) continue;
    *value = header.value;
    return 1;
  }
  return 0;
}

/* 1 and the first value of `key`, or 0 (and `value` is left as it was). */
static inline int callout_headers_first(callout_bytes_t message, callout_bytes_t key,
                                        callout_bytes_t* value) {
  callout_headers_t headers = callout_read_headers(message);
  return callout_headers_next_of(&headers, key, value);
}

/* All values of `key`: returns how many there are, and stores the first
 * `values_max` of them. `values` may be NULL if that is 0. */
static inline size_t callout_headers_all(callout_bytes_t message, callout_bytes_t key,
                                         callout_bytes_t* values, size_t values_max) {
  callout_headers_t headers = callout_read_headers(message);
  callout_bytes_t value;
  size_t count = 0;
  while (callout_headers_next_of(&headers, key, &value)) {
    if (count < values_max) values[count] = value;
    ++count;
  }
  return count;
}

/* 1 if there is a header `key`; with a `value` (not NULL), if one of its values
 * is exactly that. */
static inline int callout_headers_contain(callout_bytes_t message, callout_bytes_t key,
                                          const callout_bytes_t* value) {
  callout_headers_t headers = callout_read_headers(message);
  callout_bytes_t found;
  while (callout_headers_next_of(&headers, key, &found)) {
    if (value == NULL || callout_bytes_equal(found, *value)) return 1;
  }
  return 0;
}

/* HttpBody. */
typedef struct callout_body {
  callout_bytes_t bytes;
  int end_of_stream; /* nothing more follows in this direction */
} callout_body_t;

/* HttpBody: body 1, end_of_stream 2. 0 if malformed. */
static inline int callout_read_body(callout_bytes_t message, callout_body_t* body) {
  callout_reader_t reader = callout_read(message);
  body->bytes = callout_make_bytes(NULL, 0);
  body->end_of_stream = 0;
  while (callout_reader_next(&reader)) {
    if (callout_reader_is(&reader, 1, CALLOUT_WIRE_BYTES)) body->bytes = reader.bytes;
    if (callout_reader_is(&reader, 2, CALLOUT_WIRE_VARINT)) {
      body->end_of_stream = reader.number != 0;
    }
  }
  return !reader.malformed;
}

/* The bytes of HttpBody; none if malformed. */
static inline callout_bytes_t callout_body_bytes(callout_bytes_t message) {
  callout_body_t body;
  return callout_read_body(message, &body) ? body.bytes : callout_make_bytes(NULL, 0);
}

/* 1 if the body in `message` (HttpBody) contains `needle`, byte for byte. In the
 * streamed modes it sees one chunk at a time: a needle across two is not found,
 * unless the instance asks for whole bodies (whole_body_bytes_max). */
static inline int callout_body_contains(callout_bytes_t message, callout_bytes_t needle) {
  return callout_bytes_contain(callout_body_bytes(message), needle);
}

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* CALLOUT_HEADERS_H_ */
