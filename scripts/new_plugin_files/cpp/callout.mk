# Where the plugin headers are: in the checkout that created this folder or, if that is gone, in the
# installation of callout-host. `make CALLOUT=DIR` selects the plugin_api of another checkout.
CALLOUT ?= @plugin_api@

ifeq ($(shell test -f '$(CALLOUT)/callout/plugin.h' && echo found),found)
callout_cflags := -I'$(CALLOUT)'
callout_libs := -Wl,--version-script='$(CALLOUT)/callout/callout.map'
else ifeq ($(shell pkg-config --exists callout-plugin && echo found),found)
callout_cflags := $(shell pkg-config --cflags callout-plugin)
callout_libs := $(shell pkg-config --libs callout-plugin)
else
$(error no headers in $(CALLOUT), and pkg-config does not find callout-plugin: \
  install callout-host, or give CALLOUT=CHECKOUT/plugin_api)
endif
