/* SPDX-License-Identifier: Apache-2.0 */

/* A table where a function should be. */
#include <stdint.h>

extern const uint32_t callout_abi_version;
const uint32_t callout_abi_version = 1;

extern const uint32_t callout_on_process[4];
const uint32_t callout_on_process[4] = {1, 2, 3, 4};
