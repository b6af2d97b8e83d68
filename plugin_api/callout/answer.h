/* SPDX-License-Identifier: Apache-2.0 */

/* callout/answer.h - building the answer to a call step by step. Include
 * <callout/message.h>. For an answer of one step, callout/tools.h is shorter.
 *
 *     char buffer[512];
 *     callout_answer_t answer;
 *     callout_answer_init(&answer, call, buffer, sizeof(buffer));
 *     callout_answer_set_header(&answer, callout_text("x-seen"), callout_text("1"),
 *                               CALLOUT_OVERWRITE_IF_EXISTS_OR_ADD);
 *     callout_answer_remove_header(&answer, callout_text("x-secret"));
 *     return callout_answer_respond(&answer, call);
 *
 * An answer is of the type that its call's phase wants: HeadersResponse,
 * BodyResponse or TrailersResponse; or, after callout_answer_immediate, an
 * ImmediateResponse, which is allowed in every phase.
 *
 * Steps work in the order they are written, although Envoy removes before it
 * sets: removing a header takes back what the answer has set before under that
 * name. A step that cannot be done is kept in `status` (INVALID_ARGUMENT or
 * RESOURCE_EXHAUSTED), makes later steps do nothing, and is what respond returns;
 * it is enough to look there.
 *
 * An immediate response stands: once respond has given one to the host, a later
 * answer to the same call is refused (FAILED_PRECONDITION). One that cannot be made,
 * such as one with the status 99, never becomes a pass: the host knows of it.
 *
 * Ownership: header names and values are copied; `body` and `details` are views
 * that have to live until callout_answer_respond. Every init is followed by a
 * respond or a callout_answer_free. Thread: [call].
 */
#ifndef CALLOUT_ANSWER_H_
#define CALLOUT_ANSWER_H_

#include <callout/headers.h>
#include <callout/wire.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What setting a header does where the name exists: upstream's
 * HeaderValueOption.HeaderAppendAction.
 *
 * Envoy 1.40's ext_proc filter reads only the older `append` flag, which can say
 * the first and the third. Those are sent in both forms. The other two are
 * settled here, against the headers of the call: the header is set, or left out.
 * In a body phase there are no headers to look at: see callout_answer_t.known. */
typedef uint32_t callout_append_action_t;
enum {
  CALLOUT_APPEND_IF_EXISTS_OR_ADD = 0,
  CALLOUT_ADD_IF_ABSENT = 1,
  CALLOUT_OVERWRITE_IF_EXISTS_OR_ADD = 2, /* what a plain "set" means */
  CALLOUT_OVERWRITE_IF_EXISTS = 3
};

enum {
  CALLOUT_BODY_UNCHANGED = 0,
  CALLOUT_BODY_REPLACED = 1, /* by `body`, which may be empty */
  CALLOUT_BODY_CLEARED = 2
};

typedef struct callout_answer {
  callout_phase_t phase;
  callout_status_t status;   /* the first step that failed; `reason` says why */
  const char* reason;        /* one line, static; NULL while all is well */
  callout_writer_t mutation; /* the records of a HeaderMutation */
  /* HttpHeaders or HttpTrailers that ADD_IF_ABSENT and OVERWRITE_IF_EXISTS are
   * settled against: the call's message. In a body phase `has_known` is 0, and a
   * plugin that has kept a copy of the headers may put it here. */
  callout_bytes_t known;
  uint32_t has_known;
  uint32_t has_mutation; /* a HeaderMutation goes out even if it is empty */
  uint32_t clear_route_cache;
  uint32_t body_kind; /* CALLOUT_BODY_UNCHANGED, ... */
  callout_bytes_t body;
  uint32_t is_immediate; /* the rest is for immediate responses */
  uint32_t http_status;
  uint32_t has_grpc_status;
  uint32_t grpc_status;
  callout_bytes_t details;
} callout_answer_t;

