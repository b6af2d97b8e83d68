// SPDX-License-Identifier: Apache-2.0

package callout

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

// checkConfig finds what encoding/json passes over in silence: a key that is there twice, of which the last one would
// count, and a null, which would leave the field as it is. of is the type that the text was read into, nil if any
// value has a place in it. The text is well-formed. It returns what is wrong, with the key and without a value.
func checkConfig(decoder *json.Decoder, of reflect.Type, path string) string {
	token, err := decoder.Token()
	if err != nil {
		return err.Error()
	}
	// The whole configuration is never null: a plugin would start with nothing that was meant.
	if token == nil && (path == "" || !mayBeNull(of)) {
		if path == "" {
			return "expected an object, found null"
		}
		return fmt.Sprintf("%s: expected %v, found null", path, of)
	}
	of = target(of)
	switch token {
	case json.Delim('{'):
		seen := map[string]bool{}
		for decoder.More() {
			key, err := decoder.Token()
			if err != nil {
				return err.Error()
			}
			name, member := memberOf(of, key.(string))
			inner := strings.TrimPrefix(path+"."+name, ".")
			if seen[name] {
				return inner + ": the key is there twice"
			}
			seen[name] = true
			if problem := checkConfig(decoder, member, inner); problem != "" {
				return problem
			}
		}
		_, _ = decoder.Token() // }
	case json.Delim('['):
		var element reflect.Type
		if of != nil && (of.Kind() == reflect.Slice || of.Kind() == reflect.Array) {
			element = of.Elem()
		}
		for i := 0; decoder.More(); i++ {
			if problem := checkConfig(decoder, element, fmt.Sprintf("%s[%d]", path, i)); problem != "" {
				return problem
			}
		}
		_, _ = decoder.Token() // ]
	}
	return ""
}

var unmarshaler = reflect.TypeFor[json.Unmarshaler]()

// readsItself says that the type has a reading of its own.
func readsItself(of reflect.Type) bool {
	return of.Implements(unmarshaler) || reflect.PointerTo(of).Implements(unmarshaler)
}

func mayBeNull(of reflect.Type) bool {
	return of == nil || of.Kind() == reflect.Pointer || of.Kind() == reflect.Interface || readsItself(of)
}

// target is what a pointer points to; nil if the type does not say what may be in it.
func target(of reflect.Type) reflect.Type {
	for of != nil && !readsItself(of) {
		if of.Kind() != reflect.Pointer {
			return of
		}
		of = of.Elem()
	}
	return nil
}

// memberOf gives the type behind a key, and the key's one name: that of the field, since case does not count there.
func memberOf(of reflect.Type, key string) (string, reflect.Type) {
	switch {
	case of == nil:
	case of.Kind() == reflect.Map:
		return key, of.Elem()
	case of.Kind() == reflect.Struct:
		found, member := key, reflect.Type(nil)
		for _, field := range reflect.VisibleFields(of) {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if name == "" {
				name = field.Name
			}
			if field.IsExported() && (name == key || member == nil && strings.EqualFold(name, key)) {
				found, member = name, field.Type
			}
		}
		return found, member
	}
	return key, nil
}
