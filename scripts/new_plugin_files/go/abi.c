#include <callout/plugin.h>

CALLOUT_PLUGIN();
