// SPDX-License-Identifier: Apache-2.0

// The current certificate, key and client CAs, and their reload.
//
//   auto store = CertificateStore::Open({chain_path, key_path, client_ca_path});
//   (*store)->Watch();                  // watches the files from now on
//   (*store)->current()->pair …         // for each handshake
//
// New files are checked before they are used. If they are invalid, the store keeps
// the current ones and logs an error, once for each version of the files.
//
// Handshakes in progress and open connections keep what they started with.
// Any thread, except Open, Watch, StopWatching and the destructor, which belong to one.
#ifndef CALLOUT_HOST_NET_CERTIFICATE_STORE_H_
#define CALLOUT_HOST_NET_CERTIFICATE_STORE_H_

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "host/base/file.h"
#include "host/net/certificate.h"
#include "host/net/tls_context.h"

namespace callout::host {

// The current certificate and key, and the CAs for clients' certificates; "" if no
// client certificates are required.
struct CertificatePem {
  std::string chain, key, client_ca;
};

class CertificateStore {
 public:
  struct Paths {
    std::string cert_chain;  // "": self-signed, never changes
    std::string private_key;
    std::string client_ca;  // "": no client certificates
  };

  struct Material {
    uint64_t version = 0;  // another for each change
    KeyPair pair;
    std::string client_ca_pem;
    TlsContext tls;  // of the pair, without the CAs
    std::vector<std::string> warnings;
  };

  static absl::StatusOr<std::unique_ptr<CertificateStore>> Open(const Paths& paths);
  // A store that gets its content from the supervisor, whose store reads the files.
  static absl::StatusOr<std::unique_ptr<CertificateStore>> Hold(const CertificatePem& pem);
  // Of such a store.
  absl::Status Replace(const CertificatePem& pem);
  // For such stores.
  CertificatePem CurrentPem() const;
  // Called after each change, on the thread that made it. Before Watch.
  void OnChange(std::function<void()> on_change) { on_change_ = std::move(on_change); }

  ~CertificateStore();
  CertificateStore(const CertificateStore&) = delete;
  CertificateStore& operator=(const CertificateStore&) = delete;

  std::shared_ptr<const Material> current() const;
  bool self_signed() const { return paths_.cert_chain.empty(); }
  bool asks_clients() const { return asks_clients_; }

  // Checks for changes several times a second on its own thread. Call it once.
  void Watch();
  // Ends Watch: no change is reported afterwards. Harmless without Watch.
  void StopWatching();
  // Reads the files now, even if they have not changed. Harmless without files.
  void Reload();

 private:
  using Stamps = std::vector<FileStamp>;

  CertificateStore(const Paths& paths, bool asks_clients)
      : paths_(paths), asks_clients_(asks_clients) {}

  absl::StatusOr<std::shared_ptr<Material>> Load() const;
  Stamps ReadStamps() const;
  void Run();

  void Use(std::shared_ptr<Material> material);

  const Paths paths_;
  const bool asks_clients_;
  std::function<void()> on_change_;

  std::mutex reload_mutex_;  // one Reload at a time

  mutable std::mutex mutex_;  // guards the following
  std::shared_ptr<const Material> current_;
  bool stop_ = false;
  std::condition_variable wake_;

  Stamps used_;  // of the files last read; Watch's thread, after Open
  std::thread thread_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_NET_CERTIFICATE_STORE_H_
