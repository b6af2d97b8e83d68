/* SPDX-License-Identifier: Apache-2.0 */

/* Marked as every shared object with a Go runtime is, without being one: a note of the owner "Go"
 * and type 4. Its fields: sizes of name and content, type, name, content. */
#include <callout/plugin.h>

CALLOUT_PLUGIN();

__asm__(
    ".pushsection .note.go.buildid, \"a\", %note\n"
    ".balign 4\n"
    ".long 4, 4, 4\n"
    ".ascii \"Go\\0\\0\", \"id\\0\\0\"\n"
    ".popsection\n");

callout_status_t callout_on_request_headers(callout_call_t* call) {
  (void)call;
  return CALLOUT_OK;
}
