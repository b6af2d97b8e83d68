/* SPDX-License-Identifier: Apache-2.0 */

/* callout/wire.h - protobuf's wire form for plugins: a reader of views over
 * bytes, and a writer into a growing buffer.
 *
 *     message := record*      record := tag value
 *     tag     := varint of (field number << 3 | type)
 *     value   := varint (type 0) | 8 bytes (1) | length bytes (2) | 4 bytes (5)
 *
 * Header-only C (C99 to C17, C++11 to C++20); needs libc and nothing else. Most
 * plugins want <callout/message.h>, which is built on this.
 *
 * Thread: readers and writers belong to one thread at a time. Ownership: what a
 * reader hands out are views into the bytes it was given; a writer owns what it
 * has allocated until callout_writer_free.
 */
#ifndef CALLOUT_WIRE_H_
#define CALLOUT_WIRE_H_

#include <callout/plugin.h>
#include <stdlib.h>
#include <string.h>

#ifdef __cplusplus
#define CALLOUT_CAST(type, value) static_cast<type>(value)
extern "C" {
#else
#define CALLOUT_CAST(type, value) ((type)(value))
#endif

/* A plugin with an allocator of its own defines both before it includes this. */
#ifndef CALLOUT_REALLOC
#define CALLOUT_REALLOC realloc
#define CALLOUT_FREE free
#endif

/* --- Bytes -------------------------------------------------------------- */

/* The bytes of a NUL-terminated string, without the NUL. NULL has none. */
static inline callout_bytes_t callout_text(const char* text) {
  callout_bytes_t bytes;
  bytes.data = text;
  bytes.size = text == NULL ? 0 : strlen(text);
  return bytes;
}

/* The same as an initializer, for string literals only:
 *     const callout_bytes_t kName = CALLOUT_TEXT("foo"); */
#define CALLOUT_TEXT(literal) \
  { (literal), sizeof(literal) - 1 }

static inline callout_bytes_t callout_make_bytes(const char* data, size_t size) {
  callout_bytes_t bytes;
  bytes.data = data;
  bytes.size = size;
  return bytes;
}

static inline int callout_bytes_equal(callout_bytes_t a, callout_bytes_t b) {
  return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

/* Compares without case in ASCII, as header names do. */
static inline int callout_names_equal(callout_bytes_t a, callout_bytes_t b) {
  size_t i;
  if (a.size != b.size) return 0;
  for (i = 0; i < a.size; ++i) {
    const unsigned char x = CALLOUT_CAST(unsigned char, a.data[i]);
    const unsigned char y = CALLOUT_CAST(unsigned char, b.data[i]);
    if (x == y) continue;
    if ((x ^ y) != 0x20 || (x | 0x20) < 'a' || (x | 0x20) > 'z') return 0;
  }
  return 1;
}

/* 1 if `needle` occurs in `bytes`; an empty needle occurs everywhere. Any bytes
 * will do, there is no notion of characters. */
static inline int callout_bytes_contain(callout_bytes_t bytes, callout_bytes_t needle) {
  const char* at = bytes.data;
  size_t left = bytes.size;
  if (needle.size == 0) return 1;
  while (left >= needle.size) {
    const char* found =
        CALLOUT_CAST(const char*, memchr(at, needle.data[0], left - needle.size + 1));
    if (found == NULL) return 0;
    if (memcmp(found, needle.data, needle.size) == 0) return 1;
    left -= CALLOUT_CAST(size_t, found + 1 - at);
    at = found + 1;
  }
  return 0;
}

/* --- Reader ------------------------------------------------------------- */

typedef uint32_t callout_wire_type_t;
enum {
  CALLOUT_WIRE_VARINT = 0,
  CALLOUT_WIRE_FIXED64 = 1,
  CALLOUT_WIRE_BYTES = 2,
  CALLOUT_WIRE_FIXED32 = 5
};

/* Steps through the records of one message:
 *
 *     callout_reader_t reader = callout_read(message);
 *     while (callout_reader_next(&reader)) {
 *       if (callout_reader_is(&reader, 1, CALLOUT_WIRE_BYTES)) use(reader.bytes);
 *     }
 *     if (reader.malformed) ...
 *
 * It never looks outside the bytes it was given, whatever they are. A record of
 * an unknown field or type is the caller's to pass over; groups, which no message
 * here has ever had, are malformed. */
typedef struct callout_reader {
  const char* next; /* the first byte not yet read */
  const char* end;
  uint32_t field; /* of the record last stepped to */
  callout_wire_type_t type;
  uint64_t number;       /* the value, but for CALLOUT_WIRE_BYTES */
  callout_bytes_t bytes; /* the value for CALLOUT_WIRE_BYTES */
  int malformed;
} callout_reader_t;

static inline callout_reader_t callout_read(callout_bytes_t message) {
  callout_reader_t reader;
  memset(&reader, 0, sizeof(reader));
  reader.next = message.size == 0 ? "" : message.data;
  reader.end = reader.next + message.size;
  return reader;
}

/* Ends the reading for good. */
static inline int callout_reader_fail(callout_reader_t* reader) {
  reader->malformed = 1;
  reader->next = reader->end;
  return 0;
}

static inline int callout_reader_varint(callout_reader_t* reader, uint64_t* value) {
  uint64_t result = 0;
  unsigned shift;
  for (shift = 0; shift < 64 && reader->next != reader->end; shift += 7) {
    const unsigned char byte = CALLOUT_CAST(unsigned char, *reader->next++);
    result |= CALLOUT_CAST(uint64_t, byte & 0x7f) << shift;
    if (byte < 0x80) {
      *value = result;
      return 1;
    }
  }
  return callout_reader_fail(reader);
}

/* `size` bytes, least significant first. */
static inline int callout_reader_fixed(callout_reader_t* reader, unsigned size) {
  unsigned i;
  if (CALLOUT_CAST(size_t, reader->end - reader->next) < size) return callout_reader_fail(reader);
  reader->number = 0;
  for (i = 0; i < size; ++i) {
    const unsigned char byte = CALLOUT_CAST(unsigned char, reader->next[i]);
    reader->number |= CALLOUT_CAST(uint64_t, byte) << (8 * i);
  }
  reader->next += size;
  return 1;
}

/* As callout_reader_next, for the usual record: a field below 16 with less than 128
 * bytes or a number below 128. 0, with nothing read, for any other. */
static inline int callout_reader_next_short(callout_reader_t* reader) {
  unsigned char tag;
  unsigned char value;
  if (reader->end - reader->next < 2) return 0;
  tag = CALLOUT_CAST(unsigned char, reader->next[0]);
  value = CALLOUT_CAST(unsigned char, reader->next[1]);
  /* (tag & 5) == 0: a varint or bytes. */
  if (tag >= 0x80 || tag < 8 || (tag & 5) != 0 || value >= 0x80) return 0;
  if ((tag & 7) == CALLOUT_WIRE_BYTES) {
    if (value > reader->end - reader->next - 2) return 0;
    reader->bytes = callout_make_bytes(reader->next + 2, value);
    reader->next += value;
  } else {
    reader->number = value;
  }
  reader->next += 2;
  reader->field = CALLOUT_CAST(uint32_t, tag >> 3);
  reader->type = CALLOUT_CAST(uint32_t, tag & 7);
  return 1;
}

/* 1: the fields of `reader` tell of the next record. 0: the end, or malformed. */
static inline int callout_reader_next(callout_reader_t* reader) {
  uint64_t tag;
  uint64_t size;
  if (callout_reader_next_short(reader)) return 1;
  if (reader->next == reader->end) return 0;
  if (!callout_reader_varint(reader, &tag)) return 0;
  if (tag > UINT32_MAX || tag >> 3 == 0) return callout_reader_fail(reader);
  reader->field = CALLOUT_CAST(uint32_t, tag >> 3);
  reader->type = CALLOUT_CAST(uint32_t, tag & 7);
  switch (reader->type) {
    case CALLOUT_WIRE_VARINT:
      return callout_reader_varint(reader, &reader->number);
    case CALLOUT_WIRE_FIXED64:
      return callout_reader_fixed(reader, 8);
    case CALLOUT_WIRE_FIXED32:
      return callout_reader_fixed(reader, 4);
    case CALLOUT_WIRE_BYTES:
      if (!callout_reader_varint(reader, &size)) return 0;
      if (size > CALLOUT_CAST(uint64_t, reader->end - reader->next)) {
        return callout_reader_fail(reader);
      }
      reader->bytes = callout_make_bytes(reader->next, CALLOUT_CAST(size_t, size));
      reader->next += size;
      return 1;
    default:
      return callout_reader_fail(reader);
  }
}

static inline int callout_reader_is(const callout_reader_t* reader, uint32_t field,
                                    callout_wire_type_t type) {
  return reader->field == field && reader->type == type;
}

/* --- Writer ------------------------------------------------------------- */

/* Messages open inside one another at once; protobuf's own readers stop at 100. */
#define CALLOUT_WRITER_DEPTH_MAX 96
/* Protobuf's own limit for a message. */
#define CALLOUT_MESSAGE_BYTES_MAX CALLOUT_CAST(size_t, INT32_MAX)

/* Appends records to a buffer: first the caller's own, perhaps on the stack, then
 * one from the heap once that is full.
 *
 *     char buffer[256];
 *     callout_writer_t writer;
 *     callout_writer_init(&writer, buffer, sizeof(buffer));
 *     callout_write_bytes(&writer, 1, callout_text("key"));
 *     if (callout_writer_status(&writer) == CALLOUT_OK) use(callout_writer_bytes(&writer));
 *     callout_writer_free(&writer);
 *
 * A failure is kept in `status`: every later write does nothing, so it is enough
 * to look once, at the end. */
typedef struct callout_writer {
  char* data;
  size_t size;
  size_t capacity;
  callout_status_t status; /* RESOURCE_EXHAUSTED: no memory, too long or too deep.
                              FAILED_PRECONDITION: a close without an open.
                              INVALID_ARGUMENT: what was to be written is invalid */
  uint32_t on_heap;
  uint32_t depth;
  uint32_t open[CALLOUT_WRITER_DEPTH_MAX]; /* where the contents begin */
  uint8_t how[CALLOUT_WRITER_DEPTH_MAX];   /* CALLOUT_OPEN_* */
} callout_writer_t;

enum {
  CALLOUT_OPEN_PLAIN = 0,
  CALLOUT_OPEN_JOINED = 1, /* is closed together with the one around it */
  CALLOUT_OPEN_LIST = 2    /* a ListValue: its values have no key */
};

/* `buffer` may be NULL with `capacity` 0, and must outlive the writer. */
static inline void callout_writer_init(callout_writer_t* writer, char* buffer, size_t capacity) {
  writer->data = buffer;
  writer->size = 0;
  writer->capacity = capacity;
  writer->status = CALLOUT_OK;
  writer->on_heap = 0;
  writer->depth = 0;
}

/* Leaves an empty writer without a buffer, which may be used again. */
static inline void callout_writer_free(callout_writer_t* writer) {
  if (writer->on_heap) CALLOUT_FREE(writer->data);
  callout_writer_init(writer, NULL, 0);
}

/* Forgets what was written, and any failure, but keeps the buffer. */
static inline void callout_writer_clear(callout_writer_t* writer) {
  writer->size = 0;
  writer->status = CALLOUT_OK;
  writer->depth = 0;
}

/* CALLOUT_OK if all was written and all that was opened is closed. */
static inline callout_status_t callout_writer_status(const callout_writer_t* writer) {
  if (writer->status != CALLOUT_OK) return writer->status;
  return writer->depth == 0 ? CALLOUT_OK : CALLOUT_FAILED_PRECONDITION;
}

/* What was written; nothing after a failure. Valid until the next write. */
static inline callout_bytes_t callout_writer_bytes(const callout_writer_t* writer) {
  if (callout_writer_status(writer) != CALLOUT_OK) return callout_make_bytes(NULL, 0);
  return callout_make_bytes(writer->data, writer->size);
}

/* Keeps the first failure. */
static inline void callout_writer_fail(callout_writer_t* writer, callout_status_t status) {
  if (writer->status == CALLOUT_OK) writer->status = status;
}

/* Room for `size` more bytes; 0 if there is none, or after a failure. */
static inline int callout_writer_reserve(callout_writer_t* writer, size_t size) {
  size_t capacity;
  char* data;
  if (writer->status != CALLOUT_OK) return 0;
  if (size <= writer->capacity - writer->size) return 1;
  if (size > CALLOUT_MESSAGE_BYTES_MAX - writer->size) {
    callout_writer_fail(writer, CALLOUT_RESOURCE_EXHAUSTED);
    return 0;
  }
  capacity = writer->capacity < 128 ? 256 : writer->capacity * 2;
  if (capacity < writer->size + size) capacity = writer->size + size;
  data = CALLOUT_CAST(char*, CALLOUT_REALLOC(writer->on_heap ? writer->data : NULL, capacity));
  if (data == NULL) {
    callout_writer_fail(writer, CALLOUT_RESOURCE_EXHAUSTED);
    return 0;
  }
  if (!writer->on_heap && writer->size > 0) memcpy(data, writer->data, writer->size);
  writer->data = data;
  writer->capacity = capacity;
  writer->on_heap = 1;
  return 1;
}

#define CALLOUT_VARINT_BYTES_MAX 10

static inline size_t callout_varint_size(uint64_t value) {
  size_t size = 1;
  for (; value >= 0x80; value >>= 7) ++size;
  return size;
}

/* Writes to memory with room for it; returns the byte after. */
static inline char* callout_put_varint(char* to, uint64_t value) {
  for (; value >= 0x80; value >>= 7) *to++ = CALLOUT_CAST(char, (value & 0x7f) | 0x80);
  *to++ = CALLOUT_CAST(char, value);
  return to;
}

/* The head of a record with `size` bytes to follow. */
static inline char* callout_put_head(char* to, uint32_t field, size_t size) {
  to = callout_put_varint(to, CALLOUT_CAST(uint64_t, field) << 3 | CALLOUT_WIRE_BYTES);
  return callout_put_varint(to, size);
}

static inline char* callout_put_number(char* to, uint32_t field, uint64_t value) {
  to = callout_put_varint(to, CALLOUT_CAST(uint64_t, field) << 3 | CALLOUT_WIRE_VARINT);
  return callout_put_varint(to, value);
}

/* The size of a record with `size` bytes of content. */
static inline size_t callout_record_size(uint32_t field, size_t size) {
  return callout_varint_size(CALLOUT_CAST(uint64_t, field) << 3) + callout_varint_size(size) + size;
}

/* Bytes as they are: records that were written elsewhere. */
static inline void callout_write_raw(callout_writer_t* writer, callout_bytes_t bytes) {
  if (bytes.size == 0 || !callout_writer_reserve(writer, bytes.size)) return;
  memcpy(writer->data + writer->size, bytes.data, bytes.size);
  writer->size += bytes.size;
}

/* A record of bytes, a string or a message that is complete; also an empty one. */
static inline void callout_write_bytes(callout_writer_t* writer, uint32_t field,
                                       callout_bytes_t bytes) {
  if (bytes.size > CALLOUT_MESSAGE_BYTES_MAX ||
      !callout_writer_reserve(writer, bytes.size + 2 * CALLOUT_VARINT_BYTES_MAX)) {
    callout_writer_fail(writer, CALLOUT_RESOURCE_EXHAUSTED);
    return;
  }
  writer->size = CALLOUT_CAST(
      size_t, callout_put_head(writer->data + writer->size, field, bytes.size) - writer->data);
  callout_write_raw(writer, bytes);
}

/* A record of a number, a bool or an enum; also a zero. */
static inline void callout_write_number(callout_writer_t* writer, uint32_t field, uint64_t value) {
  if (!callout_writer_reserve(writer, 2 * CALLOUT_VARINT_BYTES_MAX)) return;
  writer->size = CALLOUT_CAST(
      size_t, callout_put_number(writer->data + writer->size, field, value) - writer->data);
}

static inline void callout_write_double(callout_writer_t* writer, uint32_t field, double value) {
  uint64_t bits;
  unsigned i;
  char* to;
  if (!callout_writer_reserve(writer, CALLOUT_VARINT_BYTES_MAX + sizeof(bits))) return;
  memcpy(&bits, &value, sizeof(bits));
  to = callout_put_varint(writer->data + writer->size,
                          CALLOUT_CAST(uint64_t, field) << 3 | CALLOUT_WIRE_FIXED64);
  for (i = 0; i < sizeof(bits); ++i) {
    *to++ = CALLOUT_CAST(char, CALLOUT_CAST(unsigned char, bits >> (8 * i) & 0xff));
  }
  writer->size = CALLOUT_CAST(size_t, to - writer->data);
}

/* Begins a message in `field`, opened as `how` says: what is written up to
 * callout_write_close is its content. */
static inline void callout_write_open_as(callout_writer_t* writer, uint32_t field, unsigned how) {
  if (writer->depth == CALLOUT_WRITER_DEPTH_MAX) {
    callout_writer_fail(writer, CALLOUT_RESOURCE_EXHAUSTED);
    return;
  }
  if (!callout_writer_reserve(writer, CALLOUT_VARINT_BYTES_MAX + 1)) return;
  /* Most contents are under 128 bytes: one byte is kept for the length. */
  writer->size =
      CALLOUT_CAST(size_t, callout_put_head(writer->data + writer->size, field, 0) - writer->data);
  writer->how[writer->depth] = CALLOUT_CAST(uint8_t, how);
  writer->open[writer->depth++] = CALLOUT_CAST(uint32_t, writer->size);
}
static inline void callout_write_open(callout_writer_t* writer, uint32_t field) {
  callout_write_open_as(writer, field, CALLOUT_OPEN_PLAIN);
}

/* Puts the length before the content of the message opened last. */
static inline void callout_write_length(callout_writer_t* writer) {
  const size_t begin = writer->open[--writer->depth];
  const size_t size = writer->size - begin;
  const size_t more = callout_varint_size(size) - 1;
  if (more > 0) {
    if (!callout_writer_reserve(writer, more)) return;
    memmove(writer->data + begin + more, writer->data + begin, size);
    writer->size += more;
  }
  callout_put_varint(writer->data + begin - 1, size);
}

/* Ends the message opened last, and those it was joined to. */
static inline void callout_write_close(callout_writer_t* writer) {
  int joined = 1;
  while (joined && writer->status == CALLOUT_OK) {
    if (writer->depth == 0) {
      callout_writer_fail(writer, CALLOUT_FAILED_PRECONDITION);
      return;
    }
    joined = writer->how[writer->depth - 1] & CALLOUT_OPEN_JOINED;
    callout_write_length(writer);
  }
}

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* CALLOUT_WIRE_H_ */
