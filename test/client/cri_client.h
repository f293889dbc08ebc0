// A client of the CRI for tests and tools: blocking calls with a deadline, errors as absl::Status.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "proto/api.grpc.pb.h"
#include "proto/cri.h"

namespace test {

using RuntimeStub = cri::RuntimeService::Stub;
using ImageStub = cri::ImageService::Stub;

// The gRPC status as an Abseil one: code and message are the same.
absl::Status FromGrpc(const grpc::Status& status);

// Thread-safe. Reconnects by itself, so it outlives restarts of the daemon.
class CriClient {
 public:
  // `socket` is the path of the daemon's unix socket; nothing is connected yet.
  explicit CriClient(const std::string& socket);

  // One unary call, such as Call(&RuntimeStub::Version, request). Waits for the connection within
  // the deadline, so a daemon that is about to serve is found.
  template <typename Request, typename Response>
  absl::StatusOr<Response> Call(grpc::Status (RuntimeStub::*verb)(grpc::ClientContext*,
                                                                  const Request&, Response*),
                                const Request& request,
                                absl::Duration timeout = absl::Seconds(60)) const {
    return CallOn(*runtime_, verb, request, timeout);
  }
  template <typename Request, typename Response>
  absl::StatusOr<Response> Call(grpc::Status (ImageStub::*verb)(grpc::ClientContext*,
                                                                const Request&, Response*),
                                const Request& request,
                                absl::Duration timeout = absl::Seconds(60)) const {
    return CallOn(*image_, verb, request, timeout);
  }

  RuntimeStub& runtime() const { return *runtime_; }
  ImageStub& image() const { return *image_; }

 private:
  template <typename Stub, typename Verb, typename Request, typename Response>
  static absl::StatusOr<Response> CallOn(Stub& stub,
                                         grpc::Status (Verb::*verb)(grpc::ClientContext*,
                                                                    const Request&, Response*),
                                         const Request& request, absl::Duration timeout) {
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
    Response response;
    const grpc::Status status = (stub.*verb)(&context, request, &response);
    if (!status.ok()) return FromGrpc(status);
    return response;
  }

  std::unique_ptr<RuntimeStub> runtime_;
  std::unique_ptr<ImageStub> image_;
};

}  // namespace test
