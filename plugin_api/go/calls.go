// SPDX-License-Identifier: Apache-2.0

package callout

import (
	"context"
	"fmt"
	"time"

	"callout.test/callout/internal/abi"
	"callout.test/callout/internal/bridge"
)

// Upstream is a service that the operator has configured (--upstreams): the extension callout.calls/1. The
// host pools connections, limits, retries and breaks circuits; docs/upstreams.md has the options.
type Upstream struct {
	host *Host
	name string
}

// Request is what is sent to an upstream.
type Request struct {
	Method     string // upper case; empty: POST if there is a body, else GET
	Path       string // with the query
	Header     []Header
	Body       []byte
	Idempotent bool          // it may be sent again if the connection breaks; GET and its like may always
	Timeout    time.Duration // for all of it, retries included; 0: the upstream's. It only shortens: see Upstream.Do
}

// Response is what an upstream said.
type Response struct {
	HTTPStatus int // of any value: a 500 is a response too
	Header     []Header
	Trailer    []Header
	Body       []byte
}

// Get returns the first header of a name in lower case, "" if there is none.
func (response *Response) Get(name string) string {
	for _, header := range response.Header {
		if header.Name == name {
			return header.Value
		}
	}
	return ""
}

// CallError says why there is no response; of gRPC also what the service said in place of one. As the error of
// a hook it is a fault: what a service says never becomes a decision of the plugin by itself.
type CallError struct {
	// Unavailable: no connection, a broken one, or the circuit is open. DeadlineExceeded. ResourceExhausted: over a
	// limit. DataLoss: no valid HTTP or gRPC. Cancelled: the instance ends. Of gRPC any.
	Status      Status
	FromService bool // a gRPC service has said it
	Text        string
}

func (failure *CallError) Error() string {
	return fmt.Sprintf("%s: %s", failure.Status, failure.Text)
}

// Is makes a call whose time is over an errors.Is(err, context.DeadlineExceeded), whoever ended it.
func (failure *CallError) Is(target error) bool {
	return target == context.DeadlineExceeded && failure.Status == DeadlineExceeded && !failure.FromService
}

// Upstream gives the upstream of a name. Ask in the create function, so that a wrong name refuses the
// configuration.
func (host *Host) Upstream(name string) (*Upstream, error) {
	if !host.enter() {
		return nil, errOver
	}
	defer host.leave()
	switch host.services.FindUpstream(name) {
	case abi.Ok:
		return &Upstream{host, name}, nil
	case abi.Unimplemented:
		return nil, Errorf(Unimplemented, "this host makes no calls")
	}
	return nil, Errorf(InvalidArgument, "there is no upstream %q: the operator names upstreams in the file of --upstreams", name)
}

// Do makes an HTTP request and waits for the response, of any status. It ends with ctx: the one that Call.Defer
// gives ends with the client. It waits, so it is for deferred functions, blocking hooks, timers and goroutines;
// not for the create function. Errors are a *CallError or that of ctx. When the instance ends, so does the call, with
// Cancelled, whatever ctx says.
//
// A call waits at most for the time that ctx has left, less an eighth of it (at most 50 ms): so a deferred function
// whose service is slow gets a *CallError with DeadlineExceeded, and can still refuse the request in time.
func (upstream *Upstream) Do(ctx context.Context, request Request) (*Response, error) {
	return upstream.do(ctx, request, 0)
}

// DoGRPC makes a unary gRPC call: "/package.Service/Method" and the serialized message. It gives the serialized
// response. As Do.
func (upstream *Upstream) DoGRPC(ctx context.Context, path string, message []byte, metadata ...Header) ([]byte, error) {
	response, err := upstream.do(ctx, Request{Path: path, Body: message, Header: metadata}, abi.OutgoingGrpc)
	if err != nil {
		return nil, err
	}
	return response.Body, nil
}

func (upstream *Upstream) do(ctx context.Context, request Request, flags uint32) (*Response, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	outgoing := bridge.Outgoing{
		Flags: flags, Upstream: upstream.name, Method: request.Method, Path: request.Path, Body: request.Body,
		TimeoutNs: uint64(timeFor(ctx, max(request.Timeout, 0))),
	}
	if request.Idempotent {
		outgoing.Flags |= abi.OutgoingIdempotent
	}
	for _, header := range request.Header {
		outgoing.Headers = append(outgoing.Headers, [2]string{header.Name, header.Value})
	}
	incoming, ended := make(chan *bridge.Incoming, 1), make(chan struct{})
	id, status := upstream.start(&outgoing, incoming, ended)
	if status != abi.Ok {
		return nil, &CallError{Status(-status), false, fmt.Sprintf("the call to upstream %q was not started; the host's log says why", upstream.name)}
	}
	select {
	case came := <-incoming:
		return readResponse(came)
	case <-ctx.Done():
		upstream.cancel(id)
		return nil, ctx.Err()
	case <-ended:
	}
	select {
	case came := <-incoming: // and ended after it
		return readResponse(came)
	default:
		return nil, &CallError{Cancelled, false, fmt.Sprintf("the instance ends, and with it its call to upstream %q", upstream.name)}
	}
}

// reserveMax bounds what timeFor keeps back.
const reserveMax = 50 * time.Millisecond

// timeFor shortens a timeout (0: none), so that what waits for the call can still answer before ctx ends.
func timeFor(ctx context.Context, timeout time.Duration) time.Duration {
	deadline, has := ctx.Deadline()
	if !has {
		return timeout
	}
	left := time.Until(deadline)
	left = max(left-min(left/8, reserveMax), 1)
	if timeout == 0 {
		return left
	}
	return min(timeout, left)
}

func (upstream *Upstream) start(outgoing *bridge.Outgoing, incoming chan<- *bridge.Incoming, ended chan<- struct{}) (uint64, int32) {
	if !upstream.host.enter() {
		return 0, abi.FailedPrecondition
	}
	defer upstream.host.leave()
	return upstream.host.services.StartCall(outgoing, func(came *bridge.Incoming) { incoming <- came }, func() { close(ended) })
}

func (upstream *Upstream) cancel(id uint64) {
	if upstream.host.enter() {
		defer upstream.host.leave()
		upstream.host.services.CancelCall(id)
	}
}

func readResponse(came *bridge.Incoming) (*Response, error) {
	if came.Status != abi.Ok {
		return nil, &CallError{Status(-came.Status), came.FromService, came.Message}
	}
	return &Response{int(came.HTTPStatus), headersOf(came.Headers), headersOf(came.Trailers), []byte(came.Body)}, nil
}

func headersOf(pairs [][2]string) (headers []Header) {
	for _, pair := range pairs {
		headers = append(headers, Header{pair[0], pair[1]})
	}
	return headers
}
