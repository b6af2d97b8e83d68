module callout.test/@name@

go 1.23
