// SPDX-License-Identifier: Apache-2.0

// A listening socket, closed by its destructor. A socket that is bound but does not
// listen yet reserves its port and refuses clients.
//
//   absl::StatusOr<Address> address = ParseAddress("0.0.0.0:8443");
//   absl::StatusOr<ListenSocket> socket = ListenSocket::Open(*address);
//   … socket->fd() to an AcceptLoop, socket->bound() to the log …
//
// Addresses mean what host/net/address.h says, unlike in gRPC, where 0.0.0.0 also
// listens on IPv6. SO_REUSEPORT is off, so a second listener on the same port fails
// instead of getting a share of the connections. SO_REUSEADDR is on, so the port of
// a host that has just ended is available at once.
//
// A unix path left behind by a crashed host is reused, unless something accepts
// connections on it. Closing removes the path if it still belongs to this socket. If
// two hosts start on one path at the same moment, both may find it unused; the later
// one gets it.
//
// One thread at a time; any thread may use fd().
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
  // The backlog: connections that the kernel keeps until they are accepted.
  static constexpr int kBacklog = 4096;

  // Non-blocking and close-on-exec. Errors name the address and the reason:
  // ALREADY_EXISTS if it is in use, PERMISSION_DENIED, else UNAVAILABLE.
  // `unix_mode` are the permissions of a unix socket's file, which clients need to write to; unset:
  // by the umask.
  static absl::StatusOr<ListenSocket> Bind(const Address& address,
                                           std::optional<unsigned> unix_mode = std::nullopt);
  // One that was opened elsewhere and listens already; it is closed with this object, and a unix
  // socket's path stays.
  static absl::StatusOr<ListenSocket> Adopt(int fd);
  // Errors as Bind's: if two sockets bound before either listened, the second fails.
  absl::Status Listen();
  // Both.
  static absl::StatusOr<ListenSocket> Open(const Address& address);

  ListenSocket(ListenSocket&& other) noexcept;
  ListenSocket& operator=(ListenSocket&& other) noexcept;
  ~ListenSocket() { Close(); }

  // Resets connections that were not accepted. Can be called twice.
  void Close();

  int fd() const { return fd_; }  // -1 when closed; stays this object's
  // The address, with the chosen port instead of 0.
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
