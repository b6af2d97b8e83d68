// SPDX-License-Identifier: Apache-2.0

#include "script.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "interpreter.h"
#include "native_types.h"

namespace callout::plugins::python {
namespace {

using std::chrono::milliseconds;

constexpr int kInterface = 2;  // INTERFACE of callout_python/__init__.py
constexpr milliseconds kWatchPause(200);
constexpr size_t kPhases = CALLOUT_RESPONSE_TRAILERS + 1;

constexpr const char* kHookNames[kPhases] = {
    "process",
    nullptr,
    "on_request_headers",
    "on_response_headers",
    "on_request_body",
    "on_response_body",
    "on_request_trailers",
    "on_response_trailers",
};

// What a hook may return; in the order of loading.messages().
enum ResponseKind : uint8_t { kHeaders, kBody, kTrailers, kImmediate, kProcessing, kResponseKinds };
constexpr const char* kResponseNames[kResponseKinds] = {
    "HeadersResponse",   "BodyResponse",       "TrailersResponse",
    "ImmediateResponse", "ProcessingResponse",
};

ResponseKind KindOf(callout_phase_t phase) {
  if (callout_is_headers_phase(phase)) return kHeaders;
  return callout_is_body_phase(phase) ? kBody : kTrailers;
}

uint64_t NowNs() {
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                   std::chrono::steady_clock::now().time_since_epoch())
                                   .count());
}

// The exception that is set, which is taken away.
Ref TakeException() {
#if PY_VERSION_HEX >= 0x030c0000
  return Ref(PyErr_GetRaisedException());
#else
  PyObject* type = nullptr;
  PyObject* value = nullptr;
  PyObject* traceback = nullptr;
  PyErr_Fetch(&type, &value, &traceback);
  PyErr_NormalizeException(&type, &value, &traceback);
  if (traceback != nullptr) PyException_SetTraceback(value, traceback);
  Py_XDECREF(type);
  Py_XDECREF(traceback);
  return Ref(value);
#endif
}

std::string_view ViewOf(PyObject* bytes) {
  return {PyBytes_AS_STRING(bytes), static_cast<size_t>(PyBytes_GET_SIZE(bytes))};
}

// What `describe`, one of callout_python.faults, says of the exception that is set.
std::string DescribeException(const Ref& describe) {
  const Ref exception = TakeException();
  if (!exception || !describe) return "an exception that cannot be described";
  const Ref text(PyObject_CallOneArg(describe.get(), exception.get()));
  if (text && PyBytes_Check(text.get())) return std::string(ViewOf(text.get()));
  PyErr_Clear();
  return std::string("an exception of type ") + Py_TYPE(exception.get())->tp_name;
}

// For what works unless the package beside the plugin is another one than it was built with.
template <class Owned>
Owned Need(Owned object) {
  if (object) return object;
  const Ref exception = TakeException();
  const Ref text(exception ? PyObject_Str(exception.get()) : nullptr);
  const char* utf8 = text ? PyUnicode_AsUTF8(text.get()) : nullptr;
  const std::string reason = utf8 == nullptr ? "no reason given" : utf8;
  PyErr_Clear();
  throw std::runtime_error("Python's part of the plugin does not work: " + reason);
}

Ref Attribute(const Ref& object, const char* name) {
  return Need(Ref(PyObject_GetAttrString(object.get(), name)));
}

Ref PathText(const std::string& path) {
  return Need(
      Ref(PyUnicode_DecodeFSDefaultAndSize(path.data(), static_cast<Py_ssize_t>(path.size()))));
}

Ref PathList(const std::vector<std::string>& paths) {
  Ref list = Need(Ref(PyList_New(0)));
  for (const std::string& path : paths) {
    if (PyList_Append(list.get(), PathText(path).get()) != 0) return Need(Ref());
  }
  return list;
}

// Whether a header of the response may have an append action that Envoy does not read: field 3 of a
// HeaderValueOption is 1 or 3. Text may look like it, too.
bool MayNeedSettling(std::string_view response) {
  return response.find("\x18\x01") != std::string_view::npos ||
         response.find("\x18\x03") != std::string_view::npos;
}

