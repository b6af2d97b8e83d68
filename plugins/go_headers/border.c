/* SPDX-License-Identifier: Apache-2.0 */

/* What a plugin has to export as data, which Go cannot. */
#include <callout/plugin.h>

CALLOUT_PLUGIN();