static inline int callout_is_headers_phase(callout_phase_t phase) {
  return phase == CALLOUT_REQUEST_HEADERS || phase == CALLOUT_RESPONSE_HEADERS;
}
static inline int callout_is_body_phase(callout_phase_t phase) {
  return phase == CALLOUT_REQUEST_BODY || phase == CALLOUT_RESPONSE_BODY;
}
static inline int callout_is_trailers_phase(callout_phase_t phase) {
  return phase == CALLOUT_REQUEST_TRAILERS || phase == CALLOUT_RESPONSE_TRAILERS;
}

/* `buffer` is where the answer begins; the heap is used if it does not suffice. */
static inline void callout_answer_init(callout_answer_t* answer, const callout_call_t* call,
                                       char* buffer, size_t buffer_size) {
  const callout_bytes_t none = callout_make_bytes(NULL, 0);
  answer->phase = call->phase;
  answer->status = CALLOUT_OK;
  answer->reason = NULL;
  callout_writer_init(&answer->mutation, buffer, buffer_size);
  answer->has_known =
      callout_is_headers_phase(call->phase) || callout_is_trailers_phase(call->phase);
  answer->known = answer->has_known ? call->message : none;
  answer->has_mutation = 0;
  answer->clear_route_cache = 0;
  answer->body_kind = CALLOUT_BODY_UNCHANGED;
  answer->body = none;
  answer->is_immediate = 0;
  answer->http_status = 0;
  answer->has_grpc_status = 0;
  answer->grpc_status = 0;
  answer->details = none;
}

static inline void callout_answer_free(callout_answer_t* answer) {
  callout_writer_free(&answer->mutation);
}

/* Keeps the first failure. `reason` must be static. */
static inline void callout_answer_fail(callout_answer_t* answer, callout_status_t status,
                                       const char* reason) {
  if (answer->status != CALLOUT_OK) return;
  answer->status = status;
  answer->reason = reason;
}

/* 1 if the answer would change nothing. */
static inline int callout_answer_is_empty(const callout_answer_t* answer) {
  return answer->status == CALLOUT_OK && !answer->is_immediate && !answer->has_mutation &&
         !answer->clear_route_cache && answer->body_kind == CALLOUT_BODY_UNCHANGED;
}

/* --- Headers ------------------------------------------------------------ */

/* HeaderMutation: set_headers 1 (HeaderValueOption: header 1), remove_headers 2.
 * The name that the record of `reader` sets or removes. */
static inline callout_bytes_t callout_mutation_name(const callout_reader_t* reader) {
  callout_header_t header = callout_make_header(reader->bytes, reader->bytes);
  callout_reader_t option = callout_read(reader->bytes);
  if (reader->field == 2) return reader->bytes;
  while (callout_reader_next(&option)) {
    if (option.field == 1) callout_parse_header(option.bytes, &header);
  }
  return header.key;
}

/* 1 if the answer sets (`field` 1) or removes (2) the header `key`. */
static inline int callout_answer_has(const callout_answer_t* answer, uint32_t field,
                                     callout_bytes_t key) {
  callout_reader_t reader =
      callout_read(callout_make_bytes(answer->mutation.data, answer->mutation.size));
  while (callout_reader_next(&reader)) {
    if (reader.field == field && callout_names_equal(callout_mutation_name(&reader), key)) return 1;
  }
  return 0;
}

/* Takes back every setting of `key`. */
static inline void callout_answer_unset(callout_answer_t* answer, callout_bytes_t key) {
  callout_writer_t* mutation = &answer->mutation;
  callout_reader_t reader = callout_read(callout_make_bytes(mutation->data, mutation->size));
  const char* record = reader.next;
  size_t kept = 0;
  while (callout_reader_next(&reader)) {
    const size_t size = CALLOUT_CAST(size_t, reader.next - record);
    if (reader.field != 1 || !callout_names_equal(callout_mutation_name(&reader), key)) {
      if (mutation->data + kept != record) memmove(mutation->data + kept, record, size);
      kept += size;
    }
    record = reader.next;
  }
  mutation->size = kept;
}

