// SPDX-License-Identifier: Apache-2.0

#include "host/ops/http_server.h"

#include <fmt/format.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl/ssl_stream.hpp>
#include <chrono>
#include <exception>
#include <list>
#include <mutex>
#include <optional>
#include <thread>
#include <type_traits>
#include <utility>

#include "host/base/log.h"
#include "host/base/owned_fd.h"
#include "host/base/thread.h"
#include "host/net/chunk_guard.h"

namespace callout::host {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;

// Any stream socket: TCP and unix alike.
using PlainStream = beast::basic_stream<asio::generic::stream_protocol>;
using TlsStream = beast::ssl_stream<PlainStream>;

// Bytes that a client may still send after an error before the connection is closed.
constexpr size_t kDiscardBytesMax = 1 << 20;
constexpr size_t kReadBytes = 4096;
constexpr std::string_view kHttp2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

struct Listener {
  std::string name;
  HttpHandler handler;
  std::function<TlsContext()> tls;  // null: plaintext
  Http2Taker on_http2;              // null: HTTP/2 is an invalid request
  Metrics::Id requests = 0;
  Metrics::Id over_connections = 0;
  Metrics::Id timeouts = 0;
  Metrics::Id tls_failures = 0;
  Metrics::Id bad_requests = 0;
  Metrics::Id over_pages = 0;
};

// A connection as the others see it.
class Place {
 public:
  virtual ~Place() = default;
  virtual void Close() = 0;
  virtual bool responds() const = 0;  // to a request that it has read
  virtual const Listener& listener() const = 0;
};

// What all connections share; used on the server's thread.
struct Shared {
  Metrics* metrics;
  HttpLimits limits;
  Metrics::Id open_gauge = 0;
  std::list<Place*> open = {};  // the one without a whole request for longest first
  bool stops = false;
  size_t pages = 0;    // slow ones that are made, or wait for it
  size_t actions = 0;  // the same of what is not GET
  // Runs a slow page, unless `gone` says that nobody waits for it any more, and hands on what it
  // returned on the server's thread.
  std::function<void(std::function<HttpResponse()>, std::shared_ptr<const std::atomic<bool>> gone,
                     std::function<void(HttpResponse)>)>
      run_later = nullptr;
};

// The status for an error of the parser; 0 if the client has gone.
unsigned StatusOf(const error_code& error) {
  if (error == http::error::header_limit || error == http::error::buffer_overflow) return 431;
  if (error == http::error::body_limit) return 413;
  const bool is_parse_error =
      error.category() == http::make_error_code(http::error::bad_method).category();
  return is_parse_error ? 400 : 0;
}

// One connection. Each step keeps it alive until its completion has run.
template <class Stream>
class Connection final : public Place, public std::enable_shared_from_this<Connection<Stream>> {
 public:
  template <class... Args>
  Connection(Shared* shared, const Listener* listener, PlainStream socket, Args&&... tls_args)
      : shared_(shared),
        listener_(listener),
        stream_(std::move(socket), std::forward<Args>(tls_args)...),
        buffer_(shared->limits.header_bytes_max + shared->limits.body_bytes_max) {
    shared_->metrics->Add(shared_->open_gauge, 1);
    place_ = shared_->open.insert(shared_->open.end(), this);
  }
  ~Connection() override { Leave(); }

  // Ends whatever it waits for.
  void Close() override {
    Leave();
    beast::get_lowest_layer(stream_).close();
  }
  bool responds() const override { return responds_; }
  const Listener& listener() const override { return *listener_; }

  void Start() {
    if constexpr (std::is_same_v<Stream, TlsStream>) {
      SetTimeout();
      stream_.async_handshake(
          asio::ssl::stream_base::server, [self = this->shared_from_this()](error_code error) {
            if (!error) return self->Read();
            self->Count(error == beast::error::timeout ? self->listener_->timeouts
                                                       : self->listener_->tls_failures);
          });
    } else {
      Read();
    }
  }

 private:
  // Gives its place to another.
  void Leave() {
    if (std::exchange(left_, true)) return;
    if (gone_ != nullptr) gone_->store(true, std::memory_order_relaxed);
    shared_->open.erase(place_);
    shared_->metrics->Add(shared_->open_gauge, -1);
  }

  void Count(Metrics::Id id) { shared_->metrics->Add(id); }

  // For the whole next step, however often bytes arrive in it.
  void SetTimeout() {
    beast::get_lowest_layer(stream_).expires_after(
        std::chrono::milliseconds(shared_->limits.timeout_ms));
  }

  // The next request, of which the buffer may have bytes already.
  void Read() {
    parser_.emplace();
    parser_->header_limit(shared_->limits.header_bytes_max);
    parser_->body_limit(shared_->limits.body_bytes_max);
    header_bytes_ = 0;
    SetTimeout();
    Parse();
  }

