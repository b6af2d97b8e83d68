# Where the headers for plugins are: in the checkout this folder was made from or, where that is
# not, where callout-host has been installed. `make CALLOUT=DIR` names another checkout's plugin_api.
CALLOUT ?= @plugin_api@

ifneq ($(wildcard $(CALLOUT)/callout/plugin.h),)
callout_cflags := -I$(CALLOUT)
callout_libs := -Wl,--version-script=$(CALLOUT)/callout/callout.map
else ifeq ($(shell pkg-config --exists callout-plugin && echo found),found)
callout_cflags := $(shell pkg-config --cflags callout-plugin)
callout_libs := $(shell pkg-config --libs callout-plugin)
else
$(error no headers in $(CALLOUT), and pkg-config knows no callout-plugin: \
  install callout-host, or give CALLOUT=CHECKOUT/plugin_api)
endif
