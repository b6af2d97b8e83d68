package interop;

// Our files name no Java package, so that of each is that of its messages.
import com.google.protobuf.ByteString;
import envoy.config.core.v3.Base.HeaderMap;
import envoy.config.core.v3.Base.HeaderValue;
import envoy.service.ext_proc.v3.ExternalProcessorOuterClass.BodyResponse;
import envoy.service.ext_proc.v3.ExternalProcessorOuterClass.HttpBody;
import envoy.service.ext_proc.v3.ExternalProcessorOuterClass.HttpHeaders;
import envoy.service.ext_proc.v3.ExternalProcessorOuterClass.ProcessingRequest;
import envoy.service.ext_proc.v3.ExternalProcessorOuterClass.ProcessingResponse;
import io.grpc.CallOptions;
import io.grpc.ChannelCredentials;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.TlsChannelCredentials;
import io.grpc.health.v1.HealthCheckRequest;
import io.grpc.health.v1.HealthCheckResponse;
import io.grpc.health.v1.HealthGrpc;
import io.grpc.internal.GrpcUtil;
import io.grpc.stub.ClientCalls;
import java.io.File;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;

/** The checks of README.md with grpc-java: `client ADDRESS [CA_FILE]`. */
public final class Client {
  private interface Check {
    void run() throws Exception;
  }

  private static final ByteString BODY = largeBody();

  private final ManagedChannel channel;

  private Client(ManagedChannel channel) {
    this.channel = channel;
  }

  private Map<String, Check> checks() {
    Map<String, Check> checks = new LinkedHashMap<>();
    checks.put("process", this::process);
    checks.put("large-bodies", this::largeBodies);
    checks.put("streams-at-once", this::streamsAtOnce);
    checks.put("cancel", this::cancel);
    checks.put("deadline", this::deadline);
    checks.put("unknown-method", this::unknownMethod);
    checks.put("health-check", this::healthCheck);
    checks.put("health-watch", this::healthWatch);
    checks.put("metadata", this::metadata);
    checks.put("compression", this::compression);
    checks.put("message-too-large", this::messageTooLarge);
    return checks;
  }

  private static ByteString largeBody() {
    byte[] body = new byte[200_000];
    for (int i = 0; i < body.length; ++i) {
      body[i] = (byte) (i % 251);
    }
    return ByteString.copyFrom(body);
  }

  private static HttpHeaders somePath() {
    HeaderValue path =
        HeaderValue.newBuilder()
            .setKey(":path")
            .setRawValue(ByteString.copyFromUtf8("/"))
            .build();
    return HttpHeaders.newBuilder().setHeaders(HeaderMap.newBuilder().addHeaders(path)).build();
  }

  private static ProcessingRequest requestHeaders() {
    return ProcessingRequest.newBuilder().setRequestHeaders(somePath()).build();
  }

  private static ProcessingRequest responseHeaders() {
    return ProcessingRequest.newBuilder().setResponseHeaders(somePath()).build();
  }

  private static HttpBody whole(ByteString body) {
    return HttpBody.newBuilder().setBody(body).setEndOfStream(true).build();
  }

  private static ProcessingRequest requestBody(ByteString body) {
    return ProcessingRequest.newBuilder().setRequestBody(whole(body)).build();
  }

  private static ProcessingRequest responseBody(ByteString body) {
    return ProcessingRequest.newBuilder().setResponseBody(whole(body)).build();
  }

  private static void expectHeader(ProcessingResponse answer, String key, String value) {
    boolean found =
        answer.getRequestHeaders().getResponse().getHeaderMutation().getSetHeadersList().stream()
            .map(option -> option.getHeader())
            .anyMatch(
                header ->
                    header.getKey().equals(key)
                        && header.getRawValue().toStringUtf8().equals(value));
    if (!found) {
      throw new AssertionError("no " + key + ": " + value + " in: " + answer);
    }
  }

  private static void expectBody(BodyResponse answer) {
    ByteString found = answer.getResponse().getBodyMutation().getBody();
    if (!found.equals(BODY.concat(ByteString.copyFromUtf8("-seen")))) {
      throw new AssertionError("a body of " + found.size() + " bytes that is not the one sent");
    }
  }

  // --- The checks -----------------------------------------------------------

  private void process() throws Exception {
    Stream stream = new Stream(channel);
    expectHeader(stream.exchange(requestHeaders()), "x-text", "none");
    stream.halfClose();
    stream.expectEnd(Status.Code.OK);
  }

  private void largeBodies() throws Exception {
    Stream stream = new Stream(channel);
    stream.exchange(requestHeaders());
    expectBody(stream.exchange(requestBody(BODY)).getRequestBody());
    stream.exchange(responseHeaders());
    expectBody(stream.exchange(responseBody(BODY)).getResponseBody());
    stream.halfClose();
    stream.expectEnd(Status.Code.OK);
  }

