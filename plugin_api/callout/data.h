/* SPDX-License-Identifier: Apache-2.0 */

/* callout/data.h - network ext_proc in C: the bytes of a TCP connection, and what becomes of
 * them. Include <callout/message.h>.
 *
 *     callout_status_t callout_on_read_data(callout_call_t *call) {
 *       callout_data_t data;
 *       callout_get_data(call, &data);
 *       if (callout_bytes_contain(data.bytes, callout_text("DROP TABLE"))) {
 *         return callout_close_connection(call);
 *       }
 *       return CALLOUT_OK;  // nothing set: the bytes go on as they came
 *     }
 *
 * What a plugin says here takes the place of what it said before in the same call; but after it has
 * ended the connection, that is refused (FAILED_PRECONDITION). The end of a direction stays where
 * it is, whatever a plugin answers: the host passes it on.
 *
 * Views live as long as the call's message. Thread: [call].
 */
#ifndef CALLOUT_DATA_H_
#define CALLOUT_DATA_H_

#include <callout/plugin.h>
#include <callout/wire.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct callout_data {
  callout_bytes_t bytes; /* may be empty: an end of a direction comes alone */
  int end_of_stream;     /* nothing more follows in this direction */
} callout_data_t;

/* Data: data 1, end_of_stream 2. */
static inline void callout_get_data(const callout_call_t* call, callout_data_t* data) {
  callout_reader_t reader = callout_read(call->message);
  data->bytes = callout_make_bytes(NULL, 0);
  data->end_of_stream = 0;
  while (callout_reader_next(&reader)) {
    if (callout_reader_is(&reader, 1, CALLOUT_WIRE_BYTES)) data->bytes = reader.bytes;
    if (callout_reader_is(&reader, 2, CALLOUT_WIRE_VARINT)) {
      data->end_of_stream = reader.number != 0;
    }
  }
}

/* These bytes go on in the place of those that came; none of them if it is empty. In
 * callout_on_read_data and callout_on_write_data. */
static inline callout_status_t callout_replace_data(callout_call_t* call, callout_bytes_t bytes) {
  char head[16];
  callout_bytes_t parts[2];
  const char* end = callout_put_head(head, 1, bytes.size);
  parts[0] = callout_make_bytes(head, CALLOUT_CAST(size_t, end - head));
  parts[1] = bytes;
  return call->host->respond(
      call,
      call->phase == CALLOUT_READ_DATA ? CALLOUT_READ_DATA_RESPONSE : CALLOUT_WRITE_DATA_RESPONSE,
      parts, 2);
}

/* ProcessingResponse.connection_status: 4. */
static inline callout_status_t callout_end_connection(callout_call_t* call, uint32_t how) {
  char bytes[16];
  callout_bytes_t part;
  const char* end = callout_put_number(bytes, 4, how);
  part = callout_make_bytes(bytes, CALLOUT_CAST(size_t, end - bytes));
  return call->host->respond(call, CALLOUT_WHOLE_RESPONSE, &part, 1);
}
/* Closes the connection as one that is over (FIN), without the bytes of this call. */
static inline callout_status_t callout_close_connection(callout_call_t* call) {
  return callout_end_connection(call, 1);
}
/* Resets it (RST): no peer takes what it has got for all there was. */
static inline callout_status_t callout_reset_connection(callout_call_t* call) {
  return callout_end_connection(call, 2);
}

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* CALLOUT_DATA_H_ */
