package interop;

import envoy.service.ext_proc.v3.ExternalProcessorOuterClass.ProcessingRequest;
import envoy.service.ext_proc.v3.ExternalProcessorOuterClass.ProcessingResponse;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.grpc.protobuf.ProtoUtils;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/** A Process stream for one thread, which waits for each answer. */
final class Stream {
  static final String SERVICE = "envoy.service.ext_proc.v3.ExternalProcessor";
  static final long GIVE_UP_MS = 120_000;

  // Each is a ProcessingResponse, or the Status that ends the stream.
  private final BlockingQueue<Object> received = new LinkedBlockingQueue<>();
  private final ClientCall<ProcessingRequest, ProcessingResponse> call;

  /** Begins the stream; with a `compressor` its messages are compressed so. */
  Stream(Channel channel, long timeoutMs, Metadata metadata, String compressor) {
    CallOptions options =
        CallOptions.DEFAULT.withDeadlineAfter(timeoutMs, TimeUnit.MILLISECONDS);
    if (compressor != null) {
      options = options.withCompression(compressor);
    }
    call = channel.newCall(method("Process"), options);
    call.start(
        new ClientCall.Listener<>() {
          @Override
          public void onMessage(ProcessingResponse answer) {
            received.add(answer);
          }

          @Override
          public void onClose(Status status, Metadata trailers) {
            received.add(status);
          }
        },
        metadata);
    call.setMessageCompression(compressor != null);
    call.request(Integer.MAX_VALUE);
  }

  Stream(Channel channel) {
    this(channel, GIVE_UP_MS, new Metadata(), null);
  }

  static MethodDescriptor<ProcessingRequest, ProcessingResponse> method(String name) {
    return MethodDescriptor.<ProcessingRequest, ProcessingResponse>newBuilder()
        .setType(MethodDescriptor.MethodType.BIDI_STREAMING)
        .setFullMethodName(MethodDescriptor.generateFullMethodName(SERVICE, name))
        .setRequestMarshaller(ProtoUtils.marshaller(ProcessingRequest.getDefaultInstance()))
        .setResponseMarshaller(ProtoUtils.marshaller(ProcessingResponse.getDefaultInstance()))
        .build();
  }

  void send(ProcessingRequest request) {
    call.sendMessage(request);
  }

  ProcessingResponse receive() throws InterruptedException {
    Object next = received.take();
    if (next instanceof ProcessingResponse answer) {
      return answer;
    }
    throw new AssertionError("the stream ended before its answer: " + next);
  }

  ProcessingResponse exchange(ProcessingRequest request) throws InterruptedException {
    send(request);
    return receive();
  }

  void halfClose() {
    call.halfClose();
  }

  void cancel() {
    call.cancel("cancelled by a check", null);
  }

  /** Throws unless no message, but the status `code` with `text` comes next. */
  void expectEnd(Status.Code code, String text) throws InterruptedException {
    Object next = received.take();
    if (!(next instanceof Status status)) {
      cancel();
      throw new AssertionError("an answer too many: " + next);
    }
    if (status.getCode() != code || !String.valueOf(status.getDescription()).contains(text)) {
      throw new AssertionError("the status is not " + code + ": " + status);
    }
  }

  void expectEnd(Status.Code code) throws InterruptedException {
    expectEnd(code, "");
  }
}