/* Whether the header would exist once the answer so far is applied. */
static inline int callout_answer_would_exist(const callout_answer_t* answer, callout_bytes_t key) {
  if (callout_answer_has(answer, 1, key)) return 1;
  return callout_headers_contain(answer->known, key, NULL) && !callout_answer_has(answer, 2, key);
}

/* One HeaderValueOption: header 1, append 2 (BoolValue: 1), append_action 3,
 * keep_empty_value 4; in it a HeaderValue: key 1, raw_value 3. */
static inline void callout_write_header_option(callout_writer_t* writer, callout_bytes_t key,
                                               callout_bytes_t value,
                                               callout_append_action_t action) {
  const size_t header_size = callout_record_size(1, key.size) + callout_record_size(3, value.size);
  const int append = action == CALLOUT_APPEND_IF_EXISTS_OR_ADD;
  const size_t option_size =
      callout_record_size(1, header_size) + (append ? 4 : 2) + (value.size == 0 ? 2 : 0);
  char* to;
  if (key.size > CALLOUT_MESSAGE_BYTES_MAX || value.size > CALLOUT_MESSAGE_BYTES_MAX ||
      !callout_writer_reserve(writer, callout_record_size(1, option_size))) {
    callout_writer_fail(writer, CALLOUT_RESOURCE_EXHAUSTED);
    return;
  }
  to = callout_put_head(writer->data + writer->size, 1, option_size);
  to = callout_put_head(to, 1, header_size);
  to = callout_put_head(to, 1, key.size);
  if (key.size > 0) memcpy(to, key.data, key.size);
  to = callout_put_head(to + key.size, 3, value.size);
  if (value.size > 0) memcpy(to, value.data, value.size);
  to += value.size;
  if (append) {
    /* append_action says the same by its absence. */
    to = callout_put_head(to, 2, 2);
    to = callout_put_number(to, 1, 1);
  } else {
    /* `append` says the same by its absence. */
    to = callout_put_number(to, 3, action);
  }
  if (value.size == 0) to = callout_put_number(to, 4, 1);
  writer->size = CALLOUT_CAST(size_t, to - writer->data);
}

/* Sets `key` to `value` (both copied), as `action` says. */
static inline void callout_answer_set_header(callout_answer_t* answer, callout_bytes_t key,
                                             callout_bytes_t value,
                                             callout_append_action_t action) {
  if (answer->status != CALLOUT_OK) return;
  if (action > CALLOUT_OVERWRITE_IF_EXISTS) {
    callout_answer_fail(answer, CALLOUT_INVALID_ARGUMENT,
                        "a header was to be set with an append action that does not exist");
    return;
  }
  answer->has_mutation = 1;
  if (action == CALLOUT_ADD_IF_ABSENT || action == CALLOUT_OVERWRITE_IF_EXISTS) {
    if (!answer->has_known) {
      callout_answer_fail(answer, CALLOUT_INVALID_ARGUMENT,
                          "ADD_IF_ABSENT and OVERWRITE_IF_EXISTS need the headers to look at, "
                          "which this phase does not have; set them in the headers phase");
      return;
    }
    if (callout_answer_would_exist(answer, key) != (action == CALLOUT_OVERWRITE_IF_EXISTS)) return;
  }
  callout_write_header_option(&answer->mutation, key, value, action);
  if (answer->mutation.status != CALLOUT_OK) {
    callout_answer_fail(answer, answer->mutation.status, "no memory for the answer's headers");
  }
}

/* Removes `key` (copied), also if the answer has just set it. Envoy keeps "host"
 * and names that begin with ":" all the same. */