  private void streamsAtOnce() throws Exception {
    List<Stream> streams = new ArrayList<>();
    for (int i = 0; i < 100; ++i) {
      Stream stream = new Stream(channel);
      stream.send(requestHeaders());
      streams.add(stream);
    }
    for (Stream stream : streams) {
      expectHeader(stream.receive(), "x-text", "none");
    }
    for (Stream stream : streams) {
      stream.halfClose();
      stream.expectEnd(Status.Code.OK);
    }
  }

  private void cancel() throws Exception {
    Stream stream = new Stream(channel);
    stream.exchange(requestHeaders());
    stream.cancel();
    stream.expectEnd(Status.Code.CANCELLED);
    process();
  }

  private void deadline() throws Exception {
    Stream stream = new Stream(channel, 300, new Metadata(), null);
    stream.expectEnd(Status.Code.DEADLINE_EXCEEDED);
    process();
  }

  private void unknownMethod() {
    CallOptions options = CallOptions.DEFAULT.withDeadlineAfter(Stream.GIVE_UP_MS, TimeUnit.MILLISECONDS);
    try {
      ClientCalls.blockingUnaryCall(
          channel,
          Stream.method("Unknown").toBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .build(),
          options,
          requestHeaders());
    } catch (StatusRuntimeException error) {
      if (error.getStatus().getCode() == Status.Code.UNIMPLEMENTED) {
        return;
      }
      throw error;
    }
    throw new AssertionError("it was answered");
  }

  private static void expectServing(HealthCheckResponse answer) {
    if (answer.getStatus() != HealthCheckResponse.ServingStatus.SERVING) {
      throw new AssertionError("the health is " + answer.getStatus());
    }
  }

  private HealthGrpc.HealthBlockingStub health() {
    return HealthGrpc.newBlockingStub(channel)
        .withDeadlineAfter(Stream.GIVE_UP_MS, TimeUnit.MILLISECONDS);
  }

  private void healthCheck() {
    expectServing(health().check(HealthCheckRequest.getDefaultInstance()));
  }

  private void healthWatch() {
    io.grpc.Context.CancellableContext context = io.grpc.Context.current().withCancellation();
    context.run(
        () -> {
          HealthCheckRequest request =
              HealthCheckRequest.newBuilder().setService(Stream.SERVICE).build();
          Iterator<HealthCheckResponse> answers = health().watch(request);
          expectServing(answers.next());
        });
    context.cancel(null);
  }

  private void metadata() throws Exception {
    Metadata metadata = new Metadata();
    metadata.put(Metadata.Key.of("x-interop", Metadata.ASCII_STRING_MARSHALLER), "hello");
    metadata.put(
        Metadata.Key.of("x-interop-bin", Metadata.BINARY_BYTE_MARSHALLER),
        new byte[] {0, (byte) 0xff, 0x10, (byte) 0x80});
    Stream stream = new Stream(channel, Stream.GIVE_UP_MS, metadata, null);
    ProcessingResponse answer = stream.exchange(requestHeaders());
    expectHeader(answer, "x-text", "hello");
    expectHeader(answer, "x-bytes", "00ff1080");
    stream.halfClose();
    stream.expectEnd(Status.Code.OK);
  }

  private void compression() throws Exception {
    Stream stream = new Stream(channel, Stream.GIVE_UP_MS, new Metadata(), "gzip");
    stream.send(requestBody(BODY));
    stream.expectEnd(Status.Code.UNIMPLEMENTED, "gzip");
    process();
  }

  private void messageTooLarge() throws Exception {
    Stream stream = new Stream(channel);
    stream.send(requestBody(ByteString.copyFrom(new byte[1_000_001])));
    stream.expectEnd(Status.Code.RESOURCE_EXHAUSTED);
    process();
  }

  // --- The program ----------------------------------------------------------

  private static boolean passes(String name, Check check) {
    try {
      check.run();
    } catch (Exception | AssertionError error) {
      String found = String.valueOf(error).replaceAll("\\s+", " ");
      System.out.printf("FAILED %s: %.300s%n", name, found);
      return false;
    }
    System.out.println("ok " + name);
    return true;
  }

  public static void main(String[] arguments) throws Exception {
    System.out.println("client grpc-java " + GrpcUtil.IMPLEMENTATION_VERSION);
    ChannelCredentials credentials =
        arguments.length == 1
            ? InsecureChannelCredentials.create()
            : TlsChannelCredentials.newBuilder().trustManager(new File(arguments[1])).build();
    ManagedChannel channel = Grpc.newChannelBuilder(arguments[0], credentials).build();
    boolean good = true;
    for (Map.Entry<String, Check> check : new Client(channel).checks().entrySet()) {
      good &= passes(check.getKey(), check.getValue());
    }
    channel.shutdownNow();
    System.exit(good ? 0 : 1);
  }
}
