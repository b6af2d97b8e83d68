// SPDX-License-Identifier: Apache-2.0

package callout

import (
	"errors"
	"fmt"

	"callout.test/callout/internal/abi"
)

// Status is a code of gRPC.
type Status int32

// The codes of gRPC.
const (
	Cancelled          Status = -abi.Cancelled
	Unknown            Status = -abi.Unknown
	InvalidArgument    Status = -abi.InvalidArgument
	DeadlineExceeded   Status = -abi.DeadlineExceeded
	NotFound           Status = -abi.NotFound
	AlreadyExists      Status = -abi.AlreadyExists
	PermissionDenied   Status = -abi.PermissionDenied
	ResourceExhausted  Status = -abi.ResourceExhausted
	FailedPrecondition Status = -abi.FailedPrecondition
	Aborted            Status = -abi.Aborted
	OutOfRange         Status = -abi.OutOfRange
	Unimplemented      Status = -abi.Unimplemented
	Internal           Status = -abi.Internal
	Unavailable        Status = -abi.Unavailable
	DataLoss           Status = -abi.DataLoss
	Unauthenticated    Status = -abi.Unauthenticated
)

var statusNames = [...]string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
	"RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE",
	"DATA_LOSS", "UNAUTHENTICATED",
}

// String is the name that gRPC gives the status, such as UNAVAILABLE.
func (status Status) String() string {
	if status >= 0 && int(status) < len(statusNames) {
		return statusNames[status]
	}
	return fmt.Sprintf("status %d", int32(status))
}

// Error is an error of a hook with a status. An error that wraps one (fmt.Errorf with %w) has the status of that
// one, any other error has Internal. A nil *Error that is returned as an error is a fault.
//
// With PermissionDenied and Unauthenticated it is a decision of the plugin, and ends the RPC: Envoy takes
// that for a failure of the processor, and if it fails open it lets the request pass. Deny refuses a
// request. Every other status is a fault: the operator's policy decides, by default the exchange fails.
type Error struct {
	Status Status
	Text   string // for the host's log
}

func (e *Error) Error() string { return e.Text }

// Errorf makes an Error.
func Errorf(status Status, format string, arguments ...any) error {
	return &Error{status, fmt.Sprintf(format, arguments...)}
}

// textOf is the text of what was thrown, whose methods may panic in their turn.
func textOf(cause any) (text string) {
	defer func() {
		if recover() != nil {
			text = fmt.Sprintf("a value of the type %T, whose text panics", cause)
		}
	}()
	return fmt.Sprint(cause)
}

// read gives the text and the status of an error of the plugin's, whose methods may panic; unknown is the status of one
// that has none.
func read(err error, unknown Status) (result Error) {
	defer func() {
		if cause := recover(); cause != nil {
			result = Error{Internal, fmt.Sprintf("panic in a method of an error of the type %T: %s", err, textOf(cause))}
		}
	}()
	var known *Error
	if errors.As(err, &known) {
		if known == nil {
			return Error{Internal, "the error is a nil *callout.Error, which is not nil as an error: return nil itself"}
		}
		if known.Status > 0 {
			unknown = known.Status
		}
	}
	return Error{unknown, err.Error()}
}

func refusal(status int32, format string, arguments ...any) error {
	if status == abi.Ok {
		return nil
	}
	return Errorf(Status(-status), format, arguments...)
}
