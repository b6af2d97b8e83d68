// SPDX-License-Identifier: Apache-2.0

// That it compiles is the test.
#include "layout.h"
