module plugin.test/plugin_@name@

go 1.23

require callout.test/callout v0.1.0

replace callout.test/callout => ./sdk/go
