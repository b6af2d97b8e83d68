# Where the SDK is: in the checkout that created this folder or, if that is gone, in the installation of
# callout-host. `make CALLOUT=DIR` selects the plugin_api of another checkout. The link `sdk` leads there,
# for the tools of the language.
CALLOUT ?= @plugin_api@

ifeq ($(shell test -f '$(CALLOUT)/callout/plugin.h' && echo found),found)
callout_sdk := $(shell cd '$(CALLOUT)' && pwd)
else ifeq ($(shell pkg-config --exists callout-plugin && echo found),found)
callout_sdk := $(shell pkg-config --variable=sdkdir callout-plugin)
else
$(error no SDK in $(CALLOUT), and pkg-config does not find callout-plugin: \
  install callout-plugin-dev, or give CALLOUT=CHECKOUT/plugin_api)
endif
$(shell ln -sfn '$(callout_sdk)' sdk)
