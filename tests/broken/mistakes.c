/* SPDX-License-Identifier: Apache-2.0 */

/* What a hurried author writes: docs/mistakes.md has a row for each of these, by the name
 * that is defined here when the file is compiled.
 */
#include <callout/message.h>
#include <stdlib.h>
#include <string.h>

CALLOUT_PLUGIN();

#ifdef answer_at_open
callout_status_t callout_on_stream_open(callout_call_t* call) {
  callout_deny(call, 403, "no");
  return CALLOUT_OK;
}
#endif
#ifdef defer_at_open
callout_status_t callout_on_stream_open(callout_call_t* call) {
  (void)call;
  return CALLOUT_DEFERRED;
}
#endif

static const callout_host_t* host_of_all;
callout_status_t callout_plugin_create(callout_create_args_t* args) {
  host_of_all = args->host;
#ifdef all_phases_cleared
  args->phases = 0;
#endif
#ifdef create_writes_past
  memset(args + 1, 0xff, 64); /* a field of a later header, and CALLOUT_HAS not asked */
#endif
#ifdef create_sets_positive
  return CALLOUT_NEXT;
#endif
  return CALLOUT_OK;
}

#ifdef late_thread
/* Called by the test once the instance is destroyed: as a thread would that goes on. */
CALLOUT_EXPORT void late_work(void);
void late_work(void) { callout_log(host_of_all, CALLOUT_LOG_INFO, "tick"); }
#endif

static callout_call_t* kept;
#ifdef finish_after_close
/* Called by the test once the stream is closed: as by a thread that is done too late. */
CALLOUT_EXPORT void work_after_close(void);
void work_after_close(void) { kept->host->finish(kept, CALLOUT_OK); }
#endif
#ifdef use_after_return
void callout_on_stream_close(callout_call_t* call) {
  (void)call;
  callout_deny(kept, 403, "too late");
}
#endif
callout_status_t callout_on_request_headers(callout_call_t* call) {
  callout_bytes_t text = callout_text("hello");
  (void)text;
  (void)call;
  kept = call;
#if defined(finish_after_close)
  call->host->finish(call, CALLOUT_OK);
  return CALLOUT_DEFERRED;
#elif defined(finish_and_return)
  call->host->finish(call, CALLOUT_OK);
  return CALLOUT_OK;
#elif defined(finish_deferred)
  call->host->finish(call, CALLOUT_DEFERRED);
  return CALLOUT_OK;
#elif defined(other_phase)
  text = callout_text("");
  call->host->respond(call, CALLOUT_RESPONSE_HEADERS_RESPONSE, &text, 1);
  call->host->finish(call, CALLOUT_OK);
  return CALLOUT_DEFERRED;
#elif defined(unknown_status)
  return 42;
#elif defined(next_from_phase)
  return CALLOUT_NEXT;
#elif defined(holds_elsewhere)
  return CALLOUT_NO_RESPONSE;
#elif defined(null_call)
  return call->host->respond(NULL, CALLOUT_IMMEDIATE_RESPONSE, &text, 1);
#elif defined(late_metric)
  {
    uint32_t id;
    return call->host->metric_define(call->host, CALLOUT_METRIC_COUNTER, callout_text("n"), text,
                                     &id);
  }
#elif defined(finish_twice)
  call->host->finish(call, CALLOUT_OK);
  call->host->finish(call, CALLOUT_OK);
  return CALLOUT_DEFERRED;
#elif defined(finish_never)
  return CALLOUT_DEFERRED;
#elif defined(field_zero)
  return call->host->respond(call, CALLOUT_WHOLE_RESPONSE, &text, 1);
#elif defined(field_unknown)
  return call->host->respond(call, 12, &text, 1);
#elif defined(respond_after_deny)
  const callout_header_t token = CALLOUT_HEADER("x-internal-token", "s3cret");
  callout_deny(call, 403, "no");
  return callout_add_header_mutation(call, &token, 1, NULL, 0, 0,
                                     CALLOUT_OVERWRITE_IF_EXISTS_OR_ADD);
#elif defined(copied_call)
  callout_call_t* copy = malloc(sizeof(*copy));
  callout_status_t status;
  memcpy(copy, call, sizeof(*copy));
  status = callout_deny(copy, 403, "by a copy");
  free(copy);
  return status;
#else
  return CALLOUT_OK;
#endif
}