// The module callout_python.loading, of the process's first version of this plugin.
Ref ImportLoading() {
  const std::string packages = FindPackages();
  const Ref folder = PathText(packages);
  PyObject* path = PySys_GetObject("path");  // borrowed
  if (path == nullptr || !PyList_Check(path)) throw std::runtime_error("Python has no sys.path");
  const Ref loaded(PyImport_ImportModule("callout_python"));
  if (!loaded) {
    PyErr_Clear();
    if (PyList_Insert(path, 0, folder.get()) != 0) return Need(Ref());
  }
  const Ref package = Need(Ref(PyImport_ImportModule("callout_python")));
  const long interface = PyLong_AsLong(Attribute(package, "INTERFACE").get());
  if (interface != kInterface) {
    throw std::runtime_error(
        "this process has loaded Python's part of another version of the "
        "plugin; restart the host by draining it");
  }
  Ref loading = Need(Ref(PyImport_ImportModule("callout_python.loading")));
  Need(Ref(PyObject_CallMethod(loading.get(), "start", "O", folder.get())));
  return loading;
}

}  // namespace

struct Script::Parts {
  struct Response {
    Ref type;
    Ref serialize;  // its SerializeToString, unbound
  };

  void Load(callout::Setup& setup, const ScriptConfig& config);
  void MakeHost(const callout_host_t* host);
  void TakeHooks();
  void TakeMessages();
  void Unload(const callout_host_t* host);

  Ref loading;        // the module callout_python.loading
  Ref describe;       // of it
  Ref run_callbacks;  // of it
  Ref settle;         // of it: append actions, by the hook's message
  Ref hook_deadline;  // of it: the exception that interrupts a hook
  Ref host;           // a HostObject
  Ref loaded;         // callout_python.loading.Loaded
  Ref context_class;
  std::array<Ref, kPhases> hooks;  // by phase; kProcess: process()
  std::array<Ref, kPhases> parse;  // the same: FromString of what the hook is given
  std::array<Response, kResponseKinds> responses;
};

struct Script::Running {
  unsigned long thread;
  uint64_t deadline_ns;
  callout_phase_t phase;
  bool interrupted;
};

class Script::Interruptible {
 public:
  Interruptible(Script* script, const callout_call_t* call, callout_phase_t phase)
      : script_(script), running_{PyThread_get_thread_ident(), call->deadline_ns, phase, false} {
    script_->running_.push_back(&running_);
    script_->running_count_.fetch_add(1, std::memory_order_relaxed);
  }
  ~Interruptible() {
    // One that has not been raised yet would hit the next hook of this thread.
    if (running_.interrupted) PyThreadState_SetAsyncExc(running_.thread, nullptr);
    auto& all = script_->running_;
    *std::find(all.begin(), all.end(), &running_) = all.back();
    all.pop_back();
    script_->running_count_.fetch_sub(1, std::memory_order_relaxed);
  }
  Interruptible(const Interruptible&) = delete;
  Interruptible& operator=(const Interruptible&) = delete;

 private:
  Script* const script_;
  Running running_;
};

// --- Loading ---

void Script::Parts::MakeHost(const callout_host_t* table) {
  const Ref type = Need(MakeHostType());
  host = Need(Ref(PyObject_CallNoArgs(type.get())));
  AsHost(host)->host = table;
  AsHost(host)->creating = true;
}

void Script::Parts::TakeHooks() {
  const Ref process = Attribute(loaded, "process");
  if (!process.IsNone()) hooks[kProcess] = Ref::Share(process.get());
  const Ref by_phase = Attribute(loaded, "hooks");
  for (callout_phase_t phase = CALLOUT_REQUEST_HEADERS; phase < kPhases; ++phase) {
    PyObject* hook = PyTuple_GetItem(by_phase.get(), phase - CALLOUT_REQUEST_HEADERS);
    if (hook == nullptr) Need(Ref());
    if (hook != Py_None) hooks[phase] = Ref::Share(hook);
  }
}

void Script::Parts::TakeMessages() {
  const Ref messages = Need(Ref(PyObject_CallMethod(loading.get(), "messages", nullptr)));
  PyObject* parsers = nullptr;
  PyObject* types = nullptr;
  if (PyArg_ParseTuple(messages.get(), "OO", &parsers, &types) == 0) Need(Ref());
  for (callout_phase_t phase = kProcess; phase < kPhases; ++phase) {
    if (phase == 1) continue;  // no phase
    PyObject* parser = PyTuple_GetItem(parsers, phase == kProcess ? 0 : phase - 1);
    if (parser == nullptr) Need(Ref());
    parse[phase] = Ref::Share(parser);
  }
  for (size_t kind = 0; kind < kResponseKinds; ++kind) {
    PyObject* type = PyTuple_GetItem(types, static_cast<Py_ssize_t>(kind));
    if (type == nullptr) Need(Ref());
    responses[kind].type = Ref::Share(type);
    responses[kind].serialize = Attribute(responses[kind].type, "SerializeToString");
  }
}

