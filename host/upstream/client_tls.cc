// SPDX-License-Identifier: Apache-2.0

#include "host/upstream/client_tls.h"

#include <fmt/format.h>
#include <openssl/ssl.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/ssl/context.hpp>
#include <string>
#include <string_view>

#include "host/base/log.h"
#include "host/base/status_text.h"
#include "host/net/certificate.h"

namespace callout::host {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

absl::Status OfKey(std::string_view key, std::string_view why) {
  return absl::InvalidArgumentError(fmt::format("\"tls.{}\": {}", key, why));
}

// In the form of ALPN: each name behind its length.
std::string_view AlpnOf(UpstreamProtocol protocol) {
  switch (protocol) {
    case UpstreamProtocol::kHttp1:
      return "\x08http/1.1";
    case UpstreamProtocol::kHttp2:
      return "\x02h2";
    case UpstreamProtocol::kAuto:
      break;
  }
  return "\x02h2\x08http/1.1";
}

absl::Status Trust(const UpstreamConfig::Tls& files, asio::ssl::context* context) {
  error_code error;
  context->set_verify_mode(files.verify ? asio::ssl::verify_peer : asio::ssl::verify_none, error);
  if (!files.verify) return absl::OkStatus();
  if (files.ca_path.empty()) {
    context->set_default_verify_paths(error);
    return error ? OfKey("ca", error.message()) : absl::OkStatus();
  }
  const absl::StatusOr<CaBundle> bundle = LoadCaBundle(files.ca_path);
  if (!bundle.ok()) return OfKey("ca", MessageOf(bundle.status()));
  context->add_certificate_authority(asio::buffer(bundle->pem), error);
  return error ? OfKey("ca", fmt::format("{}: {}", files.ca_path, error.message()))
               : absl::OkStatus();
}

absl::Status Identify(const UpstreamConfig::Tls& files, asio::ssl::context* context) {
  if (files.certificate_path.empty()) return absl::OkStatus();
  // Both may be in one file.
  const std::string& key = files.key_path.empty() ? files.certificate_path : files.key_path;
  const absl::StatusOr<KeyPair> pair = LoadKeyPair(files.certificate_path, key);
  if (!pair.ok()) return OfKey("certificate", MessageOf(pair.status()));
  const absl::Status status = UseKeyPair(pair->chain_pem, pair->key_pem, context);
  return status.ok() ? status : OfKey("certificate", MessageOf(status));
}

}  // namespace

absl::StatusOr<TlsContext> MakeUpstreamTls(const UpstreamConfig& config) {
  absl::StatusOr<TlsContext> made = MakePolicyContext(TlsSide::kClient);
  if (!made.ok()) return made;
  asio::ssl::context* const context = made->get();
  if (absl::Status status = Trust(config.tls_files, context); !status.ok()) return status;
  if (absl::Status status = Identify(config.tls_files, context); !status.ok()) return status;
  const std::string_view alpn = AlpnOf(config.protocol);
  SSL_CTX_set_alpn_protos(context->native_handle(),
                          reinterpret_cast<const unsigned char*>(alpn.data()),
                          static_cast<unsigned>(alpn.size()));
  return made;
}

ClientTls::Stamps ClientTls::StampsNow() const {
  const UpstreamConfig::Tls& files = config_->tls_files;
  return {StampOf(files.ca_path), StampOf(files.certificate_path), StampOf(files.key_path)};
}

absl::StatusOr<TlsContext> ClientTls::Current() {
  const Stamps stamps = StampsNow();
  if (context_ != nullptr && stamps == stamps_) return context_;
  stamps_ = stamps;
  absl::StatusOr<TlsContext> made = MakeUpstreamTls(*config_);
  if (made.ok()) {
    if (context_ != nullptr) {
      Log(LogLevel::kInfo, "upstream {}: new connections use the changed certificates",
          config_->name);
    }
    context_ = *std::move(made);
  } else if (context_ == nullptr) {
    return made.status();
  } else {
    Log(LogLevel::kError,
        "upstream {}: keeping the certificates in use; the new ones are invalid: {}", config_->name,
        MessageOf(made.status()));
  }
  return context_;
}

}  // namespace callout::host
