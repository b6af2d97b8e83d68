// SPDX-License-Identifier: Apache-2.0

#include "host/net/certificate_store.h"

#include <chrono>
#include <utility>

#include "host/base/log.h"
#include "host/base/status_text.h"
#include "host/base/thread.h"

namespace callout::host {
namespace {

// How often the files are checked. A change counts once it is one interval old, so
// that a pair that is written one file after the other is read as a pair.
constexpr std::chrono::milliseconds kPoll(250);

}  // namespace

absl::StatusOr<std::unique_ptr<CertificateStore>> CertificateStore::Open(const Paths& paths) {
  std::unique_ptr<CertificateStore> store(new CertificateStore(paths, !paths.client_ca.empty()));
  store->used_ = store->ReadStamps();
  absl::StatusOr<std::shared_ptr<Material>> material = store->Load();
  if (!material.ok()) return material.status();
  store->Use(*std::move(material));
  return store;
}

absl::StatusOr<std::unique_ptr<CertificateStore>> CertificateStore::Hold(
    const CertificatePem& pem) {
  std::unique_ptr<CertificateStore> store(new CertificateStore({}, !pem.client_ca.empty()));
  if (absl::Status status = store->Replace(pem); !status.ok()) return status;
  return store;
}

absl::Status CertificateStore::Replace(const CertificatePem& pem) {
  auto material = std::make_shared<Material>();
  material->pair.chain_pem = pem.chain;
  material->pair.key_pem = pem.key;
  material->client_ca_pem = pem.client_ca;
  absl::StatusOr<TlsContext> http = MakeTlsContext(pem.chain, pem.key);
  if (!http.ok()) return http.status();
  material->tls = *std::move(http);
  Use(std::move(material));
  return absl::OkStatus();
}

CertificatePem CertificateStore::CurrentPem() const {
  const std::shared_ptr<const Material> material = current();
  return {material->pair.chain_pem, material->pair.key_pem, material->client_ca_pem};
}

void CertificateStore::Use(std::shared_ptr<Material> material) {
  std::lock_guard<std::mutex> lock(mutex_);
  material->version = current_ == nullptr ? 1 : current_->version + 1;
  current_ = std::move(material);
}

CertificateStore::~CertificateStore() { StopWatching(); }

void CertificateStore::StopWatching() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

std::shared_ptr<const CertificateStore::Material> CertificateStore::current() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return current_;
}

absl::StatusOr<std::shared_ptr<CertificateStore::Material>> CertificateStore::Load() const {
  auto material = std::make_shared<Material>();
  // A generated pair stays the same for the life of the process, since clients may
  // have been configured to trust it.
  const std::shared_ptr<const Material> old = current();
  absl::StatusOr<KeyPair> pair = !self_signed() ? LoadKeyPair(paths_.cert_chain, paths_.private_key)
                                 : old != nullptr ? absl::StatusOr<KeyPair>(old->pair)
                                                  : MakeSelfSignedKeyPair();
  if (!pair.ok()) return pair.status();
  material->pair = *std::move(pair);
  material->warnings = material->pair.warnings;
  if (asks_clients()) {
    absl::StatusOr<CaBundle> bundle = LoadCaBundle(paths_.client_ca);
    if (!bundle.ok()) return bundle.status();
    material->client_ca_pem = std::move(bundle->pem);
    material->warnings.insert(material->warnings.end(), bundle->warnings.begin(),
                              bundle->warnings.end());
  }
  absl::StatusOr<TlsContext> http =
      MakeTlsContext(material->pair.chain_pem, material->pair.key_pem);
  if (!http.ok()) return http.status();
  material->tls = *std::move(http);
  return material;
}

void CertificateStore::Reload() {
  if (self_signed() && !asks_clients()) return;
  std::lock_guard<std::mutex> reload_lock(reload_mutex_);
  absl::StatusOr<std::shared_ptr<Material>> material = Load();
  if (!material.ok()) {
    Log(LogLevel::kError, "keeping the current certificate; the new one is invalid: {}",
        MessageOf(material.status()));
    return;
  }
  for (const std::string& warning : (*material)->warnings) Log(LogLevel::kWarning, "{}", warning);
  Use(*std::move(material));
  if (on_change_ != nullptr) on_change_();
  Log(LogLevel::kInfo, "read the certificate again{}{}", self_signed() ? "" : " from ",
      paths_.cert_chain);
}

CertificateStore::Stamps CertificateStore::ReadStamps() const {
  return {StampOf(paths_.cert_chain), StampOf(paths_.private_key), StampOf(paths_.client_ca)};
}

void CertificateStore::Watch() {
  if (self_signed() && !asks_clients()) return;
  absl::StatusOr<std::thread> thread = StartThread("watching the certificate", [this] { Run(); });
  if (!thread.ok()) {
    Log(LogLevel::kError, "{}; a new certificate is read on SIGHUP only",
        MessageOf(thread.status()));
    return;
  }
  thread_ = *std::move(thread);
}

void CertificateStore::Run() {
  Stamps seen = used_;
  std::unique_lock<std::mutex> lock(mutex_);
  while (!wake_.wait_for(lock, kPoll, [this] { return stop_; })) {
    lock.unlock();
    Stamps now = ReadStamps();
    if (now == seen && now != used_) {
      used_ = now;
      Reload();
    }
    seen = std::move(now);
    lock.lock();
  }
}

}  // namespace callout::host
