// SPDX-License-Identifier: Apache-2.0

// The benchmark's server on grpc-go: `server PORT|unix:PATH [--tls CERTIFICATE KEY]`.
// Answers as plugins/minimal_c does, with the generated classes; a Check alike. Prints `listening
// PORT`, 0 on a unix socket.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	core "bench/gen/envoy/config/core/v3"
	filter "bench/gen/envoy/extensions/filters/http/ext_proc/v3"
	auth "bench/gen/envoy/service/auth/v3"
	extproc "bench/gen/envoy/service/ext_proc/v3"
)

// grpc-go's default is 4 MiB.
const maxMessageBytes = 64 << 20

type server struct {
	extproc.UnimplementedExternalProcessorServer
}

func (server) Process(stream extproc.ExternalProcessor_ProcessServer) error {
	isDuplex := false
	for {
		request, err := stream.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if config := request.GetProtocolConfig(); config != nil {
			isDuplex = config.RequestBodyMode == filter.ProcessingMode_FULL_DUPLEX_STREAMED
		}
		answer := answerTo(request)
		if chunk := request.GetRequestBody(); chunk != nil && isDuplex {
			answer = repeat(chunk)
		}
		if err := stream.Send(answer); err != nil {
			return err
		}
	}
}

func answerTo(request *extproc.ProcessingRequest) *extproc.ProcessingResponse {
	answer := &extproc.ProcessingResponse{}
	switch request.Request.(type) {
	case *extproc.ProcessingRequest_RequestHeaders:
		answer.Response = &extproc.ProcessingResponse_RequestHeaders{RequestHeaders: stamp()}
	case *extproc.ProcessingRequest_ResponseHeaders:
		answer.Response = &extproc.ProcessingResponse_ResponseHeaders{ResponseHeaders: &extproc.HeadersResponse{}}
	case *extproc.ProcessingRequest_RequestBody:
		answer.Response = &extproc.ProcessingResponse_RequestBody{RequestBody: &extproc.BodyResponse{}}
	case *extproc.ProcessingRequest_ResponseBody:
		answer.Response = &extproc.ProcessingResponse_ResponseBody{ResponseBody: &extproc.BodyResponse{}}
	}
	return answer
}

// In FULL_DUPLEX_STREAMED a chunk goes on only if the response repeats it.
func repeat(chunk *extproc.HttpBody) *extproc.ProcessingResponse {
	return &extproc.ProcessingResponse{Response: &extproc.ProcessingResponse_RequestBody{
		RequestBody: &extproc.BodyResponse{Response: &extproc.CommonResponse{
			BodyMutation: &extproc.BodyMutation{Mutation: &extproc.BodyMutation_StreamedResponse{
				StreamedResponse: &extproc.StreamedBodyResponse{Body: chunk.Body, EndOfStream: chunk.EndOfStream},
			}},
		}},
	}}
}

func stamp() *extproc.HeadersResponse {
	return &extproc.HeadersResponse{Response: &extproc.CommonResponse{
		HeaderMutation: &extproc.HeaderMutation{SetHeaders: []*core.HeaderValueOption{{
			Header:       &core.HeaderValue{Key: "x-callout", RawValue: []byte("minimal-c")},
			AppendAction: core.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
		}}},
	}}
}

type authorization struct {
	auth.UnimplementedAuthorizationServer
}

func (authorization) Check(context.Context, *auth.CheckRequest) (*auth.CheckResponse, error) {
	return &auth.CheckResponse{HttpResponse: &auth.CheckResponse_OkResponse{
		OkResponse: &auth.OkHttpResponse{Headers: []*core.HeaderValueOption{{
			Header:       &core.HeaderValue{Key: "x-callout", Value: "minimal-c"},
			AppendAction: core.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
		}}},
	}}, nil
}

func listen(address string) (net.Listener, int) {
	network := "tcp"
	path, isUnix := strings.CutPrefix(address, "unix:")
	if isUnix {
		network, address = "unix", path
	} else {
		address = "127.0.0.1:" + address
	}
	listener, err := net.Listen(network, address)
	if err != nil {
		log.Fatal(err)
	}
	if isUnix {
		return listener, 0
	}
	return listener, listener.Addr().(*net.TCPAddr).Port
}

func main() {
	listener, port := listen(os.Args[1])
	options := []grpc.ServerOption{grpc.MaxRecvMsgSize(maxMessageBytes)}
	if len(os.Args) == 5 && os.Args[2] == "--tls" {
		tls, err := credentials.NewServerTLSFromFile(os.Args[3], os.Args[4])
		if err != nil {
			log.Fatal(err)
		}
		options = append(options, grpc.Creds(tls))
	}
	s := grpc.NewServer(options...)
	extproc.RegisterExternalProcessorServer(s, server{})
	auth.RegisterAuthorizationServer(s, authorization{})
	fmt.Printf("listening %d\n", port)
	log.Fatal(s.Serve(listener))
}
