/* SPDX-License-Identifier: Apache-2.0 */

/* What witness.c has written down. One test at a time; no thread but the one that drives it. */
#ifndef CALLOUT_TESTS_PLUGIN_API_WITNESS_H_
#define CALLOUT_TESTS_PLUGIN_API_WITNESS_H_

#ifdef __cplusplus
extern "C" {
#endif

void witness_begin(void);
const char* witness_transcript(void);

#ifdef __cplusplus
}
#endif

#endif /* CALLOUT_TESTS_PLUGIN_API_WITNESS_H_ */