  // Not http::async_read: its limit only covers what it has not parsed yet, so a header with any
  // number of short fields would pass.
  void Parse() {
    if (fresh_ && BeginsAsHttp2()) return;
    error_code error;
    while (!error && buffer_.size() > 0 && !parser_->is_done()) {
      const bool in_header = !parser_->is_header_done();
      const size_t size = PutHttp(&*parser_, buffer_.data(), &error);
      buffer_.consume(size);
      if (!in_header) continue;
      header_bytes_ += size;
      const size_t rest = parser_->is_header_done() ? 0 : buffer_.size();
      if (header_bytes_ + rest > shared_->limits.header_bytes_max) {
        error = http::error::header_limit;
      }
    }
    if (error && error != http::error::need_more) return Reject(error);
    if (parser_->is_done()) return Response();
    ReadMore();
  }

  // True if the connection begins with HTTP/2's preface, or still may: the next step is then
  // arranged.
  bool BeginsAsHttp2() {
    const auto data = buffer_.data();
    const std::string_view bytes(static_cast<const char*>(data.data()), data.size());
    const std::string_view begin = bytes.substr(0, kHttp2Preface.size());
    if (listener_->on_http2 == nullptr || !kHttp2Preface.starts_with(begin)) {
      fresh_ = false;
      return false;
    }
    begin.size() < kHttp2Preface.size() ? ReadMore() : HandOver(std::string(bytes));
    return true;
  }

  void HandOver(std::string bytes) {
    if constexpr (!std::is_same_v<Stream, TlsStream>) {
      error_code error;
      OwnedFd fd(stream_.release_socket().release(error));
      if (error) return;
      if (listener_->on_http2(fd.get(), std::move(bytes))) {
        fd.Release();
      } else {
        Count(listener_->over_connections);
      }
    }
  }

  void ReadMore() {
    const size_t room = buffer_.max_size() - buffer_.size();
    if (room == 0) return Reject(http::error::buffer_overflow);
    stream_.async_read_some(buffer_.prepare(std::min(room, kReadBytes)),
                            [self = this->shared_from_this()](error_code error, size_t size) {
                              if (error) return self->Reject(error);
                              self->buffer_.commit(size);
                              self->Parse();
                            });
  }

  void Reject(const error_code& error) {
    if (error == beast::error::timeout) {
      // An idle keep-alive connection is no error of the client.
      if (parser_->got_some()) Count(listener_->timeouts);
      return;
    }
    const unsigned status = StatusOf(error);
    if (status == 0) return;
    Count(listener_->bad_requests);
    const HttpLimits& limits = shared_->limits;
    LogLimited(LogLevel::kWarning, "http/" + listener_->name,
               "{} listener: a request got {}: {}; at most {} bytes of headers and {} of body are "
               "taken",
               listener_->name, status, error.message(), limits.header_bytes_max,
               limits.body_bytes_max);
    Write({.status = status, .content_type = ""}, 11,
          /*keep_alive=*/false, /*is_head=*/false);
  }

  void Response() {
    responds_ = true;
    const auto& request = parser_->get();
    const bool is_head = request.method() == http::verb::head;
    const std::string_view method(request.method_string().data(), request.method_string().size());
    const std::string_view target(request.target().data(), request.target().size());
    Count(listener_->requests);
    if (!left_) shared_->open.splice(shared_->open.end(), shared_->open, place_);
    const auto only = [&request](auto name) -> std::string_view {
      const auto field = request.find(name);
      if (field == request.end()) return {};
      if (request.count(name) > 1) return ",";
      return {field->value().data(), field->value().size()};
    };
    HttpResponse response = listener_->handler({.method = is_head ? "GET" : method,
                                                .target = target,
                                                .host = only(http::field::host),
                                                .accept = only(http::field::accept),
                                                .origin = only(http::field::origin),
                                                .sec_fetch_site = only("Sec-Fetch-Site"),
                                                .content_type = only(http::field::content_type),
                                                .body = request.body()});
    const auto write = [self = this->shared_from_this(), version = request.version(),
                        keep_alive = request.keep_alive(), is_head](HttpResponse from) {
      self->Write(std::move(from), version, keep_alive, is_head);
    };
    if (response.later == nullptr) return write(std::move(response));
    const bool is_page = is_head || request.method() == http::verb::get;
    size_t* const under_way = is_page ? &shared_->pages : &shared_->actions;
    if (*under_way >= shared_->limits.pages_max) {
      Count(listener_->over_pages);
      LogLimited(LogLevel::kWarning, "http_pages/" + listener_->name,
                 "{} listener: refused {} {} with 503: {} such requests are under way; "
                 "--max_admin_pages={} limits them",
                 listener_->name, is_page ? "the page" : "the action",
                 target.substr(0, target.find('?')), *under_way, shared_->limits.pages_max);
      return write({.status = 503, .body = "Too many such requests are under way. Ask again.\n"});
    }
    ++*under_way;
    auto gone = std::make_shared<std::atomic<bool>>(is_page && left_);
    if (is_page) gone_ = gone;  // what was asked for is done, whoever waits for the response
    shared_->run_later(std::move(response.later), std::move(gone),
                       [under_way, write](HttpResponse from) {
                         --*under_way;
                         write(std::move(from));
                       });
  }

