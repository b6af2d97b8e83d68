/* SPDX-License-Identifier: Apache-2.0 */

/* The version as a function: telling it would run the plugin's code. */
#include <stdint.h>

uint32_t callout_abi_version(void);
uint32_t callout_abi_version(void) { return 1; }

int32_t callout_on_request_headers(void* call);
int32_t callout_on_request_headers(void* call) { return call == 0; }