static inline void callout_answer_remove_header(callout_answer_t* answer, callout_bytes_t key) {
  if (answer->status != CALLOUT_OK) return;
  answer->has_mutation = 1;
  callout_answer_unset(answer, key);
  callout_write_bytes(&answer->mutation, 2, key);
  if (answer->mutation.status != CALLOUT_OK) {
    callout_answer_fail(answer, answer->mutation.status, "no memory for the answer's headers");
  }
}

/* Lets Envoy choose the route anew, by the request's headers as the answer leaves
 * them. Without effect in response phases. Envoy wants a header mutation with it:
 * if there is none an empty one is sent. */
static inline void callout_answer_clear_route_cache(callout_answer_t* answer) {
  if (callout_is_trailers_phase(answer->phase)) {
    callout_answer_fail(answer, CALLOUT_INVALID_ARGUMENT,
                        "an answer to trailers cannot clear the route cache");
    return;
  }
  answer->clear_route_cache = 1;
  answer->has_mutation = 1;
}

/* --- Bodies ------------------------------------------------------------- */

static inline void callout_answer_use_body(callout_answer_t* answer, uint32_t kind,
                                           callout_bytes_t body) {
  if (callout_is_trailers_phase(answer->phase) && !answer->is_immediate) {
    callout_answer_fail(answer, CALLOUT_INVALID_ARGUMENT,
                        "an answer to trailers cannot change the body");
    return;
  }
  answer->body_kind = kind;
  answer->body = body;
}

/* Replaces the body (in the streamed modes: this chunk) by `body`, a view that has
 * to live until respond. An empty `body` is a body of no bytes.
 *
 * In a headers phase it becomes CONTINUE_AND_REPLACE: Envoy drops the original
 * body, sends on this one, and tells no more of this direction. The same call works in
 * every body mode: the host writes it in the form that the mode wants, and sees to
 * content-length. */
static inline void callout_answer_set_body(callout_answer_t* answer, callout_bytes_t body) {
  callout_answer_use_body(answer, CALLOUT_BODY_REPLACED, body);
}

/* Removes the body: BodyMutation.clear_body. */
static inline void callout_answer_clear_body(callout_answer_t* answer) {
  callout_answer_use_body(answer, CALLOUT_BODY_CLEARED, callout_make_bytes(NULL, 0));
}

/* --- Immediate responses ------------------------------------------------ */

/* Makes the answer an immediate response: Envoy answers the client itself, with
 * `http_status` (200 to 599; Envoy takes anything below 200 for 200), and the stream
 * ends. Headers and body that were set before are forgotten; those set from here
 * on are the response's own. Envoy's default content-type is text/plain. */
static inline void callout_answer_immediate(callout_answer_t* answer, uint32_t http_status) {
  answer->is_immediate = 1; /* whatever fails: see callout_answer_respond */
  if (answer->status != CALLOUT_OK) return;
  if (http_status < 200 || http_status > 599) {
    callout_answer_fail(answer, CALLOUT_INVALID_ARGUMENT,
                        "an immediate response needs an HTTP status of 200 to 599");
    return;
  }
  callout_writer_clear(&answer->mutation);
  answer->has_mutation = 0;
  answer->clear_route_cache = 0;
  answer->body_kind = CALLOUT_BODY_UNCHANGED;
  answer->body = callout_make_bytes(NULL, 0);
  answer->known = callout_make_bytes(NULL, 0);
  answer->has_known = 1; /* the response starts without headers */
  answer->http_status = http_status;
}

/* A text for Envoy's access log (%RESPONSE_CODE_DETAILS%), which the client does not
 * see; a view that has to live until respond. After callout_answer_immediate. */
static inline void callout_answer_set_details(callout_answer_t* answer, callout_bytes_t details) {
  answer->details = details;
}

/* The grpc-status for gRPC clients; without it Envoy derives one from the HTTP
 * status. After callout_answer_immediate. */
static inline void callout_answer_set_grpc_status(callout_answer_t* answer, uint32_t grpc_status) {
  answer->has_grpc_status = 1;
  answer->grpc_status = grpc_status;
}

