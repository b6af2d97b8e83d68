package bench;

// Our files name no Java package, so that of each is that of its messages.
import envoy.config.core.v3.Base.HeaderValue;
import envoy.config.core.v3.Base.HeaderValueOption;
import envoy.extensions.filters.http.ext_proc.v3.ProcessingModeOuterClass.ProcessingMode.BodySendMode;
import envoy.service.ext_proc.v3.ExternalProcessorOuterClass.BodyResponse;
import envoy.service.ext_proc.v3.ExternalProcessorOuterClass.CommonResponse;
import envoy.service.ext_proc.v3.ExternalProcessorOuterClass.HeaderMutation;
import envoy.service.ext_proc.v3.ExternalProcessorOuterClass.HeadersResponse;
import envoy.service.ext_proc.v3.ExternalProcessorOuterClass.HttpBody;
import envoy.service.ext_proc.v3.ExternalProcessorOuterClass.ProcessingRequest;
import envoy.service.ext_proc.v3.ExternalProcessorOuterClass.ProcessingResponse;
import envoy.service.ext_proc.v3.ExternalProcessorOuterClass.TrailersResponse;
import com.google.protobuf.ByteString;
import io.grpc.InsecureServerCredentials;
import io.grpc.MethodDescriptor;
import io.grpc.ServerCredentials;
import io.grpc.ServerServiceDefinition;
import io.grpc.TlsServerCredentials;
import io.grpc.netty.shaded.io.grpc.netty.NettyServerBuilder;
import io.grpc.protobuf.ProtoUtils;
import io.grpc.stub.ServerCalls;
import io.grpc.stub.StreamObserver;
import java.io.File;
import java.net.InetAddress;
import java.net.InetSocketAddress;

/**
 * The benchmark's server on grpc-java: `server PORT [--tls CERTIFICATE KEY]`. Answers as
 * plugins/minimal_c does, with the generated classes. Prints `listening PORT`.
 */
public final class Server {
  private static final int MAX_MESSAGE_BYTES = 64 << 20; // the default is 4 MiB
  private static final String SERVICE = "envoy.service.ext_proc.v3.ExternalProcessor";

  // As protoc's plugin for gRPC would write it: one program less to install.
  private static ServerServiceDefinition service() {
    MethodDescriptor<ProcessingRequest, ProcessingResponse> method =
        MethodDescriptor.<ProcessingRequest, ProcessingResponse>newBuilder()
            .setType(MethodDescriptor.MethodType.BIDI_STREAMING)
            .setFullMethodName(MethodDescriptor.generateFullMethodName(SERVICE, "Process"))
            .setRequestMarshaller(ProtoUtils.marshaller(ProcessingRequest.getDefaultInstance()))
            .setResponseMarshaller(ProtoUtils.marshaller(ProcessingResponse.getDefaultInstance()))
            .build();
    return ServerServiceDefinition.builder(SERVICE)
        .addMethod(method, ServerCalls.asyncBidiStreamingCall(Server::process))
        .build();
  }

  private static StreamObserver<ProcessingRequest> process(
      StreamObserver<ProcessingResponse> answers) {
    return new StreamObserver<>() {
      private boolean isDuplex;

      @Override
      public void onNext(ProcessingRequest request) {
        if (request.hasProtocolConfig()) {
          isDuplex =
              request.getProtocolConfig().getRequestBodyMode() == BodySendMode.FULL_DUPLEX_STREAMED;
        }
        answers.onNext(
            isDuplex && request.hasRequestBody()
                ? repeat(request.getRequestBody())
                : answerTo(request));
      }

      @Override
      public void onError(Throwable error) {}

      @Override
      public void onCompleted() {
        answers.onCompleted();
      }
    };
  }

  private static ProcessingResponse answerTo(ProcessingRequest request) {
    ProcessingResponse.Builder answer = ProcessingResponse.newBuilder();
    switch (request.getRequestCase()) {
      case REQUEST_HEADERS -> answer.setRequestHeaders(stamp());
      case RESPONSE_HEADERS -> answer.setResponseHeaders(HeadersResponse.getDefaultInstance());
      case REQUEST_BODY -> answer.setRequestBody(BodyResponse.getDefaultInstance());
      case RESPONSE_BODY -> answer.setResponseBody(BodyResponse.getDefaultInstance());
      case REQUEST_TRAILERS -> answer.setRequestTrailers(TrailersResponse.getDefaultInstance());
      case RESPONSE_TRAILERS -> answer.setResponseTrailers(TrailersResponse.getDefaultInstance());
      default -> {}
    }
    return answer.build();
  }

  // In FULL_DUPLEX_STREAMED a chunk goes on only if the response repeats it.
  private static ProcessingResponse repeat(HttpBody chunk) {
    ProcessingResponse.Builder answer = ProcessingResponse.newBuilder();
    answer
        .getRequestBodyBuilder()
        .getResponseBuilder()
        .getBodyMutationBuilder()
        .getStreamedResponseBuilder()
        .setBody(chunk.getBody())
        .setEndOfStream(chunk.getEndOfStream());
    return answer.build();
  }

  private static HeadersResponse stamp() {
    HeaderValue header =
        HeaderValue.newBuilder()
            .setKey("x-callout")
            .setRawValue(ByteString.copyFromUtf8("minimal-c"))
            .build();
    HeaderValueOption option =
        HeaderValueOption.newBuilder()
            .setHeader(header)
            .setAppendAction(HeaderValueOption.HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD)
            .build();
    HeaderMutation mutation = HeaderMutation.newBuilder().addSetHeaders(option).build();
    CommonResponse common = CommonResponse.newBuilder().setHeaderMutation(mutation).build();
    return HeadersResponse.newBuilder().setResponse(common).build();
  }

  public static void main(String[] arguments) throws Exception {
    ServerCredentials credentials =
        arguments.length == 4 && arguments[1].equals("--tls")
            ? TlsServerCredentials.create(new File(arguments[2]), new File(arguments[3]))
            : InsecureServerCredentials.create();
    InetSocketAddress address =
        new InetSocketAddress(InetAddress.getLoopbackAddress(), Integer.parseInt(arguments[0]));
    // Answers at once on the connection's own thread: nothing here waits.
    io.grpc.Server server =
        NettyServerBuilder.forAddress(address, credentials)
            .directExecutor()
            .maxInboundMessageSize(MAX_MESSAGE_BYTES)
            .addService(service())
            .build()
            .start();
    System.out.println("listening " + server.getPort());
    server.awaitTermination();
  }
}
