// From gRPC to a handler and back: RPC → lane → handler → gRPC status. The only way verbs are
// called.
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>
#include <grpcpp/support/status.h>

#include <atomic>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/context.h"
#include "base/lane.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/strings.h"
#include "daemon/in_flight.h"

namespace crispd {

// The same code; the message cut to what fits into HTTP/2 trailers (a longer one would reach the
// client as RESOURCE_EXHAUSTED without any text).
grpc::Status ToGrpc(const absl::Status& status);

// What a verb's table row says: its name and the lane it blocks on, null when it is answered from
// memory on gRPC's own thread.
struct Verb {
  std::string_view method;
  base::Lane* lane = nullptr;
};

// The object a request names, for logs: "container=ID", "pod=ID", "pod=NAMESPACE/NAME",
// "image=NAME". Never anything of AuthConfig.
template <typename Request>
std::string Subject(const Request& request) {
  if constexpr (requires { request.container_id(); }) {
    return base::StrCat("container=", request.container_id());
  } else if constexpr (requires { request.pod_sandbox_id(); }) {
    if constexpr (requires { request.config().metadata().attempt(); }) {
      return base::StrCat("pod=", request.pod_sandbox_id(),
                          " name=", request.config().metadata().name());
    } else {
      return base::StrCat("pod=", request.pod_sandbox_id());
    }
  } else if constexpr (requires { request.config().metadata().namespace_(); }) {
    return base::StrCat("pod=", request.config().metadata().namespace_(), "/",
                        request.config().metadata().name());
  } else if constexpr (requires { request.image().image(); }) {
    return base::StrCat("image=", request.image().image());
  } else if constexpr (requires { request.path(); }) {
    return base::StrCat("archive=", request.path());
  } else {
    return "";
  }
}

// The object an answer made, for logs: "made container=ID", "made pod=ID"; empty for most verbs.
template <typename Response>
std::string Made(const Response& response) {
  if constexpr (requires { response.container_id(); }) {
    return base::StrCat("made container=", response.container_id());
  } else if constexpr (requires { response.pod_sandbox_id(); }) {
    return base::StrCat("made pod=", response.pod_sandbox_id());
  } else {
    return "";
  }
}

// What all calls have in common, from arrival to answer: number, deadline, cancellation, log.
class Call {
 public:
  Call(grpc::CallbackServerContext* context, const Verb& verb, std::string subject,
       InFlight* in_flight);
  virtual ~Call() = default;
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  // The call's deadline and cancellation.
  base::Context context() const { return {deadline_, cancellation_}; }
  uint64_t request() const { return request_; }
  // While the result lives, the lines this thread logs name the request.
  [[nodiscard]] base::LogField NameLogLines() const {
    return base::LogField("request", base::StrCat(request_));
  }
  void SetStage(Stage stage) { in_flight_->SetStage(request_, stage); }

  // Answers, and logs the end: a failure once, here, since this is where it leaves the daemon. Call
  // it once; the call and the messages are gone when it returns. `made` joins the subject there.
  void Complete(const absl::Status& status, std::string_view made = "");

 protected:
  void CancelRequest() { cancellation_->Cancel(); }

 private:
  virtual void Answer(const grpc::Status& status) = 0;

  const std::string_view method_;
  const std::string subject_;
  const base::SteadyTime start_;
  const base::SteadyTime deadline_;
  InFlight* const in_flight_;
  const std::shared_ptr<base::Cancellation> cancellation_;
  const uint64_t request_;
};

// One unary call. Deletes itself when gRPC is done with it.
class UnaryCall final : public grpc::ServerUnaryReactor, public Call {
 public:
  using Call::Call;

 private:
  void Answer(const grpc::Status& status) override { Finish(status); }
  void OnCancel() override { CancelRequest(); }
  void OnDone() override { delete this; }
};

// The answer to come of an asynchronous verb. The first Set answers, later ones do nothing; one
// that is dropped unanswered answers INTERNAL, so that no caller waits for ever. Thread-safe.
template <typename Response>
class PendingAnswer {
 public:
  PendingAnswer(UnaryCall* call, Response* response) : call_(call), response_(response) {}
  PendingAnswer(const PendingAnswer&) = delete;
  PendingAnswer& operator=(const PendingAnswer&) = delete;
  ~PendingAnswer() { Set(absl::InternalError("the request was dropped")); }

  void Set(absl::StatusOr<Response> result) {
    if (answered_.exchange(true)) return;
    if (result.ok()) {
      *response_ = *std::move(result);
    }
    call_->Complete(result.status());
  }

 private:
  UnaryCall* const call_;
  Response* const response_;
  std::atomic<bool> answered_ = false;
};

// Whether an event may be replaced by the next one while it waits to be sent.
enum class Keep { kAlways, kUntilNext };

// One server-streaming call: a bounded row of events, sent as fast as the caller takes them.
// Deletes itself when gRPC is done with it.
template <typename Event>
class StreamCall final : public grpc::ServerWriteReactor<Event>, public Call {
 public:
  using Call::Call;

  // Sends `event` after those before it. Thread-safe; not after Complete. Dropped when the caller
  // has left.
  void Emit(const Event& event, Keep keep) {
    {
      const base::MutexLock lock(&mutex_);
      if (is_lost_) return;
      if (!waiting_.empty() && waiting_.back().second == Keep::kUntilNext) waiting_.pop_back();
      waiting_.emplace_back(event, keep);
    }
    Proceed();
  }

