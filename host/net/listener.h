// A listening socket: bound, listening, and closed when it goes.
// What is bound and does not listen yet keeps its port from others and refuses
// clients.
//
//   absl::StatusOr<Address> address = ParseAddress("0.0.0.0:8443");
//   absl::StatusOr<ListenSocket> socket = ListenSocket::Open(*address);
//   … socket->fd() to an AcceptLoop, socket->bound() to the log …
//
// The addresses mean what host/net/address.h says, unlike in gRPC, where 0.0.0.0
// also listens on IPv6. A second listener on the same port is refused, not given
// a share of the connections: SO_REUSEPORT is off. The port of a host that just
// ended can be taken at once: SO_REUSEADDR is on.
//
// A unix path left behind by a host that died is taken over; one that something
// answers on is not. The path is removed on closing, if it is still this
// socket's. Two hosts started on one path at the very same moment may both find
// it dead; the later one then has it.
//
// Not for use by two threads at once; fd() may be given to any.
#ifndef CALLOUT_HOST_NET_LISTENER_H_
#define CALLOUT_HOST_NET_LISTENER_H_

#include <sys/types.h>

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "host/net/address.h"

namespace callout::host {

class ListenSocket {
 public:
  // Connections that the kernel completes and keeps until they are accepted.
  static constexpr int kBacklog = 4096;

  // Non-blocking and close-on-exec. Errors name the address and the reason:
  // ALREADY_EXISTS if it is in use, PERMISSION_DENIED, else UNAVAILABLE.
  // `unix_mode` are the permissions of a unix socket's file, which clients need to write to; unset:
  // by the umask.
  static absl::StatusOr<ListenSocket> Bind(const Address& address,
                                           std::optional<unsigned> unix_mode = std::nullopt);
  // Errors as Bind's: of two that bound before either listened, the second fails.
  absl::Status Listen();
  // Both.
  static absl::StatusOr<ListenSocket> Open(const Address& address);

  ListenSocket(ListenSocket&& other) noexcept;
  ListenSocket& operator=(ListenSocket&& other) noexcept;
  ~ListenSocket() { Close(); }

  // Connections nobody has accepted are reset. Harmless when closed already.
  void Close();

  int fd() const { return fd_; }  // -1 when closed; stays this object's
  // The address, with the port the system chose in place of 0.
  const Address& bound() const { return bound_; }

 private:
  ListenSocket(int fd, const Address& address) : fd_(fd), bound_(address) {}
  absl::Status BindDescriptor();

  int fd_ = -1;
  Address bound_;
  dev_t unix_device_ = 0;  // of the path bound, to remove no other
  ino_t unix_inode_ = 0;   // 0: no path to remove
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_NET_LISTENER_H_
