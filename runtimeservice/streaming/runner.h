// Runs what the door has let in: exec, attach and port-forward.
#pragma once

#include "runtimeservice/streaming/async.h"
#include "runtimeservice/streaming/sessions.h"

namespace streaming {

class Runner : public SessionRunner {
 public:
  // The process ignores SIGPIPE from now on: what is written to may have no reader any more.
  explicit Runner(asio::io_context& loop);

  Task<> RunExec(const stream::ExecSession& session, CommandClient& client) override;
  Task<> RunAttach(const stream::AttachSession& session, CommandClient& client) override;
  Task<> RunPortForward(const stream::PortForwardSession& session, ForwardClient& client) override;

 private:
  asio::io_context& loop_;
};

}  // namespace streaming
