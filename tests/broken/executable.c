/* SPDX-License-Identifier: Apache-2.0 */

/* A program, not a shared object. */
#include "hook.c"

int main(void) { return 0; }
