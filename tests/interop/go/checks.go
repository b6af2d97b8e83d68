// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	health "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	core "interop/gen/envoy/config/core/v3"
	extproc "interop/gen/envoy/service/ext_proc/v3"
)

const (
	service = "envoy.service.ext_proc.v3.ExternalProcessor"
	giveUp  = 120 * time.Second
)

type stream struct {
	extproc.ExternalProcessor_ProcessClient
	cancel context.CancelFunc
}

func open(connection *grpc.ClientConn, timeout time.Duration, pairs []string, options ...grpc.CallOption) (stream, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	ctx = metadata.AppendToOutgoingContext(ctx, pairs...)
	process, err := extproc.NewExternalProcessorClient(connection).Process(ctx, options...)
	return stream{process, cancel}, err
}

func (s stream) exchange(request *extproc.ProcessingRequest) (*extproc.ProcessingResponse, error) {
	if err := s.Send(request); err != nil {
		return nil, err
	}
	return s.Recv()
}

// Reads what is left; nil if that is no message but the status `code` with `text` in it.
func (s stream) expectEnd(code codes.Code, text string) error {
	defer s.cancel()
	answer, err := s.Recv()
	if err == nil {
		return fmt.Errorf("an answer too many: %v", answer)
	}
	if err == io.EOF {
		err = nil
	}
	if status.Code(err) != code || !strings.Contains(status.Convert(err).Message(), text) {
		return fmt.Errorf("the status is not %v: %v", code, err)
	}
	return nil
}

func requestHeaders() *extproc.ProcessingRequest {
	return &extproc.ProcessingRequest{Request: &extproc.ProcessingRequest_RequestHeaders{RequestHeaders: somePath()}}
}

func responseHeaders() *extproc.ProcessingRequest {
	return &extproc.ProcessingRequest{Request: &extproc.ProcessingRequest_ResponseHeaders{ResponseHeaders: somePath()}}
}

func somePath() *extproc.HttpHeaders {
	return &extproc.HttpHeaders{Headers: &core.HeaderMap{Headers: []*core.HeaderValue{
		{Key: ":path", RawValue: []byte("/")},
	}}}
}

func requestBody(body []byte) *extproc.ProcessingRequest {
	return &extproc.ProcessingRequest{Request: &extproc.ProcessingRequest_RequestBody{
		RequestBody: &extproc.HttpBody{Body: body, EndOfStream: true}}}
}

func responseBody(body []byte) *extproc.ProcessingRequest {
	return &extproc.ProcessingRequest{Request: &extproc.ProcessingRequest_ResponseBody{
		ResponseBody: &extproc.HttpBody{Body: body, EndOfStream: true}}}
}

func largeBody() []byte {
	body := make([]byte, 200_000)
	for i := range body {
		body[i] = byte(i % 251)
	}
	return body
}

func expectHeader(answer *extproc.ProcessingResponse, key, value string) error {
	for _, option := range answer.GetRequestHeaders().GetResponse().GetHeaderMutation().GetSetHeaders() {
		if option.GetHeader().GetKey() == key && string(option.GetHeader().GetRawValue()) == value {
			return nil
		}
	}
	return fmt.Errorf("no %s: %s in: %v", key, value, answer)
}

func expectCode(err error, code codes.Code) error {
	if status.Code(err) != code {
		return fmt.Errorf("the status is not %v: %v", code, err)
	}
	return nil
}

// --- The checks -------------------------------------------------------------

func process(connection *grpc.ClientConn) error {
	s, err := open(connection, giveUp, nil)
	if err != nil {
		return err
	}
	answer, err := s.exchange(requestHeaders())
	if err != nil {
		return err
	}
	if err := expectHeader(answer, "x-text", "none"); err != nil {
		return err
	}
	s.CloseSend()
	return s.expectEnd(codes.OK, "")
}

func largeBodies(connection *grpc.ClientConn) error {
	s, err := open(connection, giveUp, nil)
	if err != nil {
		return err
	}
	body := largeBody()
	var answers []*extproc.ProcessingResponse
	for _, request := range []*extproc.ProcessingRequest{
		requestHeaders(), requestBody(body), responseHeaders(), responseBody(body),
	} {
		answer, err := s.exchange(request)
		if err != nil {
			return err
		}
		answers = append(answers, answer)
	}
	for _, answer := range []*extproc.BodyResponse{answers[1].GetRequestBody(), answers[3].GetResponseBody()} {
		found := answer.GetResponse().GetBodyMutation().GetBody()
		if !bytes.Equal(found, append(body[:len(body):len(body)], "-seen"...)) {
			return fmt.Errorf("a body of %d bytes that is not the one sent", len(found))
		}
	}
	s.CloseSend()
	return s.expectEnd(codes.OK, "")
}

