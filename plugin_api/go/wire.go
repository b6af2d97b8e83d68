// SPDX-License-Identifier: Apache-2.0

package callout

import (
	"encoding/binary"
	"math"
	"sort"
	"strings"
)

// protobuf's wire form, as callout/wire.h: records of views, which end at malformed bytes.

type record struct {
	field    uint32
	wireType uint32 // 0 varint, 1 and 5 fixed, 2 bytes
	number   uint64
	bytes    string
}

func takeVarint(message *string) (uint64, bool) {
	var value uint64
	for i := 0; i < len(*message) && i < 10; i++ {
		value |= uint64((*message)[i]&0x7f) << (7 * i)
		if (*message)[i] < 0x80 {
			*message = (*message)[i+1:]
			return value, true
		}
	}
	return 0, false
}

func takeFixed(message *string, size int) (value uint64, found bool) {
	if len(*message) < size {
		return 0, false
	}
	for i := range size {
		value |= uint64((*message)[i]) << (8 * i)
	}
	*message = (*message)[size:]
	return value, true
}

// nextRecord takes the first record of a message.
func nextRecord(message *string) (next record, found bool) {
	tag, found := takeVarint(message)
	if !found || tag>>3 == 0 || tag > math.MaxUint32 {
		return next, false
	}
	next.field, next.wireType = uint32(tag>>3), uint32(tag&7)
	switch next.wireType {
	case 0:
		next.number, found = takeVarint(message)
	case 1:
		next.number, found = takeFixed(message, 8)
	case 5:
		next.number, found = takeFixed(message, 4)
	case 2:
		size, is := takeVarint(message)
		if !is || size > uint64(len(*message)) {
			return next, false
		}
		next.bytes, *message = (*message)[:size], (*message)[size:]
	default:
		return next, false
	}
	return next, found
}

// records calls use for each record of a message, until it returns false.
func records(message string, use func(record) bool) {
	for len(message) > 0 {
		next, found := nextRecord(&message)
		if !found || !use(next) {
			return
		}
	}
}

// allBytes calls use with the content of each record of one field.
func allBytes(message string, field uint32, use func(string) bool) {
	records(message, func(next record) bool {
		return next.field != field || next.wireType != 2 || use(next.bytes)
	})
}

// lastBytes is the content of the last record of a field, which counts in protobuf.
func lastBytes(message string, field uint32) (found string) {
	allBytes(message, field, func(bytes string) bool { found = bytes; return true })
	return found
}

func hasBytes(message string, field uint32) (found bool) {
	allBytes(message, field, func(string) bool { found = true; return false })
	return found
}

func lastNumber(message string, field uint32) (number uint64) {
	records(message, func(next record) bool {
		if next.field == field && next.wireType == 0 {
			number = next.number
		}
		return true
	})
	return number
}

func putHead(to []byte, field uint32, size int) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(to, uint64(field)<<3|2), uint64(size))
}

func putBytes(to []byte, field uint32, bytes string) []byte {
	return append(putHead(to, field, len(bytes)), bytes...)
}

func putNumber(to []byte, field uint32, value uint64) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(to, uint64(field)<<3), value)
}

// putMessage appends a message that write appends the content of.
func putMessage(to []byte, field uint32, write func([]byte) []byte) []byte {
	to = putHead(to, field, 0)
	begin := len(to)
	to = write(to)
	size := len(to) - begin
	if size < 0x80 { // Most are: one byte is kept for the length.
		to[begin-1] = byte(size)
		return to
	}
	length := binary.AppendUvarint(nil, uint64(size))
	to = append(to, length[1:]...)
	copy(to[begin+len(length)-1:], to[begin:begin+size])
	copy(to[begin-1:], length)
	return to
}

func varintSize(value uint64) int {
	size := 1
	for ; value >= 0x80; value >>= 7 {
		size++
	}
	return size
}

func recordSize(field uint32, size int) int {
	return varintSize(uint64(field)<<3) + varintSize(uint64(size)) + size
}

// --- google.protobuf.Struct as JSON, as callout/struct.h ---

// Values deeper in one another are not read, and refused in writing; protobuf's readers stop at 100.
const depthMax = 96

// findInMap is the last value under key in a map<string, message>.
func findInMap(message string, field uint32, key string) (value string, found bool) {
	allBytes(message, field, func(entry string) bool {
		if lastBytes(entry, 1) == key {
			value, found = lastBytes(entry, 2), true
		}
		return true
	})
	return value, found
}

func readValue(message string, depth int) (value any) {
	records(message, func(next record) bool {
		switch next.field {
		case 2:
			value = math.Float64frombits(next.number)
		case 3:
			value = strings.ToValidUTF8(next.bytes, "\uFFFD")
		case 4:
			value = next.number != 0
		case 5:
			if depth > 0 {
				value = readStruct(next.bytes, depth-1)
			}
		case 6:
			list := []any{}
			if depth > 0 {
				allBytes(next.bytes, 1, func(item string) bool {
					list = append(list, readValue(item, depth-1))
					return true
				})
			}
			value = list
		default:
			value = nil
		}
		return true
	})
	return value
}

func readStruct(message string, depth int) map[string]any {
	fields := map[string]any{}
	allBytes(message, 1, func(entry string) bool {
		fields[lastBytes(entry, 1)] = readValue(lastBytes(entry, 2), depth)
		return true
	})
	return fields
}

// putStruct writes what encoding/json makes of an object: nil, bool, float64, string, []any, map.
func putStruct(to []byte, fields map[string]any, depth int) ([]byte, bool) {
	fits := depth > 0
	keys := make([]string, 0, len(fields))
	for key := range fields {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	for _, key := range keys {
		if !fits {
			break
		}
		to = putMessage(to, 1, func(to []byte) []byte {
			to = putBytes(to, 1, key)
			return putMessage(to, 2, func(to []byte) []byte {
				var inner bool
				to, inner = putValue(to, fields[key], depth-1)
				fits = fits && inner
				return to
			})
		})
	}
	return to, fits
}

func putValue(to []byte, value any, depth int) ([]byte, bool) {
	fits := depth > 0
	if !fits {
		return to, false
	}
	switch value := value.(type) {
	case float64:
		to = binary.AppendUvarint(to, 2<<3|1)
		to = binary.LittleEndian.AppendUint64(to, math.Float64bits(value))
	case string:
		to = putBytes(to, 3, value)
	case bool:
		number := uint64(0)
		if value {
			number = 1
		}
		to = putNumber(to, 4, number)
	case map[string]any:
		to = putMessage(to, 5, func(to []byte) []byte {
			to, fits = putStruct(to, value, depth-1)
			return to
		})
	case []any:
		to = putMessage(to, 6, func(to []byte) []byte {
			for _, item := range value {
				to = putMessage(to, 1, func(to []byte) []byte {
					var inner bool
					to, inner = putValue(to, item, depth-1)
					fits = fits && inner
					return to
				})
			}
			return to
		})
	default:
		to = putNumber(to, 1, 0)
	}
	return to, fits
}
