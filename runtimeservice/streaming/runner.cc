#include "runtimeservice/streaming/runner.h"

#include <csignal>

#include "runtimeservice/streaming/attach_session.h"
#include "runtimeservice/streaming/exec_session.h"
#include "runtimeservice/streaming/forward_session.h"

namespace streaming {

Runner::Runner(asio::io_context& loop) : loop_(loop) { std::signal(SIGPIPE, SIG_IGN); }

Task<> Runner::RunExec(const stream::ExecSession& session, CommandClient& client) {
  ExecSession exec(loop_, session, client);
  co_await exec.Run();
}

Task<> Runner::RunAttach(const stream::AttachSession& session, CommandClient& client) {
  AttachSession attach(loop_, session, client);
  co_await attach.Run();
}

Task<> Runner::RunPortForward(const stream::PortForwardSession& session, ForwardClient& client) {
  ForwardSession forward(loop_, session, client);
  co_await forward.Run();
}

}  // namespace streaming