  void Write(HttpResponse from, unsigned version, bool keep_alive, bool is_head) {
    response_.emplace();
    response_->result(from.status);
    response_->version(version);
    if (!from.body.empty()) response_->set(http::field::content_type, from.content_type);
    if (!from.allow.empty()) response_->set(http::field::allow, from.allow);
    for (const auto& [name, value] : from.headers) response_->set(name, value);
    response_->keep_alive(keep_alive);
    response_->body() = std::move(from.body);
    response_->prepare_payload();
    if (is_head) response_->body().clear();  // content-length stays
    SetTimeout();
    http::async_write(stream_, *response_,
                      [self = this->shared_from_this(), keep_alive](error_code error, size_t) {
                        if (error == beast::error::timeout) {
                          self->Count(self->listener_->timeouts);
                        }
                        if (error) return;
                        self->responds_ = false;
                        if (!keep_alive) return self->Finish();
                        self->shared_->stops ? self->Close() : self->Read();
                      });
  }

  // Closing with unread bytes resets the connection, and the response may be lost. So it shuts down
  // its sending side and reads on until the client closes.
  void Finish() {
    SetTimeout();
    if constexpr (std::is_same_v<Stream, TlsStream>) {
      stream_.async_shutdown([self = this->shared_from_this()](error_code) {});
    } else {
      error_code ignored;
      stream_.socket().shutdown(asio::socket_base::shutdown_send, ignored);
      Discard(0);
    }
  }

  void Discard(size_t discarded) {
    stream_.async_read_some(
        asio::buffer(discard_buffer_),
        [self = this->shared_from_this(), discarded](error_code error, size_t size) {
          if (!error && discarded + size < kDiscardBytesMax) self->Discard(discarded + size);
        });
  }

  Shared* const shared_;
  const Listener* const listener_;
  std::list<Place*>::iterator place_;
  bool left_ = false;
  std::shared_ptr<std::atomic<bool>> gone_;  // of the last slow page: left_, for its thread
  bool responds_ = false;
  Stream stream_;
  beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::string_body>> parser_;
  std::optional<http::response<http::string_body>> response_;
  size_t header_bytes_ = 0;  // of this request, parsed so far
  bool fresh_ = true;        // it may still begin with HTTP/2's preface
  std::array<char, kReadBytes> discard_buffer_;
};

}  // namespace

class HttpServer::Core {
 public:
  Core(Metrics* metrics, const HttpLimits& limits) : shared_{metrics, limits} {}
  ~Core() { Stop(); }

  absl::Status Start() {
    auto open = shared_.metrics->Define(Metrics::Kind::kGauge, "callout_http_connections",
                                        "Open connections to the health and admin listeners.");
    if (!open.ok()) return open.status();
    shared_.open_gauge = *open;
    try {
      io_ = std::make_unique<asio::io_context>();
      pages_io_ = std::make_unique<asio::io_context>();
    } catch (const std::exception& error) {
      return absl::UnavailableError(
          fmt::format("cannot start the server for health and admin: {}", error.what()));
    }
    shared_.run_later = [io = io_.get(), pages_io = pages_io_.get()](auto page, auto gone,
                                                                     auto then) {
      asio::post(*pages_io, [io, page = std::move(page), gone = std::move(gone),
                             then = std::move(then)]() mutable {
        HttpResponse response;
        if (!gone->load(std::memory_order_relaxed)) response = page();
        asio::post(*io, [then = std::move(then), response = std::move(response)]() mutable {
          then(std::move(response));
        });
      });
    };
    absl::Status status = Run(
        io_.get(), [this] { Farewell(); }, &thread_);
    return status.ok() ? Run(
                             pages_io_.get(), [] {}, &pages_thread_)
                       : status;
  }

