/* SPDX-License-Identifier: Apache-2.0 */

/* That it compiles is the test. */
#include "layout.h"

int callout_layout_c(void);
int callout_layout_c(void) { return 0; }
