// SPDX-License-Identifier: Apache-2.0

// Nothing: the precompiled header needs a library to be made with.