void Script::Parts::Load(callout::Setup& setup, const ScriptConfig& config) {
  loading = ImportLoading();
  describe = Attribute(loading, "describe");
  run_callbacks = Attribute(loading, "run_callbacks");
  settle = Attribute(loading, "settle_append_actions");
  hook_deadline = Attribute(loading, "HookDeadline");
  MakeHost(setup.raw()->host);
  const Ref script = PathText(config.script);
  const Ref venv = PathText(config.venv);
  const Ref path = PathList(config.path);
  const Ref describe_load = Attribute(loading, "describe_load");
  loaded = Ref(PyObject_CallMethod(loading.get(), "load", "OOsOO", host.get(), script.get(),
                                   config.class_name.c_str(), venv.get(), path.get()));
  if (!loaded) throw std::runtime_error(DescribeException(describe_load));
  TakeHooks();
  TakeMessages();
  const Ref native = Need(MakeContextType());
  context_class =
      Need(Ref(PyObject_CallMethod(loading.get(), "make_context_class", "O", native.get())));
  Need(Ref(PyObject_CallMethod(loading.get(), "register_context", "O", context_class.get())));
  AsHost(host)->creating = false;
}

// What the script does wrong here changes nothing any more.
void Script::Parts::Unload(const callout_host_t* table) {
  const Ref done(PyObject_CallMethod(loading.get(), "unload", "OO", host.get(), loaded.get()));
  if (!done) {
    const std::string text = "shutdown() of the script failed: " + DescribeException(describe);
    table->log(table, CALLOUT_LOG_ERROR, callout::to_bytes(text));
  }
  AsHost(host)->host = nullptr;
}

Script::Script(callout::Setup& setup, const ScriptConfig& config) : host_(setup.raw()->host) {
  StartInterpreter();
  const VisitorGil gil;
  auto parts = std::make_unique<Parts>();
  try {
    parts->Load(setup, config);
    for (callout_phase_t phase = kProcess; phase < kPhases; ++phase) {
      if (parts->hooks[phase]) overridden_ |= CALLOUT_PHASE_BIT(phase);
    }
    parts_ = std::move(parts);  // which Watch needs
    watch_ = std::thread([this] { Watch(); });
  } catch (...) {
    if (parts == nullptr) parts = std::move(parts_);
    if (parts->loaded) parts->Unload(host_);
    if (parts->host) AsHost(parts->host)->host = nullptr;
    throw;
  }
}

Script::~Script() {
  {
    const std::lock_guard lock(watch_mutex_);
    stopping_ = true;
  }
  watch_changed_.notify_all();
  watch_.join();
  const VisitorGil gil;
  DropEndedContexts();
  parts_->Unload(host_);
  parts_.reset();
}

// --- A call ---

void Script::Run(const callout::Call& call, callout_phase_t phase, Stream* stream) {
  const Gil gil;
  if (has_ended_.load(std::memory_order_relaxed)) DropEndedContexts();
  const Interruptible running(this, call.raw(), phase);
  PyObject* context = ContextOf(stream);
  if (context == nullptr) return call.fail(DescribeException(parts_->describe));
  AsContext(context)->call = call.raw();
  AsContext(context)->aborted = false;
  CallHook(call, phase, context);
  AsContext(context)->call = nullptr;
}

PyObject* Script::ContextOf(Stream* stream) {
  if (stream->context_ == nullptr) {
    stream->context_ = PyObject_CallNoArgs(parts_->context_class.get());
  }
  return stream->context_;
}

void Script::CallHook(const callout::Call& call, callout_phase_t phase, PyObject* context) const {
  const callout_bytes_t bytes = phase == kProcess ? call.raw()->request : call.raw()->message;
  const Ref text(PyBytes_FromStringAndSize(bytes.data, static_cast<Py_ssize_t>(bytes.size)));
  const Ref message(text ? PyObject_CallOneArg(parts_->parse[phase].get(), text.get()) : nullptr);
  Ref result;
  if (message) {
    PyObject* arguments[] = {nullptr, message.get(), context};
    result = Ref(PyObject_Vectorcall(parts_->hooks[phase].get(), arguments + 1,
                                     2 | PY_VECTORCALL_ARGUMENTS_OFFSET, nullptr));
  }
  const ContextObject* state = AsContext(context);
  const callout_status_t status = state->code > 0 ? -state->code : CALLOUT_INTERNAL;
  if (state->aborted) {  // the script may have caught what abort() raises
    PyErr_Clear();
    const auto details = state->details == nullptr ? std::string_view() : ViewOf(state->details);
    return call.fail(details.empty() ? "the script has called context.abort()" : details, status);
  }
  if (!result) return call.fail(DescribeException(parts_->describe), status);
  if (!result.IsNone()) Respond(call, phase, message.get(), result.get());
}

