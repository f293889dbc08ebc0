// What lies between the door (HTTP, TLS, tokens) and the sessions (exec, attach, port-forward).
#pragma once

#include <functional>
#include <string_view>

#include "absl/status/statusor.h"
#include "proto/stream.pb.h"
#include "runtimeservice/streaming/async.h"
#include "runtimeservice/streaming/command_client.h"
#include "runtimeservice/streaming/forward_client.h"

namespace streaming {

namespace stream = crisp::stream;

// The streams that an exec or an attach was asked with.
template <typename Session>
CommandStreams StreamsOf(const Session& session) {
  return {.stdin_wanted = session.stdin(),
          .stdout_wanted = session.stdout(),
          .stderr_wanted = session.stderr(),
          .tty = session.tty()};
}

// Who knows what a URL stands for.
class SessionSource {
 public:
  virtual ~SessionSource() = default;
  // The session of `kind` ("exec", "attach" or "portforward") and `token`, which is good once.
  // NOT_FOUND for a token that is unknown, used, expired or of another kind.
  virtual absl::StatusOr<stream::Session> Redeem(std::string_view kind, std::string_view token) = 0;
};

// Asked once a connection's request is right, before its token is redeemed: whether it may be a
// session. RESOURCE_EXHAUSTED, naming the limit, when there are too many.
using Admit = std::function<absl::Status()>;

// Who runs them. Each returns when its session is over and nothing of it is left but what is meant
// to go on (a command whose client has left).
class SessionRunner {
 public:
  virtual ~SessionRunner() = default;
  virtual Task<> RunExec(const stream::ExecSession& session, CommandClient& client) = 0;
  virtual Task<> RunAttach(const stream::AttachSession& session, CommandClient& client) = 0;
  virtual Task<> RunPortForward(const stream::PortForwardSession& session,
                                ForwardClient& client) = 0;
};

}  // namespace streaming
