/* SPDX-License-Identifier: Apache-2.0 */

/* A shared library whose soname is not its file's name, so that it is not found. */
int library_function(void);
int library_function(void) { return 0; }
