// SPDX-License-Identifier: Apache-2.0

package callout

import (
	"iter"
	"strings"
)

// Header is one header field. A value may hold any bytes, not only UTF-8.
type Header struct{ Name, Value string }

// Headers are the fields of a message in its order. Names compare without case; those that begin with
// ":" are pseudo headers. They are copies, and stay valid.
type Headers struct {
	message string
	isCheck bool
}

// All goes through the fields. A name may come several times.
func (headers Headers) All() iter.Seq[Header] {
	return func(yield func(Header) bool) {
		goOn := true
		visit := func(bytes string) bool {
			goOn = yield(readHeader(bytes))
			return goOn
		}
		records(headers.message, func(next record) bool {
			switch {
			case next.wireType != 2:
			case !headers.isCheck && next.field == 1, headers.isCheck && next.field == 13:
				allBytes(next.bytes, 1, visit) // a HeaderMap
			case headers.isCheck && next.field == 3:
				visit(next.bytes) // an entry of a map
			}
			return goOn
		})
	}
}

// readHeader reads a HeaderValue or an entry of a map: name 1, value 2, raw_value 3. Envoy fills the
// last.
func readHeader(bytes string) (header Header) {
	raw := ""
	records(bytes, func(next record) bool {
		switch next.field {
		case 1:
			header.Name = next.bytes
		case 2:
			header.Value = next.bytes
		case 3:
			raw = next.bytes
		}
		return true
	})
	if raw != "" {
		header.Value = raw
	}
	return header
}

// Find returns the first value of a header, and whether there is one.
func (headers Headers) Find(name string) (string, bool) {
	for header := range headers.All() {
		if strings.EqualFold(header.Name, name) {
			return header.Value, true
		}
	}
	return "", false
}

// Get returns the first value of a header, "" if there is none.
func (headers Headers) Get(name string) string {
	value, _ := headers.Find(name)
	return value
}

// Values returns all values of a header.
func (headers Headers) Values(name string) (values []string) {
	for header := range headers.All() {
		if strings.EqualFold(header.Name, name) {
			values = append(values, header.Value)
		}
	}
	return values
}

// Has says whether there is such a header.
func (headers Headers) Has(name string) bool {
	_, found := headers.Find(name)
	return found
}

// Len counts the fields.
func (headers Headers) Len() (count int) {
	for range headers.All() {
		count++
	}
	return count
}