/* --- Sending ------------------------------------------------------------ */

/* The answer as the host takes it: parts of one message. They point into the
 * answer and into this struct, which must not be copied. */
typedef struct callout_answer_parts {
  callout_field_t field;
  size_t count;
  callout_bytes_t parts[6];
  char head[40];
  char middle[40];
  char tail[40];
} callout_answer_parts_t;

static inline void callout_add_part(callout_answer_parts_t* parts, const char* data, size_t size) {
  if (size > 0) parts->parts[parts->count++] = callout_make_bytes(data, size);
}

/* BodyMutation: body 1, clear_body 2. Writes the mutation's head (in `field` of what
 * is around it) but not the body itself. */
static inline char* callout_put_body_head(char* to, uint32_t field,
                                          const callout_answer_t* answer) {
  if (answer->body_kind == CALLOUT_BODY_UNCHANGED) return to;
  if (answer->body_kind == CALLOUT_BODY_CLEARED) {
    return callout_put_number(callout_put_head(to, field, 2), 2, 1);
  }
  to = callout_put_head(to, field, callout_record_size(1, answer->body.size));
  return callout_put_head(to, 1, answer->body.size);
}

/* HeadersResponse and BodyResponse: response 1, a CommonResponse of status 1,
 * header_mutation 2, body_mutation 3, clear_route_cache 5. */
static inline void callout_make_common_parts(const callout_answer_t* answer,
                                             callout_answer_parts_t* parts) {
  const int replaces =
      callout_is_headers_phase(answer->phase) && answer->body_kind != CALLOUT_BODY_UNCHANGED;
  const size_t middle_size =
      CALLOUT_CAST(size_t, callout_put_body_head(parts->middle, 3, answer) - parts->middle);
  const size_t mutation_size = answer->mutation.size;
  const size_t size = (replaces ? 2 : 0) +
                      (answer->has_mutation ? callout_record_size(2, mutation_size) : 0) +
                      middle_size + answer->body.size + (answer->clear_route_cache ? 2 : 0);
  char* to = parts->head;
  if (size == 0) return;
  to = callout_put_head(to, 1, size);
  if (replaces) to = callout_put_number(to, 1, 1);
  if (answer->has_mutation) to = callout_put_head(to, 2, mutation_size);
  callout_add_part(parts, parts->head, CALLOUT_CAST(size_t, to - parts->head));
  callout_add_part(parts, answer->mutation.data, mutation_size);
  callout_add_part(parts, parts->middle, middle_size);
  callout_add_part(parts, answer->body.data, answer->body.size);
  if (answer->clear_route_cache) {
    to = callout_put_number(parts->tail, 5, 1);
    callout_add_part(parts, parts->tail, CALLOUT_CAST(size_t, to - parts->tail));
  }
}

/* TrailersResponse: header_mutation 1. */
static inline void callout_make_trailers_parts(const callout_answer_t* answer,
                                               callout_answer_parts_t* parts) {
  char* to;
  if (!answer->has_mutation) return;
  to = callout_put_head(parts->head, 1, answer->mutation.size);
  callout_add_part(parts, parts->head, CALLOUT_CAST(size_t, to - parts->head));
  callout_add_part(parts, answer->mutation.data, answer->mutation.size);
}

/* ImmediateResponse: status 1 (HttpStatus: code 1), headers 2, body 3, grpc_status
 * 4 (GrpcStatus: status 1), details 5. */