func streamsAtOnce(connection *grpc.ClientConn) error {
	var streams []stream
	for range 100 {
		s, err := open(connection, giveUp, nil)
		if err != nil {
			return err
		}
		if err := s.Send(requestHeaders()); err != nil {
			return err
		}
		streams = append(streams, s)
	}
	for _, s := range streams {
		answer, err := s.Recv()
		if err != nil {
			return err
		}
		if err := expectHeader(answer, "x-text", "none"); err != nil {
			return err
		}
	}
	for _, s := range streams {
		s.CloseSend()
		if err := s.expectEnd(codes.OK, ""); err != nil {
			return err
		}
	}
	return nil
}

func cancel(connection *grpc.ClientConn) error {
	s, err := open(connection, giveUp, nil)
	if err != nil {
		return err
	}
	if _, err := s.exchange(requestHeaders()); err != nil {
		return err
	}
	s.cancel()
	if err := s.expectEnd(codes.Canceled, ""); err != nil {
		return err
	}
	return process(connection)
}

func deadline(connection *grpc.ClientConn) error {
	s, err := open(connection, 300*time.Millisecond, nil)
	if err != nil {
		return err
	}
	if err := s.expectEnd(codes.DeadlineExceeded, ""); err != nil {
		return err
	}
	return process(connection)
}

func unknownMethod(connection *grpc.ClientConn) error {
	ctx, cancel := context.WithTimeout(context.Background(), giveUp)
	defer cancel()
	answer := &extproc.ProcessingResponse{}
	err := connection.Invoke(ctx, "/"+service+"/Unknown", requestHeaders(), answer)
	return expectCode(err, codes.Unimplemented)
}

func healthCheck(connection *grpc.ClientConn) error {
	ctx, cancel := context.WithTimeout(context.Background(), giveUp)
	defer cancel()
	answer, err := health.NewHealthClient(connection).Check(ctx, &health.HealthCheckRequest{})
	if err == nil && answer.Status != health.HealthCheckResponse_SERVING {
		err = fmt.Errorf("the health is %v", answer.Status)
	}
	return err
}

func healthWatch(connection *grpc.ClientConn) error {
	ctx, cancel := context.WithTimeout(context.Background(), giveUp)
	defer cancel()
	watch, err := health.NewHealthClient(connection).Watch(ctx, &health.HealthCheckRequest{Service: service})
	if err != nil {
		return err
	}
	answer, err := watch.Recv()
	if err == nil && answer.Status != health.HealthCheckResponse_SERVING {
		err = fmt.Errorf("the health is %v", answer.Status)
	}
	return err
}

func metadataArrives(connection *grpc.ClientConn) error {
	s, err := open(connection, giveUp, []string{"x-interop", "hello", "x-interop-bin", "\x00\xff\x10\x80"})
	if err != nil {
		return err
	}
	answer, err := s.exchange(requestHeaders())
	if err != nil {
		return err
	}
	for key, value := range map[string]string{"x-text": "hello", "x-bytes": "00ff1080"} {
		if err := expectHeader(answer, key, value); err != nil {
			return err
		}
	}
	s.CloseSend()
	return s.expectEnd(codes.OK, "")
}

func compression(connection *grpc.ClientConn) error {
	s, err := open(connection, giveUp, nil, grpc.UseCompressor(gzip.Name))
	if err != nil {
		return err
	}
	// The stream may be over before all is sent: its status says why.
	s.Send(requestBody(largeBody()))
	if err := s.expectEnd(codes.Unimplemented, "gzip"); err != nil {
		return err
	}
	return process(connection)
}

func messageTooLarge(connection *grpc.ClientConn) error {
	s, err := open(connection, giveUp, nil)
	if err != nil {
		return err
	}
	s.Send(requestBody(make([]byte, 1_000_001)))
	if err := s.expectEnd(codes.ResourceExhausted, ""); err != nil {
		return err
	}
	return process(connection)
}

func reflection(connection *grpc.ClientConn) error {
	ctx, cancel := context.WithTimeout(context.Background(), giveUp)
	defer cancel()
	s, err := reflectionpb.NewServerReflectionClient(connection).ServerReflectionInfo(ctx)
	if err != nil {
		return err
	}
	request := &reflectionpb.ServerReflectionRequest{
		MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}
	if err := s.Send(request); err != nil {
		return err
	}
	answer, err := s.Recv()
	if err != nil {
		return err
	}
	for _, listed := range answer.GetListServicesResponse().GetService() {
		if listed.GetName() == service {
			return nil
		}
	}
	return fmt.Errorf("no %s in: %v", service, answer)
}
