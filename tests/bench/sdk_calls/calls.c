/* SPDX-License-Identifier: Apache-2.0 */

/* What a call of a hook costs in a language: a host that does nothing, and a message of 12 headers.
 *
 *     calls PLUGIN.so HOOK CALLS        prints the nanoseconds of CPU time for each call
 *
 * sdk_calls.py builds and runs it. */
#include <callout/message.h>
#include <dlfcn.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static sem_t finished;
static size_t responses;

static callout_status_t respond(callout_call_t* call, callout_field_t field,
                                const callout_bytes_t* parts, size_t count) {
  size_t i;
  (void)call;
  (void)field;
  for (i = 0; i < count; ++i) responses += parts[i].size > 0;
  return CALLOUT_OK;
}
static callout_status_t annotate(callout_call_t* call, callout_field_t field,
                                 callout_bytes_t message) {
  (void)call;
  (void)field;
  (void)message;
  return CALLOUT_OK;
}
static void set_error(callout_call_t* call, callout_bytes_t text) {
  (void)call;
  fprintf(stderr, "%.*s\n", (int)text.size, text.data);
}
static callout_status_t finish(callout_call_t* call, callout_status_t status) {
  (void)call;
  (void)status;
  sem_post(&finished);
  return CALLOUT_OK;
}
static int32_t yes(const callout_host_t* host, callout_log_level_t level) {
  (void)host;
  (void)level;
  return 1;
}
static void log_line(const callout_host_t* host, callout_log_level_t level, callout_bytes_t text) {
  (void)host;
  fprintf(stderr, "%u %.*s\n", level, (int)text.size, text.data);
}
static const void* no_extension(const callout_host_t* host, const char* id) {
  (void)host;
  (void)id;
  return NULL;
}

static double cpu_ns(void) {
  struct timespec time;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return time.tv_sec * 1e9 + time.tv_nsec;
}

typedef callout_status_t (*hook_t)(callout_call_t*);

static hook_t find(void* plugin, const char* name) {
  hook_t hook;
  void* symbol = dlsym(plugin, name);
  memcpy(&hook, &symbol, sizeof(hook));
  return hook;
}

static callout_bytes_t make_message(callout_writer_t* writer) {
  static const char* const kHeaders[][2] = {
      {":method", "GET"},
      {":path", "/some/path?with=query"},
      {":scheme", "https"},
      {":authority", "www.example.com"},
      {"user-agent", "Mozilla/5.0 (X11; Linux x86_64)"},
      {"accept", "text/html,application/xhtml+xml"},
      {"accept-encoding", "gzip, deflate, br"},
      {"accept-language", "en"},
      {"cookie", "session=0123456789abcdef0123456789abcdef"},
      {"x-forwarded-proto", "https"},
      {"x-request-id", "01234567-89ab-cdef-0123-456789abcdef"},
      {"x-role", "member"}};
  size_t i;
  callout_writer_init(writer, NULL, 0);
  callout_write_open(writer, 1);
  for (i = 0; i < sizeof(kHeaders) / sizeof(kHeaders[0]); ++i) {
    callout_write_open(writer, 1);
    callout_write_bytes(writer, 1, callout_text(kHeaders[i][0]));
    callout_write_bytes(writer, 3, callout_text(kHeaders[i][1]));
    callout_write_close(writer);
  }
  callout_write_close(writer);
  return callout_writer_bytes(writer);
}

int main(int count, char** arguments) {
  callout_host_t host;
  callout_create_args_t args;
  callout_call_t call;
  callout_writer_t writer;
  long calls, i;
  double begin = 0;
  if (count != 4) return 2;
  void* plugin = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
  if (plugin == NULL) {
    fprintf(stderr, "%s\n", dlerror());
    return 2;
  }
  const hook_t hook = find(plugin, arguments[2]);
  calls = atol(arguments[3]);
  sem_init(&finished, 0, 0);

  memset(&host, 0, sizeof(host));
  host.struct_size = sizeof(host);
  host.abi_version = CALLOUT_ABI_VERSION;
  host.name = "calls";
  host.respond = respond;
  host.annotate = annotate;
  host.set_error = set_error;
  host.finish = finish;
  host.log_enabled = yes;
  host.log = log_line;
  host.get_extension = no_extension;

  memset(&args, 0, sizeof(args));
  args.struct_size = sizeof(args);
  args.host = &host;
  args.instance = "calls";
  args.phases = UINT64_MAX;
  callout_status_t (*create)(callout_create_args_t*) = NULL;
  void* symbol = dlsym(plugin, "callout_plugin_create");
  memcpy(&create, &symbol, sizeof(create));
  if (hook == NULL || (create != NULL && create(&args) != CALLOUT_OK)) return 2;

  memset(&call, 0, sizeof(call));
  call.struct_size = sizeof(call);
  call.phase =
      strstr(arguments[2], "response") != NULL ? CALLOUT_RESPONSE_HEADERS : CALLOUT_REQUEST_HEADERS;
  call.host = &host;
  call.plugin = args.plugin;
  call.message = make_message(&writer);
  call.flags = CALLOUT_CALL_FIRST | CALLOUT_CALL_LAST;
  call.self = &call;
  const hook_t open = find(plugin, "callout_on_stream_open");
  if (open != NULL && open(&call) != CALLOUT_OK) return 2;

  for (i = -calls / 10; i < calls; ++i) {
    if (i == 0) begin = cpu_ns();
    const callout_status_t status = hook(&call);
    if (status == CALLOUT_DEFERRED) {
      sem_wait(&finished);
    } else if (status != CALLOUT_OK) {
      return 2;
    }
  }
  printf("%.0f\n", (cpu_ns() - begin) / calls);
  return responses > 0 ? 0 : 2;
}
