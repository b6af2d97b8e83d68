// That it compiles is the test.
#include "layout.h"