static inline void callout_make_immediate_parts(const callout_answer_t* answer,
                                                callout_answer_parts_t* parts) {
  char* to = callout_put_head(parts->head, 1, 1 + callout_varint_size(answer->http_status));
  to = callout_put_number(to, 1, answer->http_status);
  if (answer->has_mutation) to = callout_put_head(to, 2, answer->mutation.size);
  callout_add_part(parts, parts->head, CALLOUT_CAST(size_t, to - parts->head));
  callout_add_part(parts, answer->mutation.data, answer->mutation.size);
  if (answer->body.size > 0) {
    to = callout_put_head(parts->middle, 3, answer->body.size);
    callout_add_part(parts, parts->middle, CALLOUT_CAST(size_t, to - parts->middle));
    callout_add_part(parts, answer->body.data, answer->body.size);
  }
  to = parts->tail;
  if (answer->has_grpc_status) {
    to = callout_put_head(to, 4, 1 + callout_varint_size(answer->grpc_status));
    to = callout_put_number(to, 1, answer->grpc_status);
  }
  if (answer->details.size > 0) to = callout_put_head(to, 5, answer->details.size);
  callout_add_part(parts, parts->tail, CALLOUT_CAST(size_t, to - parts->tail));
  callout_add_part(parts, answer->details.data, answer->details.size);
}

/* Returns answer->status; `parts` is usable if that is OK. */
static inline callout_status_t callout_answer_make_parts(callout_answer_t* answer,
                                                         callout_answer_parts_t* parts) {
  parts->count = 0;
  parts->field = answer->phase - 1;
  if (answer->is_immediate) parts->field = CALLOUT_IMMEDIATE_RESPONSE;
  if (answer->phase < CALLOUT_REQUEST_HEADERS || answer->phase > CALLOUT_RESPONSE_TRAILERS) {
    callout_answer_fail(answer, CALLOUT_FAILED_PRECONDITION, "this call cannot be answered");
  } else if (answer->body.size > CALLOUT_MESSAGE_BYTES_MAX ||
             answer->details.size > CALLOUT_MESSAGE_BYTES_MAX) {
    callout_answer_fail(answer, CALLOUT_RESOURCE_EXHAUSTED, "the answer is over 2 GiB");
  } else if (answer->is_immediate) {
    callout_make_immediate_parts(answer, parts);
  } else if (callout_is_trailers_phase(answer->phase)) {
    callout_make_trailers_parts(answer, parts);
  } else {
    callout_make_common_parts(answer, parts);
  }
  return answer->status;
}

/* Writes the answer's message (HeadersResponse, ...) to `writer` instead of sending
 * it; returns answer->status or what the writer came to. The answer is kept. */
static inline callout_status_t callout_write_answer(callout_answer_t* answer,
                                                    callout_writer_t* writer) {
  callout_answer_parts_t parts;
  size_t i;
  if (callout_answer_make_parts(answer, &parts) != CALLOUT_OK) return answer->status;
  for (i = 0; i < parts.count; ++i) callout_write_raw(writer, parts.parts[i]);
  return writer->status;
}

/* Gives the answer to the host, which copies it, and frees it. An earlier answer to
 * the same call is replaced, but not an immediate response. CALLOUT_OK: return that
 * from the hook. A negative status: the step that failed, or the host's refusal; the
 * reason is set as the call's error, so that it too can be returned as it is. */
static inline callout_status_t callout_answer_respond(callout_answer_t* answer,
                                                      callout_call_t* call) {
  const callout_bytes_t refusal = callout_make_bytes("\x0a\x03\x08\xf4\x03", 5); /* 500 */
  callout_answer_parts_t parts;
  callout_status_t status = callout_answer_make_parts(answer, &parts);
  if (status != CALLOUT_OK) {
    call->host->set_error(call, callout_text(answer->reason));
    if (answer->is_immediate || status == CALLOUT_FAILED_PRECONDITION) {
      /* A refusal that cannot be made; or at open, where none is taken: so that the host
       * knows, whatever the hook then returns. */
      call->host->respond(call, CALLOUT_IMMEDIATE_RESPONSE, &refusal, 1);
    }
  } else {
    status = call->host->respond(call, parts.field, parts.parts, parts.count);
  }
  callout_answer_free(answer);
  return status;
}

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* CALLOUT_ANSWER_H_ */
