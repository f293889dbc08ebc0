#include "daemon/dispatch.h"

#include <chrono>

#include "absl/time/clock.h"

namespace crispd {
namespace {

// HTTP/2 peers accept 8 KiB of headers and trailers; a byte may take three when percent-encoded.
constexpr size_t kMaxEncodedMessage = 6000;

// gRPC keeps a deadline by a clock that nobody sets and tells it by the one of the day: what is
// left of it now is the same by both.
base::SteadyTime DeadlineOf(const grpc::CallbackServerContext& context) {
  const std::chrono::system_clock::time_point deadline = context.deadline();
  return deadline == std::chrono::system_clock::time_point::max()
             ? base::SteadyTime::InfiniteFuture()
             : base::SteadyTime::Now() + (absl::FromChrono(deadline) - absl::Now());
}

// As much of `message` as the trailers hold, cut between characters.
std::string Shortened(std::string_view message) {
  size_t encoded = 0;
  size_t kept = 0;
  while (kept < message.size() && encoded < kMaxEncodedMessage) {
    const char c = message[kept++];
    encoded += c >= 0x20 && c < 0x7f && c != '%' ? 1 : 3;
  }
  if (kept == message.size()) return std::string(message);
  while (kept > 0 && (static_cast<unsigned char>(message[kept]) & 0xc0) == 0x80) {
    --kept;
  }
  return base::StrCat(message.substr(0, kept), "…");
}

// Whether such a failure is part of daily life: its caller asks on, falls back or left.
bool IsRoutine(absl::StatusCode code) {
  return code == absl::StatusCode::kNotFound || code == absl::StatusCode::kCancelled ||
         code == absl::StatusCode::kUnimplemented;
}

// Whether the verb only looks: a line for its end says all there is to say.
bool IsReadOnly(std::string_view method) {
  return method == "Version" || method == "RuntimeConfig" || method == "ImageFsInfo" ||
         method.starts_with("List") || method.ends_with("Status");
}

}  // namespace

grpc::Status ToGrpc(const absl::Status& status) {
  return status.ok() ? grpc::Status::OK
                     : grpc::Status(static_cast<grpc::StatusCode>(status.code()),
                                    Shortened(base::ToStd(status.message())));
}

absl::Status UnbuiltError(std::string_view method) {
  return absl::UnimplementedError(base::StrCat(method, " is not built yet"));
}

Call::Call(grpc::CallbackServerContext* context, const Verb& verb, std::string subject,
           InFlight* in_flight)
    : method_(verb.method),
      subject_(std::move(subject)),
      start_(base::SteadyTime::Now()),
      deadline_(DeadlineOf(*context)),
      in_flight_(in_flight),
      cancellation_(std::make_shared<base::Cancellation>()),
      request_(in_flight->Add(std::string(verb.method), subject_,
                              verb.lane == nullptr ? "" : verb.lane->name())) {
  if (!IsReadOnly(method_)) {
    base::LogDebug(method_, subject_.empty() ? "" : " ", subject_, " request=", request_);
  }
}

void Call::Complete(const absl::Status& status, std::string_view made) {
  const std::string taken = DurationText(base::SteadyTime::Now() - start_);
  if (status.ok() || IsRoutine(status.code())) {
    base::LogDebug(method_, subject_.empty() ? "" : " ", subject_, made.empty() ? "" : " ", made,
                   ": ", status.ToString(), " after ", taken, " request=", request_);
  } else {
    base::LogWarning(method_, subject_.empty() ? "" : " ", subject_, ": ",
                     absl::StatusCodeToString(status.code()), ": ",
                     Shortened(base::ToStd(status.message())), " after ", taken,
                     " request=", request_);
  }
  in_flight_->Remove(request_);
  Answer(ToGrpc(status));
}

grpc::ServerUnaryReactor* Dispatcher::Unbuilt(grpc::CallbackServerContext* context,
                                              std::string_view method) {
  auto* call = new UnaryCall(context, Verb{.method = method}, "", in_flight_);
  call->Complete(UnbuiltError(method));
  return call;
}

void Dispatcher::Post(const Verb& verb, Call* call, base::Lane::Task task) {
  base::Lane::Task guarded = [call, task = std::move(task)] {
    absl::Status wanted = call->context().Check();
    if (!wanted.ok()) {
      call->Complete(wanted);
      return;
    }
    call->SetStage(Stage::kRunning);
    task();
  };
  if (verb.lane == nullptr) {
    guarded();
    return;
  }
  absl::Status posted = verb.lane->Post(std::move(guarded));
  if (!posted.ok()) {
    call->Complete(posted);
  }
}

}  // namespace crispd
