/* SPDX-License-Identifier: Apache-2.0 */

/* callout/struct.h - google.protobuf.Struct and the maps of it that a call brings
 * (attributes, metadata): views for reading, and a writer. Include
 * <callout/message.h>.
 *
 *     callout_value_t path;
 *     if (callout_find_attribute(call->attributes, callout_text("request.path"), &path) &&
 *         path.kind == CALLOUT_VALUE_STRING) use(path.bytes);
 *
 * Views live as long as the bytes they were read from. Of two entries with one
 * key the last counts, as in protobuf. Malformed bytes: nothing is found, and a
 * walk ends with `malformed` set.
 */
#ifndef CALLOUT_STRUCT_H_
#define CALLOUT_STRUCT_H_

#include <callout/wire.h>

#ifdef __cplusplus
extern "C" {
#endif

/* --- Reading ------------------------------------------------------------ */

/* The field numbers of google.protobuf.Value. */
typedef uint32_t callout_value_kind_t;
enum {
  CALLOUT_VALUE_ABSENT = 0, /* a Value with nothing in it */
  CALLOUT_VALUE_NULL = 1,
  CALLOUT_VALUE_NUMBER = 2,
  CALLOUT_VALUE_STRING = 3,
  CALLOUT_VALUE_BOOL = 4,
  CALLOUT_VALUE_STRUCT = 5,
  CALLOUT_VALUE_LIST = 6
};

typedef struct callout_value {
  callout_value_kind_t kind;
  int boolean;           /* CALLOUT_VALUE_BOOL */
  double number;         /* CALLOUT_VALUE_NUMBER */
  callout_bytes_t bytes; /* the text of a string; the serialized Struct or ListValue */
} callout_value_t;

/* Takes one record of a Value. */
static inline void callout_take_value(const callout_reader_t* reader, callout_value_t* value) {
  const uint32_t field = reader->field;
  if (reader->type == CALLOUT_WIRE_VARINT) {
    if (field != CALLOUT_VALUE_NULL && field != CALLOUT_VALUE_BOOL) return;
    value->boolean = field == CALLOUT_VALUE_BOOL && reader->number != 0;
  } else if (reader->type == CALLOUT_WIRE_FIXED64) {
    if (field != CALLOUT_VALUE_NUMBER) return;
    memcpy(&value->number, &reader->number, sizeof(value->number));
  } else if (reader->type == CALLOUT_WIRE_BYTES) {
    if (field != CALLOUT_VALUE_STRING && field != CALLOUT_VALUE_STRUCT &&
        field != CALLOUT_VALUE_LIST) {
      return;
    }
    value->bytes = reader->bytes;
  } else {
    return;
  }
  value->kind = field;
}

/* A serialized Value. 0 if malformed; the contents of a Struct or ListValue in it are
 * looked at only when they are read. */
static inline int callout_read_value(callout_bytes_t bytes, callout_value_t* value) {
  callout_reader_t reader = callout_read(bytes);
  memset(value, 0, sizeof(*value));
  while (callout_reader_next(&reader)) callout_take_value(&reader, value);
  return !reader.malformed;
}

/* Walks the entries of any map<string, message> in `field` of a message. */
typedef struct callout_map {
  callout_reader_t reader;
  uint32_t field;
  int malformed;
} callout_map_t;

static inline callout_map_t callout_read_map(callout_bytes_t message, uint32_t field) {
  callout_map_t map;
  map.reader = callout_read(message);
  map.field = field;
  map.malformed = 0;
  return map;
}

/* 1: the next entry. 0: the end, or malformed. */
static inline int callout_map_next(callout_map_t* map, callout_bytes_t* key,
                                   callout_bytes_t* value) {
  callout_reader_t entry;
  if (map->malformed) return 0;
  while (callout_reader_next(&map->reader)) {
    if (!callout_reader_is(&map->reader, map->field, CALLOUT_WIRE_BYTES)) continue;
    *key = *value = callout_make_bytes(NULL, 0);
    entry = callout_read(map->reader.bytes);
    while (callout_reader_next(&entry)) {
      if (callout_reader_is(&entry, 1, CALLOUT_WIRE_BYTES)) *key = entry.bytes;
      if (callout_reader_is(&entry, 2, CALLOUT_WIRE_BYTES)) *value = entry.bytes;
    }
    map->malformed = entry.malformed;
    return !entry.malformed;
  }
  map->malformed = map->reader.malformed;
  return 0;
}

/* 1 and the last value under `key`, or 0. */
static inline int callout_map_find(callout_bytes_t message, uint32_t field, callout_bytes_t key,
                                   callout_bytes_t* value) {
  callout_map_t map = callout_read_map(message, field);
  callout_bytes_t name;
  callout_bytes_t content;
  callout_bytes_t found = callout_make_bytes(NULL, 0);
  int is_found = 0;
  while (callout_map_next(&map, &name, &content)) {
    if (!callout_bytes_equal(name, key)) continue;
    found = content;
    is_found = 1;
  }
  if (map.malformed || !is_found) return 0;
  *value = found;
  return 1;
}

/* Walks the fields of a Struct:
 *
 *     callout_map_t fields = callout_read_struct(bytes);
 *     while (callout_struct_next(&fields, &key, &value)) ... */
static inline callout_map_t callout_read_struct(callout_bytes_t bytes) {
  return callout_read_map(bytes, 1);
}
static inline int callout_struct_next(callout_map_t* fields, callout_bytes_t* key,
                                      callout_value_t* value) {
  callout_bytes_t content;
  if (!callout_map_next(fields, key, &content)) return 0;
  if (callout_read_value(content, value)) return 1;
  fields->malformed = 1;
  return 0;
}

/* 1 and the field `key` of the serialized Struct `bytes`, or 0. */
static inline int callout_struct_find(callout_bytes_t bytes, callout_bytes_t key,
                                      callout_value_t* value) {
  callout_bytes_t content;
  return callout_map_find(bytes, 1, key, &content) && callout_read_value(content, value);
}

/* Walks a ListValue:
 *
 *     callout_reader_t list = callout_read_list(value.bytes);
 *     while (callout_list_next(&list, &item)) ...
 *     if (list.malformed) ... */
static inline callout_reader_t callout_read_list(callout_bytes_t bytes) {
  return callout_read(bytes);
}
static inline int callout_list_next(callout_reader_t* list, callout_value_t* item) {
  while (callout_reader_next(list)) {
    if (!callout_reader_is(list, 1, CALLOUT_WIRE_BYTES)) continue;
    return callout_read_value(list->bytes, item) || callout_reader_fail(list);
  }
  return 0;
}

/* 1 and the attribute `name` ("request.path", "source.address", ...), or 0.
 * `attributes` is call->attributes: entries of ProcessingRequest.attributes (field 9),
 * each a Struct whose keys are the names. If both directions brought it, the later counts. */
static inline int callout_find_attribute(callout_bytes_t attributes, callout_bytes_t name,
                                         callout_value_t* value) {
  callout_map_t filters = callout_read_map(attributes, 9);
  callout_bytes_t filter;
  callout_bytes_t names;
  callout_value_t found;
  int is_found = 0;
  while (callout_map_next(&filters, &filter, &names)) {
    if (!callout_struct_find(names, name, &found)) continue;
    *value = found;
    is_found = 1;
  }
  return is_found && !filters.malformed;
}

/* Walks the namespaces of call->metadata_context (Metadata.filter_metadata, field 1)
 * with callout_map_next: each value is a Struct. */
static inline callout_map_t callout_read_metadata(callout_bytes_t metadata) {
  return callout_read_map(metadata, 1);
}

/* 1 and what other filters have left under `key` in the namespace `name`, or 0. */
static inline int callout_find_metadata(callout_bytes_t metadata, callout_bytes_t name,
                                        callout_bytes_t key, callout_value_t* value) {
  callout_bytes_t fields;
  return callout_map_find(metadata, 1, name, &fields) && callout_struct_find(fields, key, value);
}

/* --- Writing ------------------------------------------------------------
 *
 * A writer holds the content of one Struct and nothing else:
 *
 *     callout_write_struct(&writer, callout_text("my.namespace"));
 *     callout_write_string(&writer, callout_text("user"), user);
 *     callout_write_list(&writer, callout_text("scores"));
 *     callout_write_real(&writer, CALLOUT_ITEM, 0.5);
 *     callout_write_close(&writer);
 *     callout_write_close(&writer);
 *
 * In a list every key is CALLOUT_ITEM, and nowhere else: INVALID_ARGUMENT. Keys and
 * strings must be UTF-8, which is not checked. Failures are kept in the writer. */

#define CALLOUT_ITEM callout_make_bytes(NULL, SIZE_MAX)

/* Begins a value; closed by one callout_write_close. In a Struct it is the Value (field
 * 2) of an entry (1) with the key (1), in a ListValue a Value (1). */
static inline void callout_write_value(callout_writer_t* writer, callout_bytes_t key) {
  const int in_list =
      writer->depth > 0 && (writer->how[writer->depth - 1] & CALLOUT_OPEN_LIST) != 0;
  if (in_list != (key.size == SIZE_MAX)) {
    callout_writer_fail(writer, CALLOUT_INVALID_ARGUMENT);
  } else if (in_list) {
    callout_write_open(writer, 1);
  } else {
    callout_write_open(writer, 1);
    callout_write_bytes(writer, 1, key);
    callout_write_open_as(writer, 2, CALLOUT_OPEN_JOINED);
  }
}

static inline void callout_write_null(callout_writer_t* writer, callout_bytes_t key) {
  callout_write_value(writer, key);
  callout_write_number(writer, CALLOUT_VALUE_NULL, 0);
  callout_write_close(writer);
}
static inline void callout_write_real(callout_writer_t* writer, callout_bytes_t key,
                                      double number) {
  callout_write_value(writer, key);
  callout_write_double(writer, CALLOUT_VALUE_NUMBER, number);
  callout_write_close(writer);
}
static inline void callout_write_string(callout_writer_t* writer, callout_bytes_t key,
                                        callout_bytes_t text) {
  callout_write_value(writer, key);
  callout_write_bytes(writer, CALLOUT_VALUE_STRING, text);
  callout_write_close(writer);
}
static inline void callout_write_bool(callout_writer_t* writer, callout_bytes_t key, int boolean) {
  callout_write_value(writer, key);
  callout_write_number(writer, CALLOUT_VALUE_BOOL, boolean != 0);
  callout_write_close(writer);
}

/* Begin a Struct or a list as a value; end it with callout_write_close. */
static inline void callout_write_struct(callout_writer_t* writer, callout_bytes_t key) {
  callout_write_value(writer, key);
  callout_write_open_as(writer, CALLOUT_VALUE_STRUCT, CALLOUT_OPEN_JOINED);
}
static inline void callout_write_list(callout_writer_t* writer, callout_bytes_t key) {
  callout_write_value(writer, key);
  callout_write_open_as(writer, CALLOUT_VALUE_LIST, CALLOUT_OPEN_JOINED | CALLOUT_OPEN_LIST);
}

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* CALLOUT_STRUCT_H_ */
