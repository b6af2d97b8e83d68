// SPDX-License-Identifier: Apache-2.0

#include "host/net/tls_policy.h"

namespace callout::host {

bool ApplyTlsPolicy(SSL_CTX* context) {
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                   SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_IGNORE_UNEXPECTED_EOF);
  return SSL_CTX_set_num_tickets(context, 0) == 1 &&
         SSL_CTX_set_min_proto_version(context, kTlsVersionMin) == 1 &&
         SSL_CTX_set_cipher_list(context, kTlsCiphers) == 1;
}

}  // namespace callout::host
