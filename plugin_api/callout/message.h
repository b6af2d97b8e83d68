/* SPDX-License-Identifier: Apache-2.0 */

/* callout/message.h - all a C plugin needs: the contract, and reading messages and
 * writing answers without any library.
 *
 *     callout/plugin.h   the contract with the host
 *     callout/wire.h     protobuf's wire form: a reader and a writer
 *     callout/headers.h  what a message says: header fields, bodies
 *     callout/struct.h   google.protobuf.Struct: attributes, metadata
 *     callout/answer.h   building an answer step by step
 *     callout/tools.h    answers of one step, by the names of the callout samples
 *     callout/check.h    ext_authz: what a Check asks, and the answer to it
 *     callout/data.h     network ext_proc: the bytes of a connection
 *     callout/rate_limit.h  rate limits: what Envoy asks, and the answer to it
 *
 * C99 to C17 and C++11 to C++20; C++ plugins take <callout/plugin.hpp>.
 */
#ifndef CALLOUT_MESSAGE_H_
#define CALLOUT_MESSAGE_H_

#include <callout/answer.h>
#include <callout/check.h>
#include <callout/data.h>
#include <callout/headers.h>
#include <callout/plugin.h>
#include <callout/rate_limit.h>
#include <callout/struct.h>
#include <callout/tools.h>
#include <callout/wire.h>

#endif /* CALLOUT_MESSAGE_H_ */