 private:
  // The end is sent when the events are.
  void Answer(const grpc::Status& status) override {
    {
      const base::MutexLock lock(&mutex_);
      end_ = status;
    }
    Proceed();
  }

  // Starts the next write, or the end, unless a write is under way.
  void Proceed() {
    std::optional<grpc::Status> end;
    {
      const base::MutexLock lock(&mutex_);
      if (is_writing_) return;
      if (!waiting_.empty()) {
        current_ = std::move(waiting_.front().first);
        waiting_.pop_front();
        is_writing_ = true;
      } else if (end_.has_value()) {
        end = std::exchange(end_, std::nullopt);
        is_writing_ = true;  // Nothing follows.
      } else {
        return;
      }
    }
    if (end.has_value()) {
      this->Finish(*end);
    } else {
      this->StartWrite(&current_);
    }
  }

  void OnWriteDone(bool ok) override {
    {
      const base::MutexLock lock(&mutex_);
      is_writing_ = false;
      if (!ok) {
        is_lost_ = true;
        waiting_.clear();
      }
    }
    Proceed();
  }
  void OnCancel() override { CancelRequest(); }
  void OnDone() override { delete this; }

  base::Mutex mutex_;
  std::deque<std::pair<Event, Keep>> waiting_ ABSL_GUARDED_BY(mutex_);
  std::optional<grpc::Status> end_ ABSL_GUARDED_BY(mutex_);
  bool is_writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool is_lost_ ABSL_GUARDED_BY(mutex_) = false;
  Event current_;  // Being written.
};

// Thread-safe. Lives longer than the server and shorter than the lanes.
class Dispatcher {
 public:
  explicit Dispatcher(InFlight* in_flight) : in_flight_(in_flight) {}

  const InFlight& in_flight() const { return *in_flight_; }

  // Runs `handler(context, request)`, which returns an absl::StatusOr<Response>, on the verb's
  // lane. A full lane answers RESOURCE_EXHAUSTED; a request whose caller went while it was queued
  // is not run.
  template <typename Request, typename Response, typename Handler>
  grpc::ServerUnaryReactor* Run(grpc::CallbackServerContext* context, const Verb& verb,
                                const Request* request, Response* response, Handler handler) {
    auto* call = new UnaryCall(context, verb, Subject(*request), in_flight_);
    Post(verb, call, [call, request, response, handler = std::move(handler)] {
      absl::StatusOr<Response> result = [&] {
        const base::LogField field = call->NameLogLines();
        return handler(call->context(), *request);
      }();
      std::string made;
      if (result.ok()) {
        *response = *std::move(result);
        made = Made(*response);
      }
      call->Complete(result.status(), made);
    });
    return call;
  }

  // Runs `handler(context, request, done)` on the verb's lane; the answer comes when `done` is
  // called with an absl::StatusOr<Response>, from any thread, during the handler or later.
  template <typename Request, typename Response, typename Handler>
  grpc::ServerUnaryReactor* RunAsync(grpc::CallbackServerContext* context, const Verb& verb,
                                     const Request* request, Response* response, Handler handler) {
    auto* call = new UnaryCall(context, verb, Subject(*request), in_flight_);
    Post(verb, call, [this, call, request, response, handler = std::move(handler)] {
      // Once answered, the call and its messages are gone: what the rest needs is taken before.
      const uint64_t number = call->request();
      const base::Context call_context = call->context();
      const Request kept = *request;
      auto answer = std::make_shared<PendingAnswer<Response>>(call, response);
      handler(call_context, kept,
              [answer](absl::StatusOr<Response> result) { answer->Set(std::move(result)); });
      answer.reset();
      in_flight_->SetStage(number, Stage::kWaiting);
    });
    return call;
  }

  // Runs `handler(context, request, emit)`, which returns an absl::Status, on the verb's lane.
  // `emit` sends an event, of which one that `is_passing` may be left out when others wait.
  template <typename Event, typename Request, typename Handler>
  grpc::ServerWriteReactor<Event>* RunStream(grpc::CallbackServerContext* context, const Verb& verb,
                                             const Request* request, Handler handler,
                                             bool (*is_passing)(const Event&)) {
    auto* call = new StreamCall<Event>(context, verb, Subject(*request), in_flight_);
    Post(verb, call, [call, request, handler = std::move(handler), is_passing] {
      const absl::Status status = [&] {
        const base::LogField field = call->NameLogLines();
        return handler(call->context(), *request, [&](const Event& event) {
          call->Emit(event, is_passing(event) ? Keep::kUntilNext : Keep::kAlways);
        });
      }();
      call->Complete(status);
    });
    return call;
  }

  // Answers UNIMPLEMENTED with the method's name.
  grpc::ServerUnaryReactor* Unbuilt(grpc::CallbackServerContext* context, std::string_view method);

 private:
  // Runs `task` on the lane or at once; completes the call itself
  // when the lane refuses or the caller went.
  void Post(const Verb& verb, Call* call, base::Lane::Task task);

  InFlight* const in_flight_;
};

// The UNIMPLEMENTED error for `method`.
absl::Status UnbuiltError(std::string_view method);

// Ends a server stream at once with UNIMPLEMENTED.
template <typename Response>
class UnbuiltStream final : public grpc::ServerWriteReactor<Response> {
 public:
  explicit UnbuiltStream(std::string_view method) { this->Finish(ToGrpc(UnbuiltError(method))); }
  void OnDone() override { delete this; }
};

}  // namespace crispd
