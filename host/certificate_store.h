// The certificate, key and client CAs in use, and their renewal.
//
//   auto store = CertificateStore::Open({chain_path, key_path, client_ca_path});
//   (*store)->Watch();                  // follows the files from here on
//   (*store)->current()->pair …         // for each handshake
//
// New files are checked before they are used. Ones that do not do leave the old
// in use and an error in the log, once for each version of the files.
//
// Handshakes under way and open connections keep what they began with.
// Any thread, but for Open, Watch and the destructor, which belong to one.
#ifndef CALLOUT_HOST_CERTIFICATE_STORE_H_
#define CALLOUT_HOST_CERTIFICATE_STORE_H_

#include <sys/types.h>

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "host/certificate.h"
#include "host/http_server.h"

namespace callout::host {

class CertificateStore {
 public:
  struct Paths {
    std::string cert_chain;  // "": made at start, and never changed
    std::string private_key;
    std::string client_ca;  // "": no client certificates
  };

  struct Material {
    uint64_t version = 0;  // another for each change
    KeyPair pair;
    std::string client_ca_pem;
    TlsContext http;  // of the pair, without the CAs
    std::vector<std::string> warnings;
  };

  static absl::StatusOr<std::unique_ptr<CertificateStore>> Open(const Paths& paths);
  ~CertificateStore();
  CertificateStore(const CertificateStore&) = delete;
  CertificateStore& operator=(const CertificateStore&) = delete;

  std::shared_ptr<const Material> current() const;
  bool self_signed() const { return paths_.cert_chain.empty(); }
  bool asks_clients() const { return !paths_.client_ca.empty(); }

  // Looks for changes several times a second on a thread of its own. Once.
  void Watch();
  // Reads the files now, changed or not. Harmless without files.
  void Reload();

 private:
  // What tells a version of a file from another.
  struct FileStamp {
    dev_t device = 0;
    ino_t inode = 0;
    off_t size = 0;
    int64_t changed_ns = 0;
    bool operator==(const FileStamp&) const = default;
  };
  using Stamps = std::vector<FileStamp>;

  explicit CertificateStore(const Paths& paths) : paths_(paths) {}

  absl::StatusOr<std::shared_ptr<Material>> Load() const;
  Stamps ReadStamps() const;
  void Run();

  const Paths paths_;

  std::mutex reload_mutex_;  // one Reload at a time

  mutable std::mutex mutex_;  // guards the following
  std::shared_ptr<const Material> current_;
  bool stop_ = false;
  std::condition_variable wake_;

  Stamps used_;  // of the files last read; Watch's thread, after Open
  std::thread thread_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_CERTIFICATE_STORE_H_