  absl::StatusOr<const Listener*> AddListener(const std::string& name, HttpHandler handler,
                                              std::function<TlsContext()> tls,
                                              Http2Taker on_http2) {
    Listener listener;
    listener.name = name;
    listener.handler = std::move(handler);
    listener.tls = std::move(tls);
    listener.on_http2 = std::move(on_http2);
    auto requests =
        shared_.metrics->Define(Metrics::Kind::kCounter, "callout_http_requests_total",
                                "Requests answered by a handler.", {{"listener", name}});
    if (!requests.ok()) return requests.status();
    listener.requests = *requests;
    const std::pair<const char*, Metrics::Id*> reasons[] = {
        {"connections", &listener.over_connections},
        {"timeout", &listener.timeouts},
        {"tls", &listener.tls_failures},
        {"request", &listener.bad_requests},
        {"pages", &listener.over_pages}};
    for (const auto& [reason, id] : reasons) {
      auto rejected =
          shared_.metrics->Define(Metrics::Kind::kCounter, "callout_http_rejected_total",
                                  "Connections and requests not served, by reason.",
                                  {{"listener", name}, {"reason", reason}});
      if (!rejected.ok()) return rejected.status();
      *id = *rejected;
    }
    std::lock_guard lock(mutex_);
    return &listeners_.emplace_back(std::move(listener));
  }

  void Take(const Listener* listener, int fd) {
    OwnedFd owned(fd);
    std::lock_guard lock(mutex_);
    if (io_ == nullptr) return;
    asio::post(*io_, [this, listener, owned = std::move(owned)]() mutable {
      Serve(listener, std::move(owned));
    });
  }

  // The slow page first: its response is written, too.
  void Stop() {
    for (const auto& [io, thread] :
         {std::pair(&pages_io_, &pages_thread_), std::pair(&io_, &thread_)}) {
      if (!thread->joinable()) continue;
      (*io)->stop();
      thread->join();
    }
    std::lock_guard lock(mutex_);
    pages_io_.reset();
    io_.reset();  // with it the connections, which wait in it for their next step
  }

 private:
  // `at_end` is called on the thread once `io` is stopped.
  static absl::Status Run(asio::io_context* io, std::function<void()> at_end, std::thread* thread) {
    absl::StatusOr<std::thread> started =
        StartThread("health and admin pages", [io, at_end = std::move(at_end)] {
          {
            const auto work = asio::make_work_guard(*io);
            io->run();
          }
          at_end();
        });
    if (!started.ok()) return started.status();
    *thread = *std::move(started);
    return absl::OkStatus();
  }

  void Serve(const Listener* listener, OwnedFd fd);

  // Whoever asked the host to drain, for example, gets the response.
  void Farewell() {
    shared_.stops = true;
    for (auto next = shared_.open.begin(); next != shared_.open.end();) {
      Place* const place = *next++;
      if (!place->responds()) place->Close();
    }
    io_->restart();
    io_->run_for(std::chrono::milliseconds(shared_.limits.farewell_ms));
  }

  Shared shared_;
  std::mutex mutex_;
  std::list<Listener> listeners_;  // stay where they are
  // Null before Start and after Stop. The second is for slow pages.
  std::unique_ptr<asio::io_context> io_, pages_io_;
  std::thread thread_, pages_thread_;
};

void HttpServer::Core::Serve(const Listener* listener, OwnedFd fd) {
  if (shared_.stops) return;
  if (shared_.open.size() >= shared_.limits.connections_max) {
    Place* const oldest = shared_.open.front();
    shared_.metrics->Add(oldest->listener().over_connections);
    oldest->Close();
  }
  PlainStream socket(*io_);
  error_code error;
  socket.socket().assign(asio::generic::stream_protocol(AF_UNSPEC, 0), fd.get(), error);
  if (error) return;
  fd.Release();
  if (listener->tls == nullptr) {
    std::make_shared<Connection<PlainStream>>(&shared_, listener, std::move(socket))->Start();
    return;
  }
  const TlsContext tls = listener->tls();
  std::make_shared<Connection<TlsStream>>(&shared_, listener, std::move(socket), *tls)->Start();
}

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Create(Metrics* metrics,
                                                               const HttpLimits& limits) {
  auto core = std::make_unique<Core>(metrics, limits);
  if (absl::Status status = core->Start(); !status.ok()) return status;
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(core)));
}

HttpServer::HttpServer(std::unique_ptr<Core> core) : core_(std::move(core)) {}

HttpServer::~HttpServer() = default;

absl::StatusOr<std::function<void(int fd)>> HttpServer::AddListener(const std::string& name,
                                                                    HttpHandler handler,
                                                                    std::function<TlsContext()> tls,
                                                                    Http2Taker on_http2) {
  absl::StatusOr<const Listener*> listener =
      core_->AddListener(name, std::move(handler), std::move(tls), std::move(on_http2));
  if (!listener.ok()) return listener.status();
  return [core = core_.get(), listener = *listener](int fd) { core->Take(listener, fd); };
}

void HttpServer::Stop() { core_->Stop(); }

}  // namespace callout::host