// A hook of a phase may return the phase's response, and every hook an ImmediateResponse or a whole
// ProcessingResponse.
void Script::Respond(const callout::Call& call, callout_phase_t phase, PyObject* message,
                     PyObject* result) const {
  const callout_phase_t at = call.phase();
  const auto found =
      std::find_if(parts_->responses.begin(), parts_->responses.end(), [&](const auto& response) {
        return reinterpret_cast<PyObject*>(Py_TYPE(result)) == response.type.get();
      });
  const auto kind = static_cast<ResponseKind>(found - parts_->responses.begin());
  const bool fits = kind == kProcessing || (phase != kProcess && kind == kImmediate) ||
                    (phase != kProcess && kind == KindOf(at));
  if (!fits) {
    return call.fail(
        std::string(kHookNames[phase]) + " returned " + Py_TYPE(result)->tp_name + "; return " +
        (phase == kProcess ? ""
                           : kResponseNames[KindOf(at)] + std::string(", ImmediateResponse, ")) +
        "ProcessingResponse or None");
  }
  Ref bytes(PyObject_CallOneArg(found->serialize.get(), result));
  if (bytes && PyBytes_Check(bytes.get()) && MayNeedSettling(ViewOf(bytes.get()))) {
    const Ref settled(PyObject_CallFunctionObjArgs(parts_->settle.get(), result, message, nullptr));
    bytes = Ref(settled ? PyObject_CallOneArg(found->serialize.get(), settled.get()) : nullptr);
  }
  if (!bytes || !PyBytes_Check(bytes.get())) {
    return call.fail(DescribeException(parts_->describe));
  }
  const callout_bytes_t part = callout::to_bytes(ViewOf(bytes.get()));
  callout_field_t field = at - 1;
  if (kind == kImmediate) field = CALLOUT_IMMEDIATE_RESPONSE;
  if (kind == kProcessing) field = CALLOUT_WHOLE_RESPONSE;
  callout_status_t status = CALLOUT_OK;
  if (kind == kProcessing) {
    const Ref which(PyObject_CallMethod(result, "WhichOneof", "s", "response"));
    if (!which) return call.fail(DescribeException(parts_->describe));
    // Only what stands beside a response, such as dynamic_metadata.
    if (which.IsNone()) {
      status = call.raw()->host->annotate(call.raw(), CALLOUT_WHOLE_RESPONSE, part);
      if (status < 0) call.fail("the host refused what the ProcessingResponse holds", status);
      return;
    }
  }
  status = call.raw()->host->respond(call.raw(), field, &part, 1);
  if (status < 0) call.fail("the host refused the response: it is too large or malformed", status);
}

// --- Streams that have ended ---

Script::Stream::~Stream() {
  if (context_ != nullptr) script_->EndContext(context_);
}

void Script::EndContext(PyObject* context) {
  const std::lock_guard lock(ended_mutex_);
  ended_.push_back(context);
  has_ended_.store(true, std::memory_order_relaxed);
}

void Script::DropEndedContexts() {
  std::vector<PyObject*> ended;
  {
    const std::lock_guard lock(ended_mutex_);
    ended.swap(ended_);
    has_ended_.store(false, std::memory_order_relaxed);
  }
  for (PyObject* object : ended) {
    const Ref context(object);
    if (!AsContext(object)->has_callbacks) continue;
    const Ref done(PyObject_CallOneArg(parts_->run_callbacks.get(), object));
    if (done) continue;
    const std::string text =
        "a callback of a context failed: " + DescribeException(parts_->describe);
    host_->log(host_, CALLOUT_LOG_ERROR, callout::to_bytes(text));
  }
}

// --- Hooks that do not end ---

void Script::Watch() {
  std::unique_lock lock(watch_mutex_);
  while (!watch_changed_.wait_for(lock, kWatchPause, [this] { return stopping_; })) {
    if (running_count_.load(std::memory_order_relaxed) == 0 &&
        !has_ended_.load(std::memory_order_relaxed)) {
      continue;
    }
    lock.unlock();
    {
      const VisitorGil gil;
      DropEndedContexts();
      InterruptOverdue();
    }
    lock.lock();
  }
}

// Again and again: the script may catch what is raised.
void Script::InterruptOverdue() {
  const uint64_t now_ns = NowNs();
  for (Running* running : running_) {
    if (running->deadline_ns == 0 || now_ns < running->deadline_ns) continue;
    if (!running->interrupted) {
      callout::Host(host_).warning(kHookNames[running->phase],
                                   " runs on after its deadline: HookDeadline is raised in it");
    }
    running->interrupted = true;
    PyThreadState_SetAsyncExc(running->thread, parts_->hook_deadline.get());
  }
}

}  // namespace callout::plugins::python
