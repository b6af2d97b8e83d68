/* SPDX-License-Identifier: Apache-2.0 */

/* callout/rpc_metadata.h - the extension that lists the metadata of a gRPC request.
 * get_metadata() of <callout/plugin.h> finds values of a known key; this tells which
 * keys there are.
 *
 *     const callout_rpc_metadata_t *metadata =
 *         host->get_extension(host, CALLOUT_RPC_METADATA);  // in create; NULL: an older host
 *     for (i = 0; metadata->at(call, i, &key, &value) == CALLOUT_OK; ++i) ...
 */
#ifndef CALLOUT_RPC_METADATA_H_
#define CALLOUT_RPC_METADATA_H_

#include <callout/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CALLOUT_RPC_METADATA "callout.rpc_metadata/1"

/* FROZEN. */
typedef struct callout_rpc_metadata {
  uint32_t struct_size;
  uint32_t reserved;
  /* The `index`th entry, in the order of the request; a key may come several times.
   * Keys are in lower case; values of keys that end in "-bin" are decoded. HTTP's and
   * gRPC's own headers are not in it. The views live as long as the stream. NOT_FOUND
   * past the last. [call] */
  callout_status_t (*at)(const callout_call_t* call, uint32_t index, callout_bytes_t* key,
                         callout_bytes_t* value);
} callout_rpc_metadata_t;

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* CALLOUT_RPC_METADATA_H_ */
