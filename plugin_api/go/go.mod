module callout.test/callout

go 1.23
